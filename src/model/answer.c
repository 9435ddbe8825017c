/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - collects the answer of a model, and writes it in the form of model.h. */
#include "model/answer.h"
#include "base/utf8.h"
#include <stdlib.h>

#define TOKENS_LIMIT ((int64_t)1 << 53)

void answer_done(struct answer *answer)
{
    for (size_t i = 0; i < answer->tool_count; i++) {
        buf_done(&answer->tools[i].id);
        buf_done(&answer->tools[i].name);
        buf_done(&answer->tools[i].arguments);
    }
    free(answer->tools);
    buf_done(&answer->text);
    buf_done(&answer->reasoning);
    buf_done(&answer->model);
    buf_done(&answer->response_id);
    buf_done(&answer->state);
}

struct tool_call *answer_tool(struct answer *answer, int64_t index)
{
    if (index < 0 || index >= TOOL_CALLS_MAX)
        return NULL;
    if (!answer->tools)
        answer->tools = mem_alloc(sizeof *answer->tools * TOOL_CALLS_MAX);
    if ((size_t)index >= answer->tool_count)
        answer->tool_count = (size_t)index + 1;
    return &answer->tools[index];
}

void answer_set_once(struct buf *buf, struct span text, size_t max)
{
    if (!buf->len)
        buf_put(buf, text.p, text.n < max ? text.n : utf8_cut(text.p, max));
}

/* What a provider counts is taken as it comes, as long as it can be a count. */
static int64_t tokens(int64_t told, int64_t most)
{
    return told < 0 ? 0 : told < most ? told : most;
}

void usage_from_totals(struct usage *usage, struct usage_totals totals)
{
    if (totals.input < 0 || totals.output < 0)
        return;
    int64_t input = tokens(totals.input, TOKENS_LIMIT), output = tokens(totals.output, TOKENS_LIMIT);
    int64_t cached = tokens(totals.cached, input), written = tokens(totals.written, input - cached);
    int64_t reasoning = tokens(totals.reasoning, output);
    *usage = (struct usage){ .known = true, .input = input - cached - written, .cache_read = cached, .cache_write = written,
                             .output = output - reasoning, .reasoning = reasoning };
}

void usage_to_json(const struct usage *usage, struct jw *w)
{
    int64_t input = usage->input + usage->cache_read + usage->cache_write, output = usage->output + usage->reasoning;
    jw_obj(w);
    jw_key(w, "input_tokens");  jw_i64(w, input);
    jw_key(w, "output_tokens"); jw_i64(w, output);
    jw_key(w, "total_tokens");  jw_i64(w, input + output);
    jw_key(w, "buckets");
    jw_obj(w);
    jw_key(w, "input");       jw_i64(w, usage->input);
    jw_key(w, "cache_read");  jw_i64(w, usage->cache_read);
    jw_key(w, "cache_write"); jw_i64(w, usage->cache_write);
    jw_key(w, "output");      jw_i64(w, usage->output);
    jw_key(w, "reasoning");   jw_i64(w, usage->reasoning);
    jw_end(w);
    jw_end(w);
}

/* A place that no piece ever spoke of is a gap in the numbers, and goes. */
static bool is_gap(const struct tool_call *tool)
{
    return !tool->id.len && !tool->name.len && !tool->arguments.len;
}

bool answer_tools_complete(struct answer *answer)
{
    size_t kept = 0;
    for (size_t i = 0; i < answer->tool_count; i++) {
        struct tool_call *tool = &answer->tools[i];
        if (is_gap(tool))
            continue;
        if (!tool->name.len)
            return false;
        if (!tool->id.len)
            buf_printf(&tool->id, "call-%.*s-%zu", SPAN_ARG(buf_view(&answer->response_id)), kept);
        if (kept != i) {
            answer->tools[kept] = *tool;
            *tool = (struct tool_call){ 0 };
        }
        kept++;
    }
    answer->tool_count = kept;
    return true;
}

static void put_tools(const struct answer *answer, struct jw *w)
{
    jw_arr(w);
    for (size_t i = 0; i < answer->tool_count; i++) {
        const struct tool_call *tool = &answer->tools[i];
        jw_obj(w);
        jw_key(w, "id");        jw_str(w, buf_view(&tool->id));
        jw_key(w, "name");      jw_str(w, buf_view(&tool->name));
        jw_key(w, "arguments"); jw_str(w, buf_view(&tool->arguments));
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_text(struct jw *w, const char *name, const struct buf *text)
{
    if (text->len) {
        jw_key(w, name);
        jw_str(w, buf_view(text));
    }
}

/* Some servers say "stop" although calls are to be made, and OpenAI does when one tool was forced. */
static const char *finish_of(const struct answer *answer)
{
    bool stop = !answer->finish || strcmp(answer->finish, "stop") == 0;
    return !stop ? answer->finish : answer->tool_count ? "tool_calls" : "stop";
}

void answer_to_json(const struct answer *answer, struct buf *out)
{
    struct jw w = jw_on(out);

    jw_obj(&w);
    jw_key(&w, "text");          jw_str(&w, buf_view(&answer->text));
    jw_key(&w, "finish_reason"); jw_cstr(&w, finish_of(answer));
    if (answer->usage.known) {
        jw_key(&w, "usage");
        usage_to_json(&answer->usage, &w);
    }
    put_text(&w, "model", &answer->model);
    put_text(&w, "response_id", &answer->response_id);
    if (answer->tool_count) {
        jw_key(&w, "tool_calls");
        put_tools(answer, &w);
    }
    put_text(&w, "reasoning", &answer->reasoning);
    if (answer->state.len) {
        jw_key(&w, "provider_state");
        jw_raw(&w, buf_view(&answer->state));
    }
    jw_end(&w);
}
