/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h - strict UTF-8, one character at a time, and WTF-8 for the lone surrogates that JSON can carry (model.md 9).
 *
 * Used by everything that reads or writes text; callers skip plain ASCII themselves and come here for the rest. */
#pragma once
#include "base/span.h"
#include <stdint.h>

static inline bool utf8_is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* The length (1..4) of the well-formed character at p, its code point in *ret_cp; 0 when there is none (overlong, cut
 * off, beyond U+10FFFF). Surrogates (ED A0..BF xx) are well-formed only when `surrogates` says so. */
static inline unsigned utf8_decode(const char *p, const char *end, bool surrogates, uint32_t *ret_cp)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t               n = (size_t)(end - p);
    if (n == 0)
        return 0;
    if (s[0] < 0x80) {
        *ret_cp = s[0];
        return 1;
    }
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < 2 || (s[1] & 0xc0) != 0x80)
        return 0;
    if (s[0] < 0xe0) {
        *ret_cp = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
        return 2;
    }
    if (n < 3 || (s[2] & 0xc0) != 0x80)
        return 0;
    uint32_t cp = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    if (s[0] < 0xf0) {
        if (cp < 0x800 || (!surrogates && cp >= 0xd800 && cp <= 0xdfff))
            return 0;
        *ret_cp = cp;
        return 3;
    }
    if (n < 4 || (s[3] & 0xc0) != 0x80)
        return 0;
    cp = (s[0] & 0x07u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
    if (cp < 0x10000 || cp > 0x10ffff)
        return 0;
    *ret_cp = cp;
    return 4;
}

/* Writes cp (at most U+10FFFF; a surrogate gets its 3-byte form) and returns the number of bytes, 1..4. */
static inline unsigned utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

/* The longest length <= n at which `text` can be cut without splitting its last character. Only the end is looked at.
 * */
static inline size_t utf8_cut(const char *text, size_t n)
{
    size_t start = n;
    while (start > 0 && n - start < 3 && utf8_is_tail(text[start - 1]))
        start--;
    if (start == 0)
        return n;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t        want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    return want > n - start + 1 ? start - 1 : n;
}
