/* SPDX-License-Identifier: Apache-2.0 */
/* issues.c - collects everything that is wrong with a request, so that a caller can mend it in one go (AR 2.5). */
#include "base/json.h"
#include "base/utf8.h"
#include <stdio.h>

PRINTF(2, 0) static struct span print_message(struct arena *arena, const char *format, va_list args)
{
    char   text[512]; /* a sentence; what is longer is cut */
    int    n = vsnprintf(text, sizeof text, format, args);
    size_t length = n < 0 ? 0 : (size_t)n;
    if (length >= sizeof text)
        length = utf8_cut(text, sizeof text - 1);
    return arena_copy(arena, span_make(text, length));
}

/* The place for one more, or NULL when the list is full; it is counted all the same. */
static struct issue *next_issue(struct issues *issues)
{
    if (!issues->items)
        issues->items = ARENA_ARRAY(issues->arena, struct issue, ISSUES_MAX);
    return issues->count++ < ISSUES_MAX ? &issues->items[issues->count - 1] : NULL;
}

void issue_add(struct issues *issues, struct span pointer, const char *code, const char *format, ...)
{
    struct issue *issue = next_issue(issues);
    if (!issue)
        return;
    va_list args;
    va_start(args, format);
    *issue = (struct issue){ .pointer = arena_copy(issues->arena, pointer),
                             .code = arena_copy(issues->arena, span_of(code)),
                             .message = print_message(issues->arena, format, args) };
    va_end(args);
}

void issue_add_parameter(struct issues *issues, const char *parameter, const char *code, const char *format, ...)
{
    struct issue *issue = next_issue(issues);
    if (!issue)
        return;
    va_list args;
    va_start(args, format);
    *issue = (struct issue){ .parameter = arena_copy(issues->arena, span_of(parameter)),
                             .code = arena_copy(issues->arena, span_of(code)),
                             .message = print_message(issues->arena, format, args) };
    va_end(args);
}

void issues_to_json(const struct issues *issues, struct jw *w)
{
    size_t kept = issues->count < ISSUES_MAX ? issues->count : ISSUES_MAX;
    jw_arr(w);
    for (size_t i = 0; i < kept; i++) {
        const struct issue *issue = &issues->items[i];
        jw_obj(w);
        jw_key(w, issue->parameter.n ? "parameter" : "pointer");
        jw_str(w, issue->parameter.n ? issue->parameter : issue->pointer);
        jw_key(w, "code");
        jw_str(w, issue->code);
        jw_key(w, "message");
        jw_str(w, issue->message);
        jw_end(w);
    }
    jw_arr_end(w);
}
