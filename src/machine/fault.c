/* SPDX-License-Identifier: Apache-2.0 */
/* fault.c - error objects: read from those that came with a failed call, and written. */
#include "machine/fault.h"

bool fault_is_category(struct jv v)
{
    static const char *const categories[] = { "validation", "auth", "not_found", "conflict", "rate_limit", "timeout", "network",
                                              "provider", "tool", "model", "budget", "human", "replay", "infrastructure",
                                              "cancelled", "internal" };
    for (size_t i = 0; i < ARRAY_LEN(categories); i++)
        if (jv_str_eq(v, categories[i]))
            return true;
    return false;
}

static const char *category_of(enum err err)
{
    switch (err) {
    case ERR_BUDGET: return "budget";
    case ERR_TIMEOUT: return "timeout";
    case ERR_CANCELLED: return "cancelled";
    case ERR_RATE_LIMITED: return "rate_limit";
    case ERR_TOOL: return "tool";
    default: return "model";
    }
}

static struct span text_or(struct jv v, const char *def, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? text : span_of(def);
}

struct fault fault_told(enum err err, struct span error_text, const char *source, struct arena *arena)
{
    const struct err_info *info = err_info(err);
    struct jv error = json_read(error_text, arena), code = jv_get(error, "provider_code");
    struct jv category = jv_get(error, "category");

    return (struct fault){
        .code = text_or(jv_get(error, "code"), info->ar_code, arena),
        .category = fault_is_category(category) ? jv_string(category, arena) : span_of(category_of(err)),
        .message = text_or(jv_get(error, "message"), info->title, arena),
        .source = text_or(jv_get(error, "source"), source, arena),
        .provider_code = jv_is(code, JSON_NONE) || jv_is(code, JSON_NULL) ? SPAN_NONE : json_minified(code, arena),
        .retryable = jv_bool(jv_get(error, "retryable"), info->retryable),
    };
}

void fault_to_json(const struct fault *fault, struct span node, struct buf *out)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "code");
    jw_str(&w, fault->code);
    jw_key(&w, "category");
    jw_str(&w, fault->category);
    jw_key(&w, "message");
    jw_str(&w, fault->message);
    jw_key(&w, "retryable");
    jw_bool(&w, fault->retryable);
    jw_key(&w, "source");
    jw_str(&w, fault->source);
    if (fault->provider_code.n) {
        jw_key(&w, "provider_code");
        jw_raw(&w, fault->provider_code);
    }
    if (node.n) {
        jw_key(&w, "node");
        jw_str(&w, node);
    }
    jw_end(&w);
}
