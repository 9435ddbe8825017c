/* SPDX-License-Identifier: Apache-2.0 */
/* provider.h - what a kind of provider is made of (inner header of src/model).
 *
 * A kind is one `struct provider_ops` in the table of models.c. models.c owns the life of a call: it checks the request,
 * makes the call, and frees it once it has ended or was cancelled and none of the provider's own functions is running any
 * more. A provider turns a request into work on the loop and hands chunks and the end back through call_chunk and call_end.
 *
 * Everything that calls back runs between call_enter and call_leave, because on_chunk may cancel the call: it is closed at
 * once, but its memory stays until call_leave. */
#pragma once
#include "base/fields.h"
#include "model/model.h"
#include "model/request.h"

struct provider;
struct provider_ops;

/* ---- providers ---- */

enum { SECRETS_MAX = 16, HEADERS_MAX = 32 };

struct provider_http {
    struct span base_url;    /* without a slash at its end */
    const char *headers[HEADERS_MAX + 4]; /* "Name: value", NULL-terminated: the configured ones and the key */
    struct span secrets[SECRETS_MAX];     /* never to be seen in a message */
    size_t      secret_count;
    uint32_t    connect_timeout_ms, idle_timeout_ms; /* 0: the client's default */
    const char *missing_key; /* what is wrong with the configured key, or NULL */
    bool        whole;                 /* "stream": false; answers are asked for in one piece */
    bool        max_completion_tokens; /* openai-chat: the name of the limit that newer models of OpenAI want */
    bool        thinking_budget;       /* anthropic: reasoning by a budget of tokens, for models that know no effort */
};

struct provider {
    struct span                name;
    const struct provider_ops *ops;
    struct provider_http       http; /* of kinds with http_path */
    struct provider           *next;
};

struct provider_ops {
    const char *kind;
    const char *fixed_name; /* exists always, under this name, and cannot be configured; NULL: a kind of --config */
    bool        resumable;
    size_t      call_size;  /* of the provider's call, which begins with a struct model_call */
    const char *check_path; /* what a GET is sent to by models_check, behind base_url; NULL: nothing to ask */
    const char *key_header; /* what stands before the key */
    const char *version_header; /* "Name: value" that is sent unless `headers` of the configuration have that name; or NULL */
    /* `request` is an object in a document that lives as long as the call, as do spans in call->arena. Calls nothing back.
     * When it fails, close is not called, but release is. */
    enum err (*start)(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error);
    void (*close)(struct model_call *call);   /* sockets and timers; exactly once after a successful start */
    void (*release)(struct model_call *call); /* memory outside the arena; accepts a half-started call. NULL: nothing */
};

extern const struct provider_ops provider_scripted, provider_emit, provider_openai_chat, provider_openai_responses,
    provider_anthropic;

/* ---- calls ---- */

struct model_call {
    struct models      *models;
    struct loop        *loop;
    struct http_client *client;
    struct provider    *provider;
    struct model_call  *prev, *next;
    struct span         model;
    uint32_t            attempt; /* from 1 */
    struct arena        arena;
    unsigned            busy;   /* depth of call_enter */
    bool                closed; /* no callback any more */
    void (*on_chunk)(void *user, enum model_chunk_kind kind, struct span text);
    void (*on_end)(void *user, enum err err, struct span result);
    void *user;
};

void call_enter(struct model_call *call);
void call_leave(struct model_call *call); /* may free the call */
/* false: the call was cancelled meanwhile; go home without touching anything but the memory of the call. */
bool call_chunk(struct model_call *call, enum model_chunk_kind kind, struct span text);
/* Ends the call: `close` is called, then on_end. `result` is copied by nobody; it may lie in the call. */
void call_end(struct model_call *call, enum err err, struct span result);

/* ---- failures: the error object of agent-runs.md 3.2, without node members ---- */

struct failure {
    const char *code, *category; /* from tables; code may be a text of the provider's, too */
    const char *source;          /* "provider" unless set */
    bool        retryable;
    struct span message, provider_code; /* provider_code: left out when empty */
    int64_t     retry_after_ms;         /* left out below 0 */
};

void failure_to_json(const struct failure *failure, struct buf *out);
/* Ends the call with it. The class is always ERR_MODEL, live and when it is read back from a record: what kind of failure it
 * was is the category's business. */
void provider_fail(struct model_call *call, const struct failure *failure);

/* ---- pace: chunks that are due one by one (scripted, core.emit) ---- */

struct pace {
    struct model_call *call;
    struct loop_timer  timer;
    uint64_t           interval_us, start_us;
    uint64_t           first, next, count; /* chunks are numbered over the whole call, also when it goes on at `first` */
    bool               running;
    void (*emit)(struct model_call *call, uint64_t index); /* one chunk, in order */
    void (*end)(struct model_call *call);                  /* behind the last one */
};

enum { PACE_SLICE = 64, PACE_INTERVAL_MAX = 3600000 };

/* Chunk k is due at start + (k - first) * interval, whatever happened to the ones before it: a loop that was late catches up,
 * at most PACE_SLICE chunks a round, so that followers get their turn. The clock starts in the next round. */
void pace_start(struct pace *pace, struct model_call *call, uint64_t first, uint64_t count, uint64_t interval_ms);
/* Behind pace_start: the clock starts so much later. */
void pace_delay(struct pace *pace, uint64_t ms);
void pace_stop(struct pace *pace);

/* ---- inner doors ---- */

/* provider_config.c: reads one member of "providers"; texts go to `arena`. */
enum err provider_configure(struct provider *provider, struct jv config, const char *pointer, struct arena *arena,
                            const struct provider_ops *const *kinds, struct error *error);
/* Replaces the provider's secrets by "***" and cuts at `max` bytes, on a character boundary; broken UTF-8 becomes "?".
 * The result lies in `arena`. */
struct span provider_clean_text(const struct provider *provider, struct span text, size_t max, struct arena *arena);

/* scripted_text.c: a few paragraphs about `prompt`; the same prompt, the same text. */
void     scripted_paragraphs(struct span prompt, struct buf *out);
uint64_t text_words(struct span text); /* runs of what is not white space */

/* check.c: the inside of models_check. */
struct model_check;
struct model_check_list {
    struct model_check *head;
};
void model_check_start(struct model_check_list *list, struct loop *loop, struct http_client *client,
                       const struct provider *providers,
                       void (*each)(void *user, struct span provider, enum err err, struct span detail),
                       void (*done)(void *user), void *user);
void model_checks_cancel(struct model_check_list *list);
