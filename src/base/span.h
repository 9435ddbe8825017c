/* SPDX-License-Identifier: Apache-2.0 */
/* span.h - a view of bytes that somebody else owns.
 *
 * A span never owns and is never NUL-terminated. Whoever hands one out says until when it is valid. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *p; /* may be NULL when n is 0 */
    size_t      n;
};

#define SPAN(literal) ((struct span){ ("" literal), sizeof(literal) - 1 })
#define SPAN_NONE     ((struct span){ NULL, 0 })
/* For printf: printf("%.*s", SPAN_ARG(s)). */
#define SPAN_ARG(s) (int)(s).n, (s).n ? (s).p : ""

static inline struct span span_of(const char *text)
{
    return (struct span){ text, text ? strlen(text) : 0 };
}

static inline struct span span_make(const void *p, size_t n)
{
    return (struct span){ p, n };
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool span_is(struct span a, const char *text)
{
    return span_eq(a, span_of(text));
}

/* Byte order, shorter first when one is a prefix of the other. */
static inline int span_cmp(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int    c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}
