/* SPDX-License-Identifier: Apache-2.0 */
/* record.c - how payloads of a run's records are made: `pub` is the AR payload byte for byte, `priv` what the fold needs. */
#include "run/inner.h"

struct jw payload_begin(struct engine *engine, struct span node)
{
    engine->scratch.len = 0;
    struct jw w = jw_on(&engine->scratch);
    jw_obj(&w);
    if (node.n) {
        jw_key(&w, "node");
        jw_str(&w, node);
    }
    return w;
}

struct span payload_end(struct engine *engine, struct jw *w)
{
    jw_end(w);
    return buf_view(&engine->scratch);
}

bool payload_value(struct jw *w, const char *name, struct span json)
{
    jw_key(w, name);
    if (json.n <= RECORD_PART_MAX) {
        jw_raw(w, json);
        return false;
    }
    jw_obj(w);
    jw_key(w, "truncated");
    jw_bool(w, true);
    jw_key(w, "bytes");
    jw_u64(w, json.n);
    jw_end(w);
    return true;
}

void path_json(struct jw *w, const struct op_path *path)
{
    jw_arr(w);
    for (unsigned i = 0; i < path->n; i++)
        jw_u64(w, path->v[i]);
    jw_arr_end(w);
}

void path_read(struct jv list, struct op_path *ret)
{
    *ret = (struct op_path){ 0 };
    for (struct jv_iter it = jv_iter(list); jv_step(&it) && ret->n < OP_PATH_MAX;) {
        int64_t part = 0;
        jv_i64(it.value, &part);
        ret->v[ret->n++] = (uint32_t)part;
    }
}

struct span input_priv(struct engine *engine, uint64_t elapsed_us, const struct op_path *path, struct span value)
{
    return input_priv_more(engine, elapsed_us, path, ERR_OK, SPAN_NONE, value);
}

struct span input_priv_more(struct engine *engine, uint64_t elapsed_us, const struct op_path *path, enum err err, struct span more,
                            struct span value)
{
    engine->scratch_priv.len = 0;
    struct jw w = jw_on(&engine->scratch_priv);
    jw_obj(&w);
    jw_key(&w, "us");
    jw_u64(&w, elapsed_us);
    jw_key(&w, "p");
    path_json(&w, path);
    if (err) {
        jw_key(&w, "e");
        jw_cstr(&w, err_info(err)->name);
    }
    if (more.n) {
        buf_byte(&engine->scratch_priv, ',');
        buf_span(&engine->scratch_priv, more);
    }
    if (value.n) {
        jw_key(&w, "v");
        jw_raw(&w, value);
    }
    jw_end(&w);
    return buf_view(&engine->scratch_priv);
}

/* After a recovery the new epoch shows itself before its first record, but never first and never behind the end. */
static void announce(struct run *run)
{
    run->announce_recovery = false;
    if (stream_head(run->stream) == 0)
        return;
    struct buf pub = { 0 };
    buf_printf(&pub, "{\"epoch\":%llu}", (unsigned long long)store_epoch(run->engine->config.store));
    struct record record = { .type = REC_RUN_RECOVERED, .pub = buf_view(&pub) };
    stream_append(run->stream, &record);
    buf_done(&pub);
}

uint64_t run_record(struct run *run, enum record_type type, uint8_t flags, unsigned wf, uint32_t op, uint32_t parent,
                    struct span pub, struct span priv, struct span *ret_pub)
{
    uint64_t seq = 0;
    const struct redact *redact = run->engine->config.redact;
    pub = redact_json(redact, pub, &run->engine->turn);
    priv = redact_json(redact, priv, &run->engine->turn);
    if (run->fold) {
        struct span recorded = pub;
        fold_take(run, type, op, &seq, &recorded);
        if (ret_pub)
            *ret_pub = recorded;
        return seq;
    }
    bool behind = type == REC_NODE_STARTED || type == REC_CHECKPOINT;
    if (!behind && !replay_check(run, type, pub, priv))
        return 0;
    if (run->announce_recovery)
        announce(run);
    struct record record = { .type = type, .flags = (uint8_t)(flags | wf << REC_WF_SHIFT), .op = op, .parent = parent,
                             .pub = pub, .priv = priv };
    seq = stream_append(run->stream, &record);
    run->records_since_snapshot++;
    run_dirty(run);
    if (ret_pub)
        *ret_pub = pub;
    if (behind)
        (void)replay_check(run, type, pub, priv);
    return seq;
}

void run_record_delta(struct run *run, struct record *delta)
{
    if (run->announce_recovery)
        announce(run);
    stream_append(run->stream, delta);
    engine_touch(run->engine);
}

void path_text(const struct op_path *path, struct buf *out)
{
    static const char letters[] = "nimtwxc"; /* node, item, model, tool, wait, timer, child */
    for (unsigned i = 0; i < path->n; i++) {
        unsigned kind = path->v[i] >> 28, number = path->v[i] & 0xfffffff;
        if (kind == OP_NODE)
            buf_printf(out, "%sn%u.%u", i ? "/" : "", number >> 8, number & 0xff);
        else
            buf_printf(out, "%s%c%u", i ? "/" : "", kind < sizeof letters - 1 ? letters[kind] : '?', number);
    }
}
