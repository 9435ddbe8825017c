/* SPDX-License-Identifier: Apache-2.0 */
/* http_parse.c - bytes to requests.
 *
 * The head is libhttp-parser's work, whose callbacks point straight into our buffer. The distributed library is built
 * without its strict checks (it takes blanks in header names and anything at all for the line end behind a chunk), so what
 * it lets through is checked again here, and chunked bodies are decoded by a few lines of our own: two servers that read the
 * same bytes differently are how requests get smuggled. */
#include "net/http_parse.h"
#include <stdlib.h>
#include <strings.h>

enum { CHUNK_EXTRA_MOST = 8 * 1024, ROOM_LEAST = 2 * 1024, BODY_FIRST = 64 * 1024 };

/* ---- buffers ---- */

static void count_held(struct exchange *x)
{
    size_t now = x->cap + x->own_cap;
    *x->held_total += now - x->held; /* wraps to a subtraction when it shrank */
    x->held = now;
}

static struct span moved(struct span s, const char *from, char *to)
{
    return s.p ? span_make(to + (s.p - from), s.n) : s;
}

/* Moves the unfinished request to the front of a buffer of `cap` bytes. Only before the head is complete: afterwards the
 * handler knows addresses. */
static void rebase(struct exchange *x, size_t cap)
{
    const char *from = x->in + x->start;
    bool        same = cap == x->cap;
    char       *to = same ? x->in : mem_grow(NULL, cap);
    struct http_request *req = &x->req;

    memmove(to, from, x->end - x->start);
    req->target = moved(req->target, from, to);
    for (size_t i = 0; i < req->header_count; i++) {
        x->headers[i].name = moved(x->headers[i].name, from, to);
        x->headers[i].value = moved(x->headers[i].value, from, to);
    }
    x->parsed -= x->start;
    x->end -= x->start;
    x->start = 0;
    if (same)
        return;
    free(x->in);
    x->in = to;
    x->cap = cap;
    count_held(x);
}

static void make_room(struct exchange *x, size_t least)
{
    if (x->cap - x->end >= least)
        return;
    size_t cap = x->cap;
    while (cap - (x->end - x->start) < least)
        cap *= 2;
    rebase(x, cap);
}

static void clear_request(struct exchange *x)
{
    free(x->own);
    x->own = NULL;
    x->own_cap = 0;
    arena_reset(&x->arena);
    x->req = (struct http_request){ .conn = x->req.conn, .arena = &x->arena, .headers = x->headers };
    x->value_last = x->wants_100 = x->answered = x->delivered = x->chunked = x->discard = false;
    x->bad = ERR_OK;
    x->body_len = x->body_limit = x->chunk_left = x->chunk_extra = 0;
    x->chunk = CHUNK_SIZE_FIRST;
    http_parser_init(&x->parser, HTTP_REQUEST);
    x->parser.data = x;
}

struct exchange *exchange_new(const struct parse_limits *limits, size_t *held_total)
{
    struct exchange *x = mem_alloc(sizeof *x + limits->max_headers * sizeof(struct http_header));
    x->limits = *limits;
    x->held_total = held_total;
    x->cap = EXCHANGE_BUFFER;
    x->in = mem_grow(NULL, x->cap);
    count_held(x);
    clear_request(x);
    return x;
}

void exchange_free(struct exchange *x)
{
    if (!x)
        return;
    *x->held_total -= x->held;
    arena_done(&x->arena);
    free(x->own);
    free(x->in);
    free(x);
}

void exchange_next(struct exchange *x)
{
    clear_request(x);
    x->start = x->parsed;
    if (x->start == x->end)
        x->start = x->parsed = x->end = 0;
    count_held(x);
}

void exchange_reset(struct exchange *x)
{
    clear_request(x);
    x->req.conn = NULL;
    x->start = x->parsed = x->end = 0;
    if (x->cap != EXCHANGE_BUFFER) {
        free(x->in);
        x->cap = EXCHANGE_BUFFER;
        x->in = mem_grow(NULL, x->cap);
    }
    *x->held_total -= x->held; /* what lies in the pool is nobody's request */
    x->held = 0;
}

