/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - memory: an arena for what lives as long as a turn, a request or a run, and a growing byte buffer.
 *
 * Out of memory is not recovered from inside the engine: a ledger that half-applied a turn is worse than a restart, which
 * loses nothing. `mem_alloc` therefore aborts with a clear line. Everything that outside bytes can make large is bounded
 * before it is allocated. */
#pragma once
#include "base/span.h"
#include "base/util.h"
#include <stdarg.h>

/* Never NULL, zeroed. Free with free(). */
void *mem_alloc(size_t size);
/* Like realloc, never NULL for size > 0; new bytes are not zeroed. */
void *mem_grow(void *p, size_t size);
char *mem_dup(const void *p, size_t n); /* n bytes and a NUL; free with free() */

/* ---- arena: allocate many, free once ---- */
struct arena_block;
struct arena {
    struct arena_block *head;
    size_t              used, size; /* of the head block */
    size_t              total;      /* bytes held by all blocks */
};

/* A zeroed struct arena is a valid empty one. */
void  arena_done(struct arena *arena);  /* frees all; leaves an empty arena */
void  arena_reset(struct arena *arena); /* like done, but keeps one block for reuse */
/* All that `from` holds lives as long as `arena` now; `from` is empty. */
void  arena_adopt(struct arena *arena, struct arena *from);
void *arena_alloc(struct arena *arena, size_t size); /* zeroed, 16-byte aligned, never NULL */
struct span arena_copy(struct arena *arena, struct span s); /* with a NUL behind it, not counted */
struct span arena_printf(struct arena *arena, const char *format, ...) PRINTF(2, 3);
#define ARENA_NEW(arena, type)      ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, n) ((type *)arena_alloc((arena), sizeof(type) * (n)))

/* ---- buf: bytes that grow ---- */
struct buf {
    char  *p;
    size_t len, cap;
};

/* A zeroed struct buf is a valid empty one. */
void buf_done(struct buf *buf);                       /* accepts NULL and empty */
void buf_reserve(struct buf *buf, size_t more);       /* room for `more` bytes behind len */
void buf_put(struct buf *buf, const void *p, size_t n);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF(2, 3);
static inline void buf_span(struct buf *buf, struct span s) { buf_put(buf, s.p, s.n); }
static inline void buf_byte(struct buf *buf, char c)
{
    if (buf->len == buf->cap)
        buf_reserve(buf, 1);
    buf->p[buf->len++] = c;
}
#define BUF_LIT(buf, literal) buf_put((buf), (literal), sizeof(literal) - 1)
static inline struct span buf_view(const struct buf *buf) { return span_make(buf->p, buf->len); }
void buf_varint(struct buf *buf, uint64_t v);         /* LEB128, 1..10 bytes */
void buf_u64(struct buf *buf, uint64_t v);            /* decimal */
void buf_hex(struct buf *buf, const void *p, size_t n); /* lower case */

/* ---- reader: bytes that shrink; a short or overlong input sets `bad` and yields zeros from then on ---- */
struct reader_bytes {
    const char *p, *end;
    bool        bad;
};
static inline struct reader_bytes bytes_of(struct span s) { return (struct reader_bytes){ s.p, s.p + s.n, false }; }
uint64_t    bytes_varint(struct reader_bytes *r);
uint8_t     bytes_u8(struct reader_bytes *r);
struct span bytes_take(struct reader_bytes *r, size_t n);
