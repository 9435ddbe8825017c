/* SPDX-License-Identifier: Apache-2.0 */
/* provider_emit.c - `core.emit`: so many chunks, so far apart (agent-runs.md 9.1, model.md 4).
 *
 * Chunk k reads "tick k ". Nothing is remembered but a number, so a call that was cut by a crash goes on with the next. */
#include "model/provider.h"

enum { EMIT_COUNT_MAX = 1000000 };

struct emit_call {
    struct model_call call; /* first */
    struct pace       pace;
    struct buf        text; /* all chunks, of the whole call */
};

struct emit_request {
    int64_t count, interval_ms;
};

static const struct field emit_fields[] = {
    { "count",       FIELD_INT, offsetof(struct emit_request, count),       true,  0, EMIT_COUNT_MAX },
    { "interval_ms", FIELD_INT, offsetof(struct emit_request, interval_ms), false, 0, PACE_INTERVAL_MAX },
};

static void put_tick(struct buf *out, uint64_t index)
{
    buf_printf(out, "tick %llu ", (unsigned long long)index);
}

static void emit_chunk(struct model_call *call, uint64_t index)
{
    struct emit_call *emit = (struct emit_call *)call;
    size_t            from = emit->text.len;
    put_tick(&emit->text, index);
    call_chunk(call, CHUNK_TEXT, span_make(emit->text.p + from, emit->text.len - from));
}

static void emit_end(struct model_call *call)
{
    struct emit_call *emit = (struct emit_call *)call;
    struct buf        result = { 0 };
    struct jw         w = jw_on(&result);

    jw_obj(&w);
    jw_key(&w, "text");          jw_str(&w, buf_view(&emit->text));
    jw_key(&w, "finish_reason"); jw_cstr(&w, "stop");
    jw_key(&w, "usage");
    jw_obj(&w);
    jw_key(&w, "input_tokens");  jw_u64(&w, 0);
    jw_key(&w, "output_tokens"); jw_u64(&w, emit->pace.count);
    jw_end(&w);
    jw_end(&w);
    call_end(call, ERR_OK, buf_view(&result));
    buf_done(&result);
}

static enum err emit_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    struct emit_call   *emit = (struct emit_call *)call;
    struct emit_request want = { 0 };
    enum err            err = fields_read(request, "", emit_fields, ARRAY_LEN(emit_fields), &call->arena, &want, error);
    if (err)
        return err;
    emit->pace.emit = emit_chunk;
    emit->pace.end = emit_end;
    pace_start(&emit->pace, call, skip_chunks, (uint64_t)want.count, (uint64_t)want.interval_ms);
    for (uint64_t k = 0; k < emit->pace.first; k++)
        put_tick(&emit->text, k);
    return ERR_OK;
}

static void emit_close(struct model_call *call)
{
    pace_stop(&((struct emit_call *)call)->pace);
}

static void emit_release(struct model_call *call)
{
    buf_done(&((struct emit_call *)call)->text);
}

const struct provider_ops provider_emit = {
    .kind = "core.emit",
    .fixed_name = "core.emit",
    .resumable = true,
    .call_size = sizeof(struct emit_call),
    .start = emit_start,
    .close = emit_close,
    .release = emit_release,
};
