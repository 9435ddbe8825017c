/* SPDX-License-Identifier: Apache-2.0 */
/* follow.h - follows one attempt of a run until it ends, through any number of lost connections (agent-runs.md 5.3
 * to 5.5).
 *
 * The follower owns nothing but a cursor: the seq it wants next. Every event is handed on exactly once and in order:
 * what the server sends again is dropped, a gap is a reason to connect anew. It behaves like `follow` of the
 * published client, except that a refused connection, which is what a restarting server looks like, is tried again
 * within a second. */
#pragma once
#include "cli/http.h"

enum follow_end {
    FOLLOW_TERMINAL, /* the attempt's last event was handed on */
    FOLLOW_STOPPED,  /* on_event said so */
    FOLLOW_SIGNAL,   /* wake_fd */
    FOLLOW_DEADLINE,
    FOLLOW_AUTH,     /* 401 or 403 */
    FOLLOW_REFUSED,  /* an answer that no second try can change: 400, 404, 410, 422 */
    FOLLOW_LOST,     /* no contact for patience_ms */
};

enum follow_note { FOLLOW_CONNECTED, FOLLOW_CUT };

struct follow {
    const char *run_id, *attempt_id;
    uint64_t    next_seq;     /* in: where to begin, 0 or 1 is the start; out: where to go on */
    uint32_t    patience_ms;  /* 0: five minutes */
    uint64_t    deadline_us;  /* monotonic; 0: none */
    int         wake_fd;      /* -1: none */
    uint32_t    tick_ms;      /* 0: no ticks */
    /* `text` is the event as received, `event` the same parsed; both valid during the call. false: stop here. */
    bool (*on_event)(void *user, struct span text, struct jv event);
    /* The connection was lost (why, and how long until the next try) or is there again. */
    void (*on_note)(void *user, enum follow_note note, const char *why, uint32_t retry_ms);
    void (*on_tick)(void *user);
    void *user;
    struct error error;       /* for AUTH, REFUSED and LOST */
};

enum follow_end follow_attempt(struct web *web, struct follow *follow);

/* RUN_FINISHED, RUN_FAILED or RUN_CANCELLED in any case (CB2). */
bool follow_is_terminal(struct jv event);

/* How long to wait before try number `tries` (1 …) in a row. `jitter` is a random number. Exposed for its test. */
uint32_t follow_delay_ms(unsigned tries, bool refused, uint32_t jitter);
