/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - the rules of JavaScript for text that the teams contract refers to (teams.md 1). Texts are UTF-8 (WTF-8). */
#pragma once
#include "base/mem.h"

/* The code point at p (p < end); its length in bytes in *ret_n. A byte that is no UTF-8 counts as U+FFFD of one byte. */
uint32_t    js_char(const char *p, const char *end, unsigned *ret_n);
bool        js_is_space(uint32_t cp);        /* what trim removes and \s matches */
bool        js_is_line_end(uint32_t cp);     /* LF, CR, U+2028, U+2029: what . does not match, and where lines end */
struct span js_trim(struct span text);       /* a part of `text` */
bool        js_blank(struct span text);      /* nothing is left when trimmed */
/* String.prototype.toLowerCase: the Unicode default, with U+0130 and the final sigma; in `arena` when something changes. */
struct span js_lower(struct span text, struct arena *arena);
uint32_t    js_lower_char(uint32_t cp);      /* the simple mapping; itself when there is none */
/* Calls `each` with every UTF-16 code unit. */
void        js_units(struct span text, void (*each)(void *user, uint32_t unit), void *user);
