/* SPDX-License-Identifier: Apache-2.0 */
/* streams.h - (inner) the Durable Streams surface: what its files share (streams.md). */
#pragma once
#include "api/inner.h"
#include "api/streams/parse.h"
#include "ledger/free.h"

enum {
    JSON_MESSAGES_MOST = 10000, /* per request */
    JSON_DEPTH = 128,
    JSON_ENTRIES_MOST = 4 << 20,
    TAG_MAX = 256,              /* Producer-Id, Stream-Seq */
    MEDIA_MAX = 256,
};

struct streams {
    struct api          *api;
    struct free_streams *all;
    struct loop_timer    sweep;
};

/* ---- answers.c ---- */
/* call_fail, but not before what the answer tells of is on disk. `fs` may be NULL. */
void ds_fail(struct call *call, const struct free_stream *fs, enum err err, const char *field, const char *format, ...) PRINTF(5, 6);
void ds_send(struct call *call, const struct free_stream *fs, int status);
void put_offset(struct call *call, const char *name, struct ds_offset offset);
void put_header(struct call *call, const char *name, struct span value); /* of any length; no line breaks in it */
void put_number(struct call *call, const char *name, uint64_t value);
void put_tail(struct call *call, const struct free_stream *fs);  /* Stream-Next-Offset */
void put_closed(struct call *call, const struct free_stream *fs); /* Stream-Closed: true when it is */
const char *call_text(struct call *call, struct span text);       /* a copy in the arena, NUL behind it */

/* The free stream of the call's name, LIVE. Else the call was answered: 404, 410, 503. */
struct free_stream *ds_find(struct call *call, struct span name);
bool ds_header(struct call *call, const char *name, struct span *ret); /* false: absent or the client is gone */

/* ---- messages.c: a body as messages ---- */
struct messages {
    bool        json;
    struct span plain;  /* not JSON: one message, or none when empty */
    struct json doc;
    struct jv   root;
    size_t      count;
};
/* Parses; ERR_MALFORMED_JSON, ERR_TOO_LARGE. */
enum err messages_parse(struct call *call, bool json, struct span body, struct messages *ret, struct error *error);
/* Appends all of them as one append; the last one closes the stream when `closing`. */
void messages_append(const struct messages *messages, struct free_stream *fs, bool closing);

/* ---- what may be read: a free stream, an attempt, a run ---- */
struct source {
    struct free_stream *fs;        /* held; or NULL */
    struct stream      *stream;    /* held */
    struct attempt_ref *ref;       /* of an attempt; own memory */
    bool                json, text; /* text: over SSE */
    uint64_t            upto;      /* what can be read of `stream` */
    struct uuid         run;       /* of an attempt or a run */
    uint64_t            attempts;  /* of a run's stream: how many; else 0 */
    struct ds_offset    tail;
    bool                closed;    /* at the tail */
    bool                late;      /* part of it is on its way to disk */
    const char         *content_type;
    uint64_t            id;        /* for the ETag */
};
void source_of_free(struct call *call, struct free_stream *fs, struct source *ret);
void source_done(struct source *source);
/* runs.c. ERR_NOT_FOUND, ERR_STORAGE. */
enum err source_of_run(struct call *call, const struct stream_name *name, struct source *ret);
/* Of a run's stream: the attempt that has what comes behind `from`, which becomes a place in it. ERR_INVALID_CURSOR too. */
enum err source_seek(struct call *call, struct source *source, struct ds_offset *from);
/* A stream to follow in its place when its last attempt has failed; NULL: no need. */
struct parked_run;
struct parked_run *run_park(struct call *call, struct source *source);
struct stream     *parked_stream(struct parked_run *parked);
void               parked_free(struct parked_run *parked); /* accepts NULL */

/* ---- handlers ---- */
void ds_create(struct call *call);  /* create.c */
void ds_append(struct call *call);  /* append.c */
void ds_read(struct call *call, struct source *source);   /* read.c: GET; takes the source */
void ds_head(struct call *call, const struct source *source);

/* ---- live.c ---- */
struct place {            /* of a request that follows */
    uint64_t after;
    uint64_t cursor;      /* what its answers carry at least */
    uint32_t generation;
};
void live_sse(struct call *call, struct source *source, const struct place *place);  /* takes the source */
void live_wait(struct call *call, struct source *source, const struct place *place); /* the same; the tail is where it stands */

/* read.c, for live.c too: Stream-Next-Offset and its companions of a 200 with data. */
void put_chunk_head(struct call *call, const struct source *source, struct ds_offset from, struct ds_offset to, bool at_head,
                    bool closed, bool with_tag);
