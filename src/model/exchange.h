/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.h - one model call over HTTP, whatever protocol is spoken (inner header of src/model).
 *
 * A protocol says how a request is written and what an event or a whole answer means; sending, cutting the stream into
 * events, limits, errors and the end are the same for all. A provider's call begins with a struct exchange, and its ops are
 * made of exchange_start, exchange_close and exchange_release.
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

struct exchange;

/* The take functions return false when the call is over: it failed, or was cancelled by who listens. */
struct protocol {
    const char *path;      /* behind base_url */
    size_t      call_size; /* for the fuzzer; as in provider_ops */
    /* Writes the body; the request has been checked. ERR_VALIDATION when this protocol cannot say what is asked for. */
    enum err (*put_body)(struct exchange *exchange, const struct model_request *want, struct jw *w, struct error *error);
    bool (*take_event)(struct exchange *exchange, struct jv event);  /* an object that is no error; strings go to scratch */
    bool (*take_whole)(struct exchange *exchange, struct jv answer); /* an answer that is not streamed */
    /* All has come: last words on exchange->answer. NULL: none. false: the call has failed. */
    bool (*finish)(struct exchange *exchange);
};

enum body_mode { BODY_STREAM, BODY_JSON, BODY_FAULT };

struct exchange {
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

enum err exchange_start(struct model_call *call, const struct protocol *protocol, struct jv request, struct error *error);
void     exchange_close(struct model_call *call);
void     exchange_release(struct model_call *call);

/* ---- for protocols, inside their take functions ---- */

/* Hands a piece on and keeps it in `keep`. */
bool exchange_text(struct exchange *exchange, enum model_chunk_kind kind, struct span text, struct buf *keep);
/* Counts bytes that are kept but not handed on. */
bool exchange_count(struct exchange *exchange, size_t bytes);
/* The last event: what follows is not looked at. Returns false, as nothing more is to be read. */
bool exchange_done(struct exchange *exchange);
/* These fail the call and return false. */
bool exchange_fail(struct exchange *exchange, struct failure failure);
bool exchange_bad(struct exchange *exchange, const char *message); /* it does not keep to the protocol */
bool exchange_fault(struct exchange *exchange, struct jv error);   /* an error in the provider's words */

extern const struct protocol protocol_openai_chat, protocol_openai_responses, protocol_anthropic;

/* ---- the response; called by the client, and by the fuzzer in its place ---- */
void exchange_init(struct exchange *exchange, const struct protocol *protocol);
void exchange_on_head(void *user, int status, struct span content_type, int64_t retry_after_s);
void exchange_on_data(void *user, struct span data);
void exchange_on_done(void *user, enum err err, const struct error *error);
