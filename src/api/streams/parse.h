/* SPDX-License-Identifier: Apache-2.0 */
/* parse.h - what the Durable Streams surface reads out of targets and headers, and spells into them (streams.md 1, 2, 3, 9, 13).
 * Pure and strict. */
#pragma once
#include "base/mem.h"

#define STREAMS_ROOT "/v1/stream/"
enum { STREAM_NAME_MAX = 1024, OFFSET_TEXT = 33, SAFE_DIGITS = 16 };

/* ---- names: names.c ---- */
/* Decodes a path behind the root once. False: empty, an empty, "." or ".." segment, a control byte, no UTF-8, too long. */
bool name_parse(struct span raw, struct arena *arena, struct span *ret);
/* The name in "[prefix]/v1/stream/name", percent-encoded. */
bool name_of_path(struct span path, struct arena *arena, struct span *ret);

enum stream_class { STREAM_FREE, STREAM_RUN, STREAM_ATTEMPT, STREAM_RUNS_OTHER, STREAM_CHANNEL, STREAM_CONTROL };
/* By the first segment. RUN and ATTEMPT: run id and attempt number were set; RUNS_OTHER: below runs/ and nothing of that. */
struct stream_name {
    enum stream_class class_;
    struct span       run; /* text of the id */
    uint64_t          attempt;
};
struct stream_name name_class(struct span name);

/* ---- offsets: names.c ---- */
struct ds_offset {
    uint64_t generation, seq;
};
enum offset_form { OFFSET_BAD, OFFSET_START, OFFSET_NOW, OFFSET_AT };
enum offset_form offset_parse(struct span text, struct ds_offset *ret); /* ret is zero for START and NOW */
void             offset_put(struct buf *out, struct ds_offset offset);  /* OFFSET_TEXT bytes */
int              offset_cmp(struct ds_offset a, struct ds_offset b);

/* [0-9]+ up to 2^53 - 1; `canonical`: and no leading zero. */
bool number_parse(struct span text, bool canonical, uint64_t *ret);

/* ---- headers: headers.c ---- */
/* The media type of a Content-Type: without parameters, lower case; p NULL when it is not token "/" token. */
struct span media_parse(struct span content_type, struct arena *arena);
bool        is_json_media(struct span media);
bool        is_text_media(struct span media); /* sent as UTF-8 over SSE */
bool        header_true(struct span value);   /* "true", any case */
/* RFC 3339 with Z or a numeric offset. */
bool        instant_parse(struct span text, int64_t *ret_ms);
/* If-None-Match against a strong tag: lists, W/, "*". Damaged lists match nothing. */
bool        etag_matches(struct span header, struct span etag);

/* ---- cursors: headers.c ---- */
uint64_t cursor_at(int64_t now_ms);
/* What is answered to a client that sent `given` (p NULL: nothing): later than its own. `random` is any number. */
uint64_t cursor_answer(struct span given, int64_t now_ms, uint64_t random);