void exchange_preload(struct exchange *x, struct span bytes)
{
    make_room(x, bytes.n + ROOM_LEAST);
    memcpy(x->in + x->end, bytes.p, bytes.n);
    x->end += bytes.n;
    count_held(x);
}

struct span_mut exchange_room(struct exchange *x)
{
    bool in_body = x->req.path.p != NULL;

    if (!in_body) {
        make_room(x, ROOM_LEAST);
    } else if (x->chunked || x->discard) {
        if (x->parsed == x->end && x->cap - x->end < ROOM_LEAST)
            x->parsed = x->end = x->start; /* all decoded; `start` is where the head ends, or 0 when it is not needed */
    } else if (x->own) {
        if (x->body_len == x->own_cap) {
            uint64_t cap = 2 * (uint64_t)x->own_cap;
            x->own_cap = (size_t)(cap < x->req.content_length ? cap : x->req.content_length);
            x->own = mem_grow(x->own, x->own_cap);
        }
        count_held(x);
        return (struct span_mut){ x->own + x->body_len, x->own_cap - (size_t)x->body_len };
    }
    count_held(x);
    return (struct span_mut){ x->in + x->end, x->cap - x->end };
}

void exchange_took(struct exchange *x, size_t n)
{
    if (x->own && !x->chunked && !x->discard)
        x->body_len += n;
    else
        x->end += n;
}

/* ---- the head: callbacks of libhttp-parser ---- */

static int on_url(http_parser *parser, const char *at, size_t n)
{
    struct exchange *x = parser->data;
    if (!x->req.target.p)
        x->req.target.p = at;
    x->req.target.n += n;
    return 0;
}

static int refuse(struct exchange *x, enum err code)
{
    x->bad = code;
    return 1;
}

static int on_field(http_parser *parser, const char *at, size_t n)
{
    struct exchange     *x = parser->data;
    struct http_request *req = &x->req;

    if (req->header_count == 0 || x->value_last) {
        if (req->header_count == x->limits.max_headers)
            return refuse(x, ERR_HEADERS_TOO_LARGE);
        x->headers[req->header_count++] = (struct http_header){ .name = { at, 0 } };
        x->value_last = false;
    }
    x->headers[req->header_count - 1].name.n += n;
    return 0;
}

/* A value comes in several pieces when it arrived in several reads, and these touch; or because its line was folded
 * (RFC 9112 5.2), which is refused. */
static int on_value(http_parser *parser, const char *at, size_t n)
{
    struct exchange    *x = parser->data;
    struct http_header *header = &x->headers[x->req.header_count - 1];

    x->value_last = true;
    if (n == 0 && header->value.p)
        return 0;
    if (n > 0 && header->value.n == 0) {
        const char *name_end = header->name.p + header->name.n;
        if (memchr(name_end, '\n', (size_t)(at - name_end)))
            return refuse(x, ERR_BAD_REQUEST);
        header->value.p = at;
    }
    if (!header->value.p)
        header->value.p = at;
    if (header->value.p + header->value.n != at)
        return refuse(x, ERR_BAD_REQUEST);
    header->value.n += n;
    return 0;
}

static int on_head_complete(http_parser *parser)
{
    http_parser_pause(parser, 1); /* the body is not the library's */
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_head_complete,
};

/* ---- the head: what the library lets through ---- */

static const bool is_token_char[256] = {
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['!'] = true, ['#'] = true, ['$'] = true,
    ['%'] = true, ['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true, ['^'] = true,
    ['_'] = true, ['`'] = true, ['|'] = true, ['~'] = true,
};

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_token_char[(unsigned char)s.p[i]])
            return false;
    return s.n > 0;
}

static bool span_is_nocase(struct span s, const char *text)
{
    return s.n == strlen(text) && strncasecmp(s.p, text, s.n) == 0;
}

