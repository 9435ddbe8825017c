/* SPDX-License-Identifier: Apache-2.0 */
/* append.c - POST: append, close, or both, with or without a producer (streams.md 5, 6, 7). The order of the checks counts. */
#include "api/streams/streams.h"

struct append {
    struct call          *call;
    struct free_stream   *fs;
    struct span           body;
    bool                  closing;
    bool                  producing;
    struct span           id;
    uint64_t              epoch, seq;
    struct producer_state state;
    bool                  has_order;
    struct span           order;
};

/* Some but not all of the three, or damaged ones. */
static bool read_producer(struct append *a)
{
    struct call *call = a->call;
    struct span  epoch, seq;
    bool         has_id = ds_header(call, "Producer-Id", &a->id), has_epoch = ds_header(call, "Producer-Epoch", &epoch),
         has_seq = ds_header(call, "Producer-Seq", &seq);
    a->producing = has_id && has_epoch && has_seq;
    const char *wrong = NULL;
    if (!a->producing && (has_id || has_epoch || has_seq))
        wrong = "Producer-Id, Producer-Epoch and Producer-Seq belong together";
    else if (a->producing && (!a->id.n || a->id.n > TAG_MAX))
        wrong = "Producer-Id has 1 to 256 bytes";
    else if (a->producing && (!number_parse(epoch, false, &a->epoch) || !number_parse(seq, false, &a->seq)))
        wrong = "Producer-Epoch and Producer-Seq are whole numbers";
    if (wrong)
        ds_fail(call, NULL, ERR_BAD_REQUEST, "Producer-Id", "%s", wrong);
    return !wrong;
}

static bool read_append(struct append *a)
{
    struct call *call = a->call;
    struct span  closed, type;
    a->body = call->req->body;
    a->closing = ds_header(call, "Stream-Closed", &closed) && header_true(closed);
    a->has_order = ds_header(call, "Stream-Seq", &a->order);
    if (!read_producer(a))
        return false;
    const char *wrong = NULL;
    if (!a->body.n && !a->closing)
        wrong = "the body is empty";
    else if (a->body.n && !(ds_header(call, "Content-Type", &type) && type.n))
        wrong = "a body needs a Content-Type";
    else if (a->has_order && (!a->order.n || a->order.n > TAG_MAX))
        wrong = "Stream-Seq has 1 to 256 bytes";
    if (wrong)
        ds_fail(call, NULL, ERR_BAD_REQUEST, "", "%s", wrong);
    return !wrong;
}

/* ---- answers ---- */

/* A client reads a 409 without these as "expected 0" and sends again for ever. */
static void put_expected(const struct append *a)
{
    if (!a->producing)
        return;
    bool begins = !a->state.known || a->epoch > a->state.epoch;
    put_number(a->call, "Producer-Expected-Seq", begins ? 0 : a->state.last_seq + 1);
    put_number(a->call, "Producer-Received-Seq", a->seq);
}

static void conflict(const struct append *a, const char *why)
{
    put_expected(a);
    put_closed(a->call, a->fs);
    put_tail(a->call, a->fs);
    ds_fail(a->call, a->fs, ERR_CONFLICT, "", "%s", why);
}

static void done(const struct append *a, int status, uint64_t seq)
{
    if (a->producing) {
        put_number(a->call, "Producer-Epoch", a->epoch);
        put_number(a->call, "Producer-Seq", seq);
    }
    put_tail(a->call, a->fs);
    put_closed(a->call, a->fs);
    ds_send(a->call, a->fs, status);
}

/* ---- checks ---- */

/* True: the stream is open. */
static bool still_open(const struct append *a)
{
    const struct stream_row *row = &a->fs->row;
    if (!row->closed)
        return true;
    bool closer = a->producing && span_eq(a->id, row->closer) && a->epoch == (uint64_t)row->closer_epoch &&
                  a->seq == (uint64_t)row->closer_seq;
    if (closer)
        done(a, 204, a->state.last_seq);
    else if (!a->body.n && a->closing && !a->producing)
        done(a, 204, 0);
    else
        conflict(a, "the stream is closed");
    return false;
}

static bool same_media(const struct append *a)
{
    struct call *call = a->call;
    struct span  type;
    (void)ds_header(call, "Content-Type", &type);
    if (span_eq(media_parse(type, &call->arena), media_parse(a->fs->row.media, &call->arena)))
        return true;
    conflict(a, "the stream has another content type");
    return false;
}

static bool producer_goes_on(const struct append *a)
{
    if (!a->producing)
        return true;
    switch (producer_judge(&a->state, a->epoch, a->seq)) {
    case PRODUCER_NEXT: return true;
    case PRODUCER_DUPLICATE: done(a, 204, a->state.last_seq); return false;
    case PRODUCER_GAP: conflict(a, "appends of this producer are missing"); return false;
    case PRODUCER_FENCED:
        a->call->api->stale_appends++;
        put_number(a->call, "Producer-Epoch", a->state.epoch);
        ds_fail(a->call, a->fs, ERR_FORBIDDEN, "Producer-Epoch", "a later epoch of this producer was seen");
        return false;
    case PRODUCER_BAD_START:
        ds_fail(a->call, a->fs, ERR_BAD_REQUEST, "Producer-Seq", "a new epoch begins with 0");
        return false;
    }
    return false;
}

static bool in_order(const struct append *a)
{
    const struct stream_row *row = &a->fs->row;
    if (!a->has_order || !row->last_order.p || span_cmp(a->order, row->last_order) > 0)
        return true;
    conflict(a, "Stream-Seq is not greater than the last one");
    return false;
}

static bool parse(const struct append *a, struct messages *ret)
{
    struct error error = { 0 };
    bool         json = is_json_media(media_parse(a->fs->row.media, &a->call->arena));
    if (messages_parse(a->call, json, a->body, ret, &error)) {
        call_error(a->call, &error);
        return false;
    }
    if (!ret->count)
        ds_fail(a->call, NULL, ERR_BAD_REQUEST, "", "an empty array appends nothing");
    return ret->count > 0;
}

/* ---- the append ---- */

static void close_only(const struct append *a)
{
    if (!still_open(a) || !producer_goes_on(a))
        return;
    if (a->producing)
        free_producer_put(a->fs, a->id, a->epoch, a->seq);
    free_close(a->fs, true, a->producing ? a->id : SPAN_NONE, a->epoch, a->seq);
    done(a, 204, a->seq);
}

static void append(const struct append *a)
{
    struct messages messages;
    if (!still_open(a) || !same_media(a) || !producer_goes_on(a) || !in_order(a) || !parse(a, &messages))
        return;
    messages_append(&messages, a->fs, a->closing);
    if (a->producing)
        free_producer_put(a->fs, a->id, a->epoch, a->seq);
    if (a->has_order)
        free_set_order(a->fs, a->order);
    if (a->closing)
        free_close(a->fs, false, a->producing ? a->id : SPAN_NONE, a->epoch, a->seq);
    done(a, a->producing ? 200 : 204, a->seq);
}

void ds_append(struct call *call)
{
    struct append a = { .call = call };
    struct span   name = SPAN_NONE;
    struct error  error = { 0 };
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return;
    }
    (void)name_parse(call->params[0], &call->arena, &name);
    if (!read_append(&a) || !(a.fs = ds_find(call, name)))
        return;
    free_touch(a.fs);
    if (a.producing && free_producer(a.fs, a.id, &a.state)) {
        ds_fail(call, NULL, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    if (a.body.n)
        append(&a);
    else
        close_only(&a);
}
