/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c - allocation that cannot fail, arenas, growing buffers, and the reader of stored bytes. */
#include "base/mem.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- plain memory ---- */

static void *checked(void *p, size_t size)
{
    if (!p && size) {
        fprintf(stderr, "perdure: out of memory (%zu bytes); stopping, the ledger is intact\n", size);
        abort();
    }
    return p;
}

void *mem_alloc(size_t size)
{
    return checked(calloc(1, size ? size : 1), 1);
}

void *mem_grow(void *p, size_t size)
{
    return checked(realloc(p, size), size);
}

char *mem_dup(const void *p, size_t n)
{
    char *copy = mem_grow(NULL, n + 1);
    if (n)
        memcpy(copy, p, n);
    copy[n] = '\0';
    return copy;
}

PRINTF(1, 0) static size_t printed_length(const char *format, va_list args)
{
    char none[1];
    int  n = vsnprintf(none, sizeof none, format, args);
    assert(n >= 0);
    return (size_t)n;
}

/* ---- arena ---- */

enum { BLOCK_FIRST = 2048, BLOCK_MOST = 64 * 1024, BLOCK_KEEP = 256 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t              size; /* of bytes */
    _Alignas(16) char   bytes[];
};

static struct arena_block *block_new(struct arena *arena, size_t size)
{
    assert(size < SIZE_MAX - sizeof(struct arena_block));
    struct arena_block *block = mem_grow(NULL, sizeof *block + size);
    block->size = size;
    arena->total += size;
    return block;
}

/* Blocks double from BLOCK_FIRST, so that a small request stays small and a large one needs few. */
static size_t next_block_size(const struct arena *arena)
{
    if (arena->size < BLOCK_FIRST)
        return BLOCK_FIRST;
    return arena->size * 2 < BLOCK_MOST ? arena->size * 2 : BLOCK_MOST;
}

/* A new block that holds at least `size` bytes, all of them taken. */
static void *take_from_new_block(struct arena *arena, size_t size)
{
    size_t standard = next_block_size(arena);
    if (arena->head && size > standard / 4 && arena->size - arena->used > arena->size / 4) {
        /* Large, and the head still has room for small things: the new block goes behind it. */
        struct arena_block *block = block_new(arena, size);
        block->next = arena->head->next;
        arena->head->next = block;
        return block->bytes;
    }
    struct arena_block *block = block_new(arena, size > standard ? size : standard);
    block->next = arena->head;
    arena->head = block;
    arena->size = block->size;
    arena->used = size;
    return block->bytes;
}

/* Not zeroed. */
static void *arena_take(struct arena *arena, size_t size)
{
    assert(size <= SIZE_MAX - 15);
    size = (size + 15) & ~(size_t)15;
    if (size > arena->size - arena->used || !arena->head)
        return take_from_new_block(arena, size);
    void *p = arena->head->bytes + arena->used;
    arena->used += size;
    return p;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    return memset(arena_take(arena, size), 0, size);
}

struct span arena_copy(struct arena *arena, struct span s)
{
    char *copy = arena_take(arena, s.n + 1);
    if (s.n)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return span_make(copy, s.n);
}

struct span arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t n = printed_length(format, args);
    va_end(args);
    char *text = arena_take(arena, n + 1);
    vsnprintf(text, n + 1, format, again);
    va_end(again);
    return span_make(text, n);
}

void arena_done(struct arena *arena)
{
    for (struct arena_block *block = arena->head, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *arena = (struct arena){ 0 };
}

void arena_adopt(struct arena *arena, struct arena *from)
{
    if (!arena->head) {
        *arena = *from;
    } else if (from->head) {
        struct arena_block *last = from->head;
        while (last->next)
            last = last->next;
        last->next = arena->head->next; /* the head goes on being filled */
        arena->head->next = from->head;
        arena->total += from->total;
    }
    *from = (struct arena){ 0 };
}

void arena_reset(struct arena *arena)
{
    struct arena_block *keep = NULL;
    for (struct arena_block *block = arena->head, *next; block; block = next) {
        next = block->next;
        /* One large request must not make the arena large for ever. */
        if (!keep && block->size <= BLOCK_KEEP)
            keep = block;
        else
            free(block);
    }
    *arena = (struct arena){ 0 };
    if (keep) {
        keep->next = NULL;
        *arena = (struct arena){ .head = keep, .size = keep->size, .total = keep->size };
    }
}

/* ---- buf ---- */

void buf_done(struct buf *buf)
{
    if (!buf)
        return;
    free(buf->p);
    *buf = (struct buf){ 0 };
}

void buf_reserve(struct buf *buf, size_t more)
{
    if (more <= buf->cap - buf->len)
        return;
    assert(more <= SIZE_MAX / 2 - buf->len);
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < buf->len + more)
        cap *= 2;
    buf->p = mem_grow(buf->p, cap);
    buf->cap = cap;
}

void buf_put(struct buf *buf, const void *p, size_t n)
{
    if (n == 0)
        return;
    buf_reserve(buf, n);
    memcpy(buf->p + buf->len, p, n);
    buf->len += n;
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t n = printed_length(format, args);
    va_end(args);
    buf_reserve(buf, n + 1); /* vsnprintf wants to write its NUL too */
    vsnprintf(buf->p + buf->len, n + 1, format, again);
    va_end(again);
    buf->len += n;
}

void buf_varint(struct buf *buf, uint64_t v)
{
    char   bytes[10];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (char)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (char)v;
    buf_put(buf, bytes, n);
}

void buf_u64(struct buf *buf, uint64_t v)
{
    char  text[20];
    char *p = text + sizeof text;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    buf_put(buf, p, (size_t)(text + sizeof text - p));
}

void buf_hex(struct buf *buf, const void *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t    *bytes = p;
    buf_reserve(buf, 2 * n);
    for (size_t i = 0; i < n; i++) {
        buf->p[buf->len++] = digits[bytes[i] >> 4];
        buf->p[buf->len++] = digits[bytes[i] & 15];
    }
}

/* ---- reader ---- */

static uint64_t bytes_fail(struct reader_bytes *r)
{
    r->bad = true;
    r->p = r->end;
    return 0;
}

uint8_t bytes_u8(struct reader_bytes *r)
{
    if (r->p == r->end)
        return (uint8_t)bytes_fail(r);
    return (uint8_t)*r->p++;
}

uint64_t bytes_varint(struct reader_bytes *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (r->p == r->end)
            break;
        uint8_t byte = (uint8_t)*r->p++;
        /* One number has one form: no bits beyond the 64th, no superfluous zero byte at the end. */
        if ((shift == 63 && byte > 1) || (shift > 0 && byte == 0))
            break;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    return bytes_fail(r);
}

struct span bytes_take(struct reader_bytes *r, size_t n)
{
    if (n > (size_t)(r->end - r->p)) {
        bytes_fail(r);
        return SPAN_NONE;
    }
    struct span s = span_make(r->p, n);
    r->p += n;
    return s;
}
