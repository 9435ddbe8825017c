/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - the provider-neutral request of a model call (model/model.h says its members). */
#include "agent/state.h"

static void put_messages(const struct machine *m, struct buf *out)
{
    BUF_LIT(out, "[");
    if (m->agent->system.n) {
        BUF_LIT(out, "{\"role\":\"system\",\"content\":");
        json_put_string(out, m->agent->system);
        BUF_LIT(out, "}");
    }
    for (uint32_t i = 0; i < m->messages.count; i++) {
        if (i || m->agent->system.n)
            BUF_LIT(out, ",");
        buf_span(out, m->messages.items[i]);
    }
    BUF_LIT(out, "]");
}

/* A choice that forces a call would force one for ever: it holds for the first model call, then the model decides. A name is
 * that of the tool; the model knows it by the name it is shown. */
static void put_tool_choice(const struct machine *m, struct jw *w, struct arena *arena)
{
    struct jv choice = m->agent->tool_choice;
    if (jv_is(choice, JSON_NONE) || (m->agent->choice_forces && m->steps > 0))
        return;
    jw_key(w, "tool_choice");
    if (!jv_is(choice, JSON_OBJECT)) {
        jw_raw(w, jv_raw(choice));
        return;
    }
    jw_obj(w);
    jw_key(w, "name");
    jw_str(w, agent_shown(jv_string(jv_get(choice, "name"), arena), arena));
    jw_end(w);
}

static void put_tools(const struct machine *m, struct jw *w, struct arena *arena)
{
    if (!m->tools_json.n)
        return;
    jw_key(w, "tools");
    jw_raw(w, m->tools_json);
    put_tool_choice(m, w, arena);
    jw_key(w, "parallel_tool_calls");
    jw_bool(w, !m->agent->serial);
}

static void put_output_format(const struct agent *a, struct jw *w)
{
    if (jv_is(a->schema, JSON_NONE))
        return;
    jw_key(w, "output_format");
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, "json_schema");
    jw_key(w, "name");
    jw_str(w, a->schema_name);
    jw_key(w, "schema");
    jw_raw(w, jv_raw(a->schema));
    jw_end(w);
}

static void put_settings(const struct agent *a, struct jw *w)
{
    static const char *const passed[] = { "max_tokens", "temperature", "stop", "reasoning_effort", "script" };
    for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
        struct jv v = jv_get(a->settings, passed[i]);
        if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL))
            continue;
        jw_key(w, passed[i]);
        jw_raw(w, jv_raw(v));
    }
}

struct span agent_request_make(const struct machine *m, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    CLEANUP(buf_done) struct buf messages = { 0 };
    struct jw w = jw_on(&text);

    put_messages(m, &messages);
    jw_obj(&w);
    jw_key(&w, "messages");
    jw_raw(&w, buf_view(&messages));
    put_tools(m, &w, arena);
    put_output_format(m->agent, &w);
    put_settings(m->agent, &w);
    jw_end(&w);
    return arena_copy(arena, buf_view(&text));
}
