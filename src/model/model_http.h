/* SPDX-License-Identifier: Apache-2.0 */
/* model_http.h - one model call over HTTP, whatever protocol is spoken (inner header of src/model).
 *
 * A protocol says how a request is written and what an event or a whole answer means; sending, cutting the stream into
 * events, limits, errors and the end are the same for all. A provider's call begins with a struct model_http, and its ops are
 * made of model_http_start, model_http_close and model_http_release.
 *
 * What is tolerated, because real servers do it: an answer that is not streamed though we asked and the other way round, an
 * end of the response without the protocol's own sign behind a finish reason, errors in the middle of the stream, comments
 * as keep-alive, [DONE] in protocols that have none. What is not: bytes that are no JSON, another content type, an end before
 * the answer had one. Bounds: an event EVENT_MAX, the answer ANSWER_MAX, the wire STREAM_MAX. */
#pragma once
#include "model/answer.h"
#include "model/fault.h"
#include "model/provider.h"
#include "net/sse_parse.h"

enum {
    EVENT_MAX = 1 << 20,
    ANSWER_MAX = 16 << 20, /* text, reasoning, arguments and provider state together */
    STREAM_MAX = 1 << 30,  /* bytes on the wire; each token comes in a few hundred */
    FAULT_MAX = 64 << 10,  /* of the body of an error, the rest is not looked at */
    MESSAGE_MAX = 500,
    DONE_GRACE_US = 250000, /* from the last event to the end of the response; then we hang up */
};

struct model_http;

/* The take functions return false when the call is over: it failed, or was cancelled by who listens. */
struct protocol {
    const char *path;      /* behind base_url */
    size_t      call_size; /* for the fuzzer; as in provider_ops */
    /* Writes the body; the request has been checked. ERR_VALIDATION when this protocol cannot say what is asked for. */
    enum err (*put_body)(struct model_http *http, const struct model_request *want, struct jw *w, struct error *error);
    bool (*take_event)(struct model_http *http, struct jv event);  /* an object that is no error; strings go to scratch */
    bool (*take_whole)(struct model_http *http, struct jv answer); /* an answer that is not streamed */
    /* All has come: last words on http->answer. NULL: none. false: the call has failed. */
    bool (*finish)(struct model_http *http);
};

enum body_mode { BODY_STREAM, BODY_JSON, BODY_FAULT };

struct model_http {
    struct model_call      call; /* first */
    const struct protocol *protocol;
    struct http_call      *http;
    struct loop_timer      grace;
    enum body_mode         mode;
    bool                   head, done;  /* the head has come; the protocol's sign of the end has come */
    int                    status;
    int64_t                retry_after_ms; /* -1: not told */
    char                   retry_ms_text[32]; /* the header retry-after-ms */
    struct sse_parser      sse;
    struct arena           scratch; /* of one event */
    struct buf             body;    /* BODY_JSON, BODY_FAULT */
    struct answer          answer;  /* answer.finish: the end of the answer has come */
    size_t                 answer_bytes;
};

enum err model_http_start(struct model_call *call, const struct protocol *protocol, struct jv request, struct error *error);
void     model_http_close(struct model_call *call);
void     model_http_release(struct model_call *call);

/* ---- for protocols, inside their take functions ---- */

/* Hands a piece on and keeps it in `keep`. */
bool model_http_text(struct model_http *http, enum model_chunk_kind kind, struct span text, struct buf *keep);
/* Counts bytes that are kept but not handed on. */
bool model_http_count(struct model_http *http, size_t bytes);
/* The last event: what follows is not looked at. Returns false, as nothing more is to be read. */
bool model_http_done(struct model_http *http);
/* These fail the call and return false. */
bool model_http_fail(struct model_http *http, struct failure failure);
bool model_http_bad(struct model_http *http, const char *message); /* it does not keep to the protocol */
bool model_http_fault(struct model_http *http, struct jv error);   /* an error in the provider's words */

extern const struct protocol protocol_openai_chat, protocol_openai_responses, protocol_anthropic;

/* ---- the response; called by the client, and by the fuzzer in its place ---- */
void model_http_init(struct model_http *http, const struct protocol *protocol);
void model_http_on_head(void *user, int status, struct span content_type, int64_t retry_after_s);
void model_http_on_data(void *user, struct span data);
void model_http_on_done(void *user, enum err err, const struct error *error);