static struct span without_blanks(struct span s)
{
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Names and values, and the few headers that change how the message is read. */
static bool check_headers(struct exchange *x)
{
    struct http_request *req = &x->req;
    unsigned             hosts = 0, codings = 0;
    bool                 chunked = false;

    for (size_t i = 0; i < req->header_count; i++) {
        struct http_header *header = &x->headers[i];
        header->value = without_blanks(header->value);
        if (!is_token(header->name))
            return false;
        if (span_is_nocase(header->name, "host")) {
            hosts++;
        } else if (span_is_nocase(header->name, "expect")) {
            x->wants_100 = span_is_nocase(header->value, "100-continue");
        } else if (span_is_nocase(header->name, "transfer-encoding")) {
            codings++;
            chunked = span_is_nocase(header->value, "chunked");
        }
    }
    bool http_1_1 = x->parser.http_minor > 0;
    if (hosts > 1 || (http_1_1 && hosts == 0) || codings > 1 || (codings && (!chunked || !http_1_1)))
        return false;
    x->wants_100 = x->wants_100 && http_1_1;
    x->chunked = chunked;
    return true;
}

/* Cuts scheme and authority off an absolute target (RFC 9112 3.2.2). */
static struct span origin_form(struct span target)
{
    const char *end = target.p + target.n;
    const char *mark = target.n && target.p[0] != '/' ? memmem(target.p, target.n, "://", 3) : NULL;
    if (!mark)
        return target;
    const char *path = mark + 3;
    while (path < end && *path != '/' && *path != '?')
        path++;
    return path == end ? SPAN("/") : span_make(path, (size_t)(end - path));
}

static bool check_target(struct http_request *req)
{
    for (size_t i = 0; i < req->target.n; i++) {
        unsigned char c = (unsigned char)req->target.p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return false;
    }
    struct span  s = origin_form(req->target);
    const char  *mark = s.n ? memchr(s.p, '?', s.n) : NULL;
    req->path = mark ? span_make(s.p, (size_t)(mark - s.p)) : s;
    req->query = mark ? span_make(mark + 1, s.n - req->path.n - 1) : SPAN_NONE;
    return req->path.n > 0 || mark != NULL;
}

static void set_method(struct exchange *x)
{
    static const enum http_method map[] = {
        [HTTP_DELETE] = HTTP_M_DELETE, [HTTP_GET] = HTTP_M_GET,     [HTTP_HEAD] = HTTP_M_HEAD,
        [HTTP_POST] = HTTP_M_POST,     [HTTP_PUT] = HTTP_M_PUT,     [HTTP_OPTIONS] = HTTP_M_OPTIONS,
        [HTTP_PATCH] = HTTP_M_PATCH,
    };
    unsigned method = x->parser.method;
    x->req.method_text = span_of(http_method_str((enum http_parser_method)method));
    x->req.method = method < ARRAY_LEN(map) ? map[method] : HTTP_M_OTHER;
    if (x->req.method == HTTP_M_GET && method != HTTP_GET)
        x->req.method = HTTP_M_OTHER; /* a hole in the map */
}

static enum parsed bad(struct exchange *x, enum err code)
{
    if (x->bad == ERR_OK)
        x->bad = code;
    return PARSED_BAD;
}

static enum parsed finish_head(struct exchange *x)
{
    struct http_request *req = &x->req;
    bool has_length = x->parser.flags & F_CONTENTLENGTH;

    if (x->parsed - x->start > x->limits.max_head_bytes)
        return bad(x, req->target.n >= x->limits.max_head_bytes ? ERR_URI_TOO_LONG : ERR_HEADERS_TOO_LARGE);
    if (x->parser.http_major != 1 || !check_headers(x) || (x->chunked && has_length))
        return bad(x, ERR_BAD_REQUEST);
    if (x->chunked && x->cap - x->end < ROOM_LEAST)
        make_room(x, ROOM_LEAST);
    if (!check_target(req))
        return bad(x, ERR_BAD_REQUEST);
    set_method(x);
    req->chunked_ok = x->parser.http_minor > 0;
    req->content_length = x->chunked ? UINT64_MAX : has_length ? x->parser.content_length : 0;
    req->has_body = req->content_length > 0 && !x->chunked;
    req->keep_alive = http_should_keep_alive(&x->parser) && x->parser.method != HTTP_CONNECT;
    return PARSED_DONE;
}

enum parsed exchange_head(struct exchange *x)
{
    const char *from = x->in + x->parsed;
    size_t      given = x->end - x->parsed;
    if (given == 0)
        return PARSED_MORE;

