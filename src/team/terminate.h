/* SPDX-License-Identifier: Apache-2.0 */
/* terminate.h - when a team stops before its protocol is complete, and what it says about it (teams.md 10). */
#pragma once
#include "base/json.h"

struct team_cost {
    double usd, input_tokens, output_tokens, total_tokens; /* sums of doubles in turn order (teams.md 2.5) */
};
void team_cost_to_json(const struct team_cost *cost, struct jw *w); /* {"usd","inputTokens","outputTokens","totalTokens"} */
void team_cost_read(struct jv cost, struct team_cost *ret);         /* absent members are 0 */

/* What a condition is held against. */
struct team_context {
    struct span      protocol;       /* "sequential" … */
    struct team_cost cost;
    double           iteration;      /* transcript length */
    double           elapsed_ms;
    double           floor, progress; /* minTurns or minRounds (0: none) and how far the protocol is (teams.md 10.5) */
    size_t           entries;        /* transcript length */
    struct span (*output)(const void *user, size_t index); /* of a transcript entry */
    const void      *user;
    struct jv        judge;          /* a judge's decision, or absent: never inside a run */
    struct jv        quality;        /* number or absent */
};

struct team_verdict {
    bool        stop;
    struct jv   condition;           /* what was asked, or, on a stop, the innermost condition that fired */
    const char *reason, *normalized; /* on a stop */
    const char *budget_reason, *judge_reason; /* or NULL */
    struct span detail;              /* JSON */
};

/* evaluateTermination. Texts of the verdict live in `arena` or in the condition's document. */
void team_evaluate(struct jv condition, const struct team_context *context, struct arena *arena, struct team_verdict *ret);
void team_verdict_to_json(const struct team_verdict *verdict, struct jw *w);
/* evaluateTerminationStop: false when nothing fires; else *ret_verdict and the stop record as JSON in *ret_record. */
bool team_stop(struct jv condition, const struct team_context *context, struct arena *arena, struct team_verdict *ret_verdict,
               struct span *ret_record);
/* combineTerminationDecisions over a JSON array of decisions; absent when it is empty. */
struct jv team_combine(struct jv decisions);
/* 0..1, of two outputs (teams.md 10.3). */
double team_similarity(struct span a, struct span b);

/* ---- caps ---- */

enum team_cap { CAP_USD, CAP_TOKENS, CAP_ITERATIONS, CAP_TIMEOUT, CAP_COUNT };
struct team_caps {
    bool   has[CAP_COUNT];
    double value[CAP_COUNT];
};
/* Lowers `caps` by the members of `limits`: budget caps, or a condition through firstOf. Absent: nothing happens. */
void team_caps_add(struct team_caps *caps, struct jv limits);

/* ---- wrap-up hint (teams.md 10.7) ---- */

/* Does the hint fire now? The text (without the host's own) is made by team_hint_text. */
bool team_hint_fires(struct jv hint, const struct team_caps *caps, double iteration, double elapsed_ms);
void team_hint_text(struct jv hint, const struct team_caps *caps, double iteration, double elapsed_ms, struct buf *out);
