/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_model_answer.c - any bytes from a provider, cut anywhere, end a call once, with the same result as at once.
 *
 * The first byte of the input says which protocol, how the answer comes (streamed, whole, an error) and where it breaks off,
 * the second how large the pieces are. The functions of model_http.h are called as the HTTP client would. */
#include "model/model_http.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct provider_ops *const kinds[] = { &provider_openai_chat, &provider_openai_responses, &provider_anthropic };
static const struct protocol *const protocols[] = { &protocol_openai_chat, &protocol_openai_responses, &protocol_anthropic };

struct seen {
    struct buf chunks[3], result;
    enum err   err;
    unsigned   ends;
};

static void on_chunk(void *user, enum model_chunk_kind kind, struct span text)
{
    struct seen *seen = user;
    assert(seen->ends == 0 && text.n > 0);
    buf_span(&seen->chunks[kind], text);
}

static void on_end(void *user, enum err err, struct span result)
{
    struct seen *seen = user;
    seen->ends++;
    seen->err = err;
    buf_span(&seen->result, result);
}

/* What the result says is what the chunks said. */
static void check(const struct seen *seen)
{
    struct arena arena = { 0 };
    struct jv    result = json_read(buf_view(&seen->result), &arena);
    assert(seen->ends == 1 && jv_is(result, JSON_OBJECT));
    if (seen->err) {
        assert(jv_is(jv_get(result, "code"), JSON_STRING) && jv_is(jv_get(result, "category"), JSON_STRING));
    } else {
        struct buf arguments = { 0 };
        assert(span_eq(jv_string(jv_get(result, "text"), &arena), buf_view(&seen->chunks[CHUNK_TEXT])));
        assert(jv_is(jv_get(result, "finish_reason"), JSON_STRING));
        for (size_t i = 0; i < jv_count(jv_get(result, "tool_calls")); i++) {
            struct jv call = jv_at(jv_get(result, "tool_calls"), i);
            assert(jv_string(jv_get(call, "name"), &arena).n && jv_string(jv_get(call, "id"), &arena).n);
            buf_span(&arguments, jv_string(jv_get(call, "arguments"), &arena));
        }
        assert(arguments.len == seen->chunks[CHUNK_TOOL_ARGUMENTS].len); /* calls may come interleaved */
        buf_done(&arguments);
    }
    arena_done(&arena);
}

static struct model_http *call_new(unsigned kind, struct loop *loop, struct provider *provider, struct model_call *first,
                                   struct seen *seen)
{
    struct model_http *http = mem_alloc(protocols[kind]->call_size);
    http->call.loop = loop;
    http->call.provider = provider;
    http->call.prev = first; /* so that it is not looked for in a list of the registry's */
    first->next = &http->call;
    http->call.on_chunk = on_chunk;
    http->call.on_end = on_end;
    http->call.user = seen;
    model_http_init(http, protocols[kind]);
    return http;
}

static void read_in_pieces(unsigned mode, struct span body, size_t piece, struct loop *loop, struct seen *seen)
{
    static const char *const types[] = { "text/event-stream", "application/json", "text/event-stream", "text/event-stream" };
    struct model_call  first = { 0 };
    struct provider    provider = { .ops = kinds[mode % 3] };
    struct model_http *http = call_new(mode % 3, loop, &provider, &first, seen);
    unsigned           how = mode / 3 % 4;
    struct error       error;

    call_enter(&http->call); /* it lives until we leave */
    model_http_on_head(http, how == 2 ? 400 + mode % 130 : 200, span_of(types[how]), mode % 5 - 1);
    for (size_t at = 0; at < body.n && !http->call.closed; at += piece) {
        size_t n = piece < body.n - at ? piece : body.n - at;
        char  *copy = mem_dup(body.p + at, n);
        model_http_on_data(http, span_make(copy, n));
        free(copy);
    }
    if (!http->call.closed)
        model_http_on_done(http, how == 3 ? error_set(&error, ERR_IO, "", "cut") : ERR_OK, &error);
    assert(http->call.closed);
    call_leave(&http->call);
    check(seen);
}

static void seen_done(struct seen *seen)
{
    for (size_t i = 0; i < ARRAY_LEN(seen->chunks); i++)
        buf_done(&seen->chunks[i]);
    buf_done(&seen->result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loop *loop = NULL;
    struct seen  whole = { .ends = 0 }, pieces = { .ends = 0 };
    if (size < 2 || loop_new(env_real(), NULL, &loop, NULL))
        return 0;
    struct span body = span_make(data + 2, size - 2);
    read_in_pieces(data[0], body, body.n + 1, loop, &whole);
    read_in_pieces(data[0], body, 1u + data[1] % 64, loop, &pieces);
    assert(whole.err == pieces.err && span_eq(buf_view(&whole.result), buf_view(&pieces.result)));
    seen_done(&whole);
    seen_done(&pieces);
    loop_free(loop);
    return 0;
}