    size_t taken = http_parser_execute(&x->parser, &settings, from, given);
    switch (HTTP_PARSER_ERRNO(&x->parser)) {
    case HPE_OK:
        x->parsed += taken;
        if (x->parsed - x->start >= x->limits.max_head_bytes)
            return bad(x, x->req.header_count ? ERR_HEADERS_TOO_LARGE : ERR_URI_TOO_LONG);
        return taken == given ? PARSED_MORE : bad(x, ERR_BAD_REQUEST);
    case HPE_PAUSED:
        /* The library stops on the last LF, and does not look whether it is one. */
        if (taken >= given || from[taken] != '\n')
            return bad(x, ERR_BAD_REQUEST);
        x->parsed += taken + 1;
        return finish_head(x);
    case HPE_HEADER_OVERFLOW:
        return bad(x, x->req.header_count ? ERR_HEADERS_TOO_LARGE : ERR_URI_TOO_LONG);
    default:
        return bad(x, ERR_BAD_REQUEST);
    }
}

/* ---- the body ---- */

enum parsed exchange_body_begin(struct exchange *x, uint64_t limit)
{
    x->body_limit = limit;
    if (x->chunked) {
        x->start = x->parsed; /* decoded bytes may be overwritten from here on */
        return PARSED_DONE;
    }
    uint64_t want = x->req.content_length;
    if (want > limit)
        return PARSED_TOO_LARGE;
    size_t have = x->end - x->parsed;
    if (want <= x->cap - x->parsed)
        return PARSED_DONE;
    x->own_cap = want < BODY_FIRST ? (size_t)want : BODY_FIRST;
    if (x->own_cap < have)
        x->own_cap = have;
    x->own = mem_grow(NULL, x->own_cap);
    memcpy(x->own, x->in + x->parsed, have);
    x->body_len = have;
    x->end = x->parsed;
    count_held(x);
    return PARSED_DONE;
}

void exchange_discard(struct exchange *x, uint64_t limit)
{
    free(x->own);
    x->own = NULL;
    x->own_cap = 0;
    x->discard = true;
    x->body_limit = limit > x->body_len ? limit : x->body_len;
    x->start = 0; /* the request is answered: nobody reads its head any more */
    count_held(x);
}

static void body_append(struct exchange *x, const char *p, size_t n)
{
    if (!x->discard) {
        if (x->own_cap - x->body_len < n) {
            size_t cap = x->own_cap ? 2 * x->own_cap : 4096;
            while (cap - x->body_len < n)
                cap *= 2;
            x->own = mem_grow(x->own, cap);
            x->own_cap = cap;
            count_held(x);
        }
        memcpy(x->own + x->body_len, p, n);
    }
    x->body_len += n;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum parsed chunk_size_char(struct exchange *x, char c)
{
    int digit = hex_value(c);
    if (digit >= 0) {
        if (x->chunk_left >> 60)
            return bad(x, ERR_BAD_REQUEST);
        x->chunk_left = x->chunk_left * 16 + (uint64_t)digit;
        x->chunk = CHUNK_SIZE;
        return PARSED_MORE;
    }
    if (x->chunk == CHUNK_SIZE_FIRST)
        return bad(x, ERR_BAD_REQUEST);
    if (c == '\r')
        x->chunk = CHUNK_SIZE_LF;
    else if (c == ';' || c == ' ' || c == '\t')
        x->chunk = CHUNK_EXT;
    else
        return bad(x, ERR_BAD_REQUEST);
    return PARSED_MORE;
}

/* Extensions and trailers are read over, but must be of plain characters and few. */
static enum parsed chunk_skip_char(struct exchange *x, char c, enum chunk_state after_cr)
{
    if (c == '\r')
        x->chunk = after_cr;
    else if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f || ++x->chunk_extra > CHUNK_EXTRA_MOST)
        return bad(x, ERR_BAD_REQUEST);
    return PARSED_MORE;
}

static enum parsed chunk_expect(struct exchange *x, char c, char expected, enum chunk_state next)
{
    if (c != expected)
        return bad(x, ERR_BAD_REQUEST);
    x->chunk = next;
    return PARSED_MORE;
}

static enum parsed chunk_char(struct exchange *x, char c)
{
    switch (x->chunk) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return chunk_size_char(x, c);
    case CHUNK_EXT:
        return chunk_skip_char(x, c, CHUNK_SIZE_LF);
    case CHUNK_SIZE_LF:
        if (c == '\n' && x->chunk_left > x->body_limit - x->body_len)
            return PARSED_TOO_LARGE;
        return chunk_expect(x, c, '\n', x->chunk_left ? CHUNK_DATA : CHUNK_TRAILER_START);
    case CHUNK_CR:
        return chunk_expect(x, c, '\r', CHUNK_LF);
    case CHUNK_LF:
        return chunk_expect(x, c, '\n', CHUNK_SIZE_FIRST);
    case CHUNK_TRAILER_START:
        if (c == '\r') {
            x->chunk = CHUNK_LAST_LF;
            return PARSED_MORE;
        }
        x->chunk = CHUNK_TRAILER;
        return chunk_skip_char(x, c, CHUNK_TRAILER_LF);
    case CHUNK_TRAILER:
        return chunk_skip_char(x, c, CHUNK_TRAILER_LF);
    case CHUNK_TRAILER_LF:
        return chunk_expect(x, c, '\n', CHUNK_TRAILER_START);
    case CHUNK_LAST_LF:
        return c == '\n' ? PARSED_DONE : bad(x, ERR_BAD_REQUEST);
    case CHUNK_DATA:
        break;
    }
    return bad(x, ERR_BAD_REQUEST);
}

