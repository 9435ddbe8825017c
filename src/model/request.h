/* SPDX-License-Identifier: Apache-2.0 */
/* request.h - the provider-neutral request of model.h, checked once for all kinds (inner header of src/model).
 *
 * After request_read the readers below cannot meet a value of the wrong type. */
#pragma once
#include "base/fields.h"

/* Members that were not sent are absent, texts empty. */
struct model_request {
    struct jv   messages, tools, tool_choice, output_format, stop, metadata, script;
    struct jv   max_tokens, temperature;
    struct jv   parallel_tool_calls; /* true, false or absent */
    struct span reasoning_effort;
};

/* ERR_VALIDATION names the member by its JSON pointer in the request. Unknown members are errors. Texts lie in the request's
 * document or in `arena`. */
enum err request_check(struct jv request, struct arena *arena, struct model_request *ret, struct error *error);

struct message {
    struct span role, name, tool_call_id;
    struct jv   content; /* a string, an array of parts, or absent */
    struct jv   tool_calls, provider_state;
    bool        is_error;
};
struct part {
    bool        is_file;
    struct span text, data, mime, filename; /* data: base64 */
};
struct tool_call_want {
    struct span id, name, arguments;
};
struct tool_want {
    struct span name, description;
    struct jv   parameters;
};
struct format_want {
    struct span type, name, description;
    struct jv   schema, strict;
};

struct message        message_read(struct jv message, struct arena *arena);
struct part           part_read(struct jv part, struct arena *arena);
struct tool_call_want tool_call_read(struct jv call, struct arena *arena);
struct tool_want      tool_read(struct jv tool, struct arena *arena);
struct format_want    format_read(struct jv format, struct arena *arena);
/* All text of a message: its parts joined by LF. In the document or the arena. */
struct span           content_text(struct jv content, struct arena *arena);
bool                  content_is_empty(struct jv content);
bool                  mime_is(struct span mime, const char *prefix); /* "image/": begins with it */
/* The data of a file part as an URL, in `arena`. */
struct span           data_url(const struct part *part, struct arena *arena);
/* A JSON value as it came, without white space. */
void                  put_json(struct jw *w, struct jv value);
