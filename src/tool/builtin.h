/* SPDX-License-Identifier: Apache-2.0 */
/* builtin.h - the built-in tools of teams: what their input must be, what a search backend may answer (teams.md 12.4).
 *
 * Pure functions, no I/O. The manifests' identities and messages are wire data. */
#pragma once
#include "base/json.h"

enum { LANGUAGE_COUNT = 5 };
extern const char *const builtin_languages[LANGUAGE_COUNT]; /* javascript, typescript, python, bash, shell */

/* What a code adapter of the configuration narrows. */
struct code_limits {
    unsigned languages;          /* bit i: builtin_languages[i] is enabled */
    int64_t  default_timeout_ms; /* 0: none */
    int64_t  max_timeout_ms;     /* 0: none */
};

/* {"type":"valid"}, or {"type":"invalid","issues":[{"code","path","message","detail"?}…]} with all issues in the order of the table.
 * Returns whether it is valid. `limits` may be NULL: nothing is narrowed. */
bool web_search_check(struct jv input, struct buf *out);
bool code_exec_check(struct jv input, const struct code_limits *limits, struct buf *out);
/* {"identity","inputSchema","permissions"}; code_exec: with the enabled languages. */
void web_search_manifest(struct buf *out);
void code_exec_manifest(const struct code_limits *limits, struct buf *out);

/* The URL of one search: `q` and `limit` are set in the query of `endpoint`, other parameters stay. In the arena. */
const char *web_search_url(struct span endpoint, struct jv input, int64_t default_limit, struct arena *arena);
/* A refusal of teams.md 12.3: an error of a tool that is worth more than a text. */
struct builtin_error {
    const char *code;      /* "unavailable", "backend-error" */
    char        message[128];
    bool        retryable;
    int         status;    /* with a status: detail {status, statusText} */
};
/* From the backend's answer to {"results":[{"title","url","snippet"?,"metadata"?}…]}; false: `error` says what is wrong, `out` is as
 * it was. `body` is the parsed answer, absent when it is no JSON. */
bool web_search_result(int status, struct jv body, struct buf *out, struct builtin_error *error);
/* {"stdout","stderr","exitCode","metadata"?} of a sandbox; false when the answer is something else. */
bool code_exec_result(struct jv body, struct buf *out);