static void chunk_data(struct exchange *x)
{
    size_t n = x->end - x->parsed;
    if (n > x->chunk_left)
        n = (size_t)x->chunk_left;
    body_append(x, x->in + x->parsed, n);
    x->parsed += n;
    x->chunk_left -= n;
    if (x->chunk_left == 0)
        x->chunk = CHUNK_CR;
}

static enum parsed body_chunked(struct exchange *x)
{
    while (x->parsed < x->end) {
        if (x->chunk == CHUNK_DATA) {
            chunk_data(x);
            continue;
        }
        enum parsed parsed = chunk_char(x, x->in[x->parsed++]);
        if (parsed == PARSED_DONE) {
            x->req.has_body = x->body_len > 0;
            x->req.body = x->discard ? SPAN_NONE : span_make(x->own, (size_t)x->body_len);
        }
        if (parsed != PARSED_MORE)
            return parsed;
    }
    return PARSED_MORE;
}

static enum parsed body_discarded(struct exchange *x)
{
    uint64_t left = x->req.content_length - x->body_len;
    size_t   n = x->end - x->parsed;
    if (n > left)
        n = (size_t)left;
    x->parsed += n;
    x->body_len += n;
    if (x->body_len == x->req.content_length)
        return PARSED_DONE;
    return x->body_len > x->body_limit ? PARSED_TOO_LARGE : PARSED_MORE;
}

enum parsed exchange_body(struct exchange *x)
{
    if (x->chunked)
        return body_chunked(x);
    if (x->discard)
        return body_discarded(x);

    size_t want = (size_t)x->req.content_length;
    if (x->own) {
        if (x->body_len < want)
            return PARSED_MORE;
        x->req.body = span_make(x->own, want);
        return PARSED_DONE;
    }
    if (x->end - x->parsed < want)
        return PARSED_MORE;
    x->req.body = span_make(want ? x->in + x->parsed : NULL, want);
    x->parsed += want;
    return PARSED_DONE;
}
