/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_http.c - any bytes against the request parser, cut into reads in two different ways.
 *
 * The first byte of the input says how long the reads are. What came out must not depend on it: the same bytes read at once
 * must give the same requests and the same end. That is checked, besides memory. Built with FUZZ_MAIN it runs on
 * the files named as arguments, or on standard input. */
#include "net/http_parse.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that the parser said, as bytes. */
struct told {
    struct buf buf;
};

static void tell(struct told *told, const char *what, struct span s)
{
    buf_printf(&told->buf, "%s %zu:", what, s.n);
    buf_span(&told->buf, s);
}

static void tell_request(struct told *told, const struct exchange *x)
{
    const struct http_request *req = &x->req;
    tell(told, "\nmethod", req->method_text);
    tell(told, " path", req->path);
    tell(told, " query", req->query);
    for (size_t i = 0; i < req->header_count; i++) {
        tell(told, "\nname", req->headers[i].name);
        tell(told, " value", req->headers[i].value);
    }
    buf_printf(&told->buf, "\nkeep %d has %d", req->keep_alive, req->has_body);
    tell(told, " body", req->body);
}

/* Reads on until the parser answers something else than "more", or the bytes end. */
static enum parsed feed(struct exchange *x, enum parsed (*parse)(struct exchange *x), struct span *in, size_t step)
{
    enum parsed parsed;
    while ((parsed = parse(x)) == PARSED_MORE && in->n > 0) {
        struct span_mut room = exchange_room(x);
        assert(room.n > 0);
        size_t n = step < in->n ? step : in->n;
        n = n < room.n ? n : room.n;
        memcpy(room.p, in->p, n);
        exchange_took(x, n);
        *in = span_make(in->p + n, in->n - n);
    }
    return parsed;
}

static enum parsed one_request(struct exchange *x, struct span *in, size_t step, bool discard)
{
    enum parsed parsed = feed(x, exchange_head, in, step);
    if (parsed != PARSED_DONE)
        return parsed;
    parsed = exchange_body_begin(x, 20000);
    if (parsed == PARSED_DONE && discard)
        exchange_discard(x, 20000);
    return parsed == PARSED_DONE ? feed(x, exchange_body, in, step) : parsed;
}

static void run(struct span in, size_t step, bool discard, struct told *told)
{
    static const struct parse_limits limits = { .max_head_bytes = 12000, .max_headers = 30 };
    size_t           held = 0;
    struct exchange *x = exchange_new(&limits, &held);
    enum parsed      parsed;

    while ((parsed = one_request(x, &in, step, discard)) == PARSED_DONE) {
        if (!discard)
            tell_request(told, x);
        else
            buf_printf(&told->buf, "\nthrown away %llu", (unsigned long long)x->body_len);
        exchange_next(x);
    }
    buf_printf(&told->buf, "\nend %d", (int)parsed);
    exchange_reset(x);
    assert(held == 0);
    exchange_free(x);
    assert(held == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span in = span_make(data + 1, size - 1);
    bool        discard = data[0] & 0x80;
    size_t      step = (data[0] & 0x7f) + 1u;
    struct told cut = { 0 }, whole = { 0 };

    run(in, step, discard, &cut);
    run(in, SIZE_MAX, discard, &whole);
    assert(span_eq(buf_view(&cut.buf), buf_view(&whole.buf)));
    buf_done(&cut.buf);
    buf_done(&whole.buf);
    return 0;
}

#ifdef FUZZ_MAIN
static int run_file(FILE *file)
{
    enum { MOST = 1 << 20 };
    uint8_t *bytes = malloc(MOST);
    size_t   n = bytes ? fread(bytes, 1, MOST, file) : 0;
    int      rc = bytes ? LLVMFuzzerTestOneInput(bytes, n) : 1;
    free(bytes);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return run_file(stdin);
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file || run_file(file))
            return 1;
        fclose(file);
    }
    return 0;
}
#endif
