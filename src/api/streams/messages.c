/* SPDX-License-Identifier: Apache-2.0 */
/* messages.c - the body of a PUT or POST as messages: one, or the elements of a JSON array (streams.md 3). */
#include "api/streams/streams.h"

enum err messages_parse(struct call *call, bool json, struct span body, struct messages *ret, struct error *error)
{
    static const struct json_limits limits = { .depth = JSON_DEPTH, .entries = JSON_ENTRIES_MOST, .lone_surrogates = true };
    *ret = (struct messages){ .json = json, .plain = body, .count = body.n > 0 };
    if (!json || !body.n)
        return ERR_OK;
    enum err err = json_parse(body, &limits, &call->arena, &ret->doc, error);
    if (err)
        return err;
    ret->root = json_root(&ret->doc);
    ret->count = jv_is(ret->root, JSON_ARRAY) ? jv_count(ret->root) : 1;
    if (ret->count > JSON_MESSAGES_MOST)
        return error_set(error, ERR_TOO_LARGE, "", "at most %d messages in one request", JSON_MESSAGES_MOST);
    return ERR_OK;
}

static void append_value(struct jv value, struct free_stream *fs, bool joined, bool closing, struct buf *text)
{
    text->len = 0;
    json_minify(value, text);
    free_append(fs, buf_view(text), joined, closing);
}

void messages_append(const struct messages *messages, struct free_stream *fs, bool closing)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (!messages->count)
        return;
    if (!messages->json) {
        free_append(fs, messages->plain, false, closing);
        return;
    }
    /* The values look for their document where it was parsed. */
    struct jv root = { &messages->doc, messages->root.at };
    if (!jv_is(root, JSON_ARRAY)) {
        append_value(root, fs, false, closing, &text);
        return;
    }
    size_t i = 0;
    for (struct jv_iter it = jv_iter(root); jv_step(&it); i++)
        append_value(it.value, fs, i > 0, closing && i + 1 == messages->count, &text);
}
