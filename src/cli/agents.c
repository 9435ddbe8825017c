/* SPDX-License-Identifier: Apache-2.0 */
/* agents.c - brings an agent on the server to what a file says, in as few steps as are needed.
 *
 * There is no transaction over these calls. Their order makes every stop harmless: an agent is published last, so
 * that a live version is always a whole one, and applying the same file again goes on where it stopped. */
#include "cli/agents.h"
#include "base/ids.h"
#include "cli/document.h"

struct apply {
    const struct cli *cli;
    const char       *command;
    struct web       *web;
    struct arena     *arena;
    struct jv         file, name, description, metadata, definition;
};

static int ask(struct apply *a, const char *method, const char *path, struct buf *body, struct jv *ret)
{
    struct web_request request = { .method = method, .path = path, .body = body ? buf_view(body) : SPAN_NONE };
    int                code = cli_ask(a->cli, a->command, a->web, &request, a->arena, ret, NULL);
    if (body)
        buf_done(body);
    return code;
}

static const char *text_of(struct jv v, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? arena_copy(arena, text).p : NULL;
}

/* ---- the file ---- */

static int file_fail(struct apply *a, const char *path, const char *what)
{
    return cli_fail(a->cli, a->command, EXIT_USAGE, "%s: %s", path, what);
}

static int check_members(struct apply *a, const char *path)
{
    struct {
        const char    *name;
        enum json_kind kind;
        struct jv     *at;
    } members[] = { { "name", JSON_STRING, &a->name },
                    { "description", JSON_STRING, &a->description },
                    { "metadata", JSON_OBJECT, &a->metadata },
                    { "definition", JSON_OBJECT, &a->definition } };
    for (struct jv_iter it = jv_iter(a->file); jv_step(&it);) {
        size_t i = 0;
        while (i < ARRAY_LEN(members) && !jv_str_eq(it.name, members[i].name))
            i++;
        if (i == ARRAY_LEN(members))
            return cli_fail(a->cli, a->command, EXIT_USAGE,
                            "%s: /%.*s: unknown member; an agent file has name, description, "
                            "metadata and definition",
                            path, SPAN_ARG(jv_string(it.name, a->arena)));
        if (!jv_is(it.value, members[i].kind))
            return cli_fail(a->cli, a->command, EXIT_USAGE, "%s: /%s: must be %s", path, members[i].name,
                            members[i].kind == JSON_STRING ? "a string" : "an object");
        *members[i].at = it.value;
    }
    if (!jv_string(a->name, a->arena).n)
        return file_fail(a, path, "/name: is missing");
    if (!jv_is(a->definition, JSON_OBJECT))
        return file_fail(a, path, "/definition: is missing");
    return EXIT_OK;
}

/* "examples/letters.json" -> letters */
static struct span stem(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return dot && dot > name ? span_make(name, (size_t)(dot - name)) : span_of(name);
}

/* A definition alone: the agent is named as the file is. */
static struct jv wrap(struct apply *a, const char *path)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "name");
    jw_str(&w, strcmp(path, "-") == 0 ? SPAN("stdin") : stem(path));
    jw_key(&w, "definition");
    jw_raw(&w, jv_raw(a->file));
    jw_end(&w);
    struct jv file = json_read(arena_copy(a->arena, buf_view(&text)), a->arena);
    buf_done(&text);
    return file;
}

static int take_file(struct apply *a, const char *path, struct jv file)
{
    a->file = file;
    if (!jv_is(a->file, JSON_OBJECT))
        return file_fail(a, path, "must be a JSON object");
    if (!jv_is(jv_get(a->file, "format"), JSON_NONE) && jv_is(jv_get(a->file, "definition"), JSON_NONE))
        a->file = wrap(a, path);
    return check_members(a, path);
}

/* ---- looking for agents ---- */

int agent_by_name(const struct cli *cli, const char *command, struct web *web, const char *name, struct arena *arena,
                  struct jv *ret)
{
    struct jv          list;
    struct web_request request = { .path = path_query(arena, "/v1/api/agents", "name", name) };
    int                code = cli_ask(cli, command, web, &request, arena, &list, NULL);
    if (code)
        return code;
    *ret = (struct jv){ 0 };
    for (struct jv_iter it = jv_iter(jv_get(list, "items")); jv_step(&it);)
        if (jv_str_eq(jv_get(it.value, "name"), name) && !jv_str_eq(jv_get(it.value, "status"), "archived"))
            *ret = it.value;
    return EXIT_OK;
}

int agent_find(const struct cli *cli, const char *command, struct web *web, const char *name_or_id, struct arena *arena,
               struct jv *ret)
{
    struct uuid        id;
    struct web_request request = { .path = path_make(arena, "/v1/api/agents/%s", name_or_id) };
    if (uuid_parse(span_of(name_or_id), &id))
        return cli_ask(cli, command, web, &request, arena, ret, NULL);
    int code = agent_by_name(cli, command, web, name_or_id, arena, ret);
    if (code == EXIT_OK && jv_is(*ret, JSON_NONE))
        return cli_fail(cli, command, EXIT_SERVER,
                        "there is no agent named \"%s\"; see: perdure agents list, perdure agents apply FILE",
                        name_or_id);
    return code;
}

/* ---- what changed ---- */

static void patch_members(struct jv from, struct jv to, struct buf *out);

static void patch_value(struct jv from, struct jv to, struct buf *out)
{
    if (jv_is(from, JSON_OBJECT) && jv_is(to, JSON_OBJECT))
        patch_members(from, to, out);
    else
        buf_span(out, jv_raw(to));
}

static void put_name(struct buf *out, struct jv name, bool *first)
{
    if (!*first)
        buf_byte(out, ',');
    *first = false;
    buf_span(out, jv_raw(name));
    buf_byte(out, ':');
}

static void patch_members(struct jv from, struct jv to, struct buf *out)
{
    struct arena arena = { 0 };
    bool         first = true;
    buf_byte(out, '{');
    for (struct jv_iter it = jv_iter(from); jv_step(&it);) {
        if (!jv_is(jv_get_span(to, jv_string(it.name, &arena)), JSON_NONE))
            continue;
        put_name(out, it.name, &first);
        BUF_LIT(out, "null");
    }
    for (struct jv_iter it = jv_iter(to); jv_step(&it);) {
        struct jv old = jv_get_span(from, jv_string(it.name, &arena));
        if (jv_equal(old, it.value))
            continue;
        put_name(out, it.name, &first);
        patch_value(old, it.value, out);
    }
    buf_byte(out, '}');
    arena_done(&arena);
}

bool merge_patch_between(struct jv from, struct jv to, struct buf *out)
{
    if (jv_equal(from, to))
        return false;
    patch_value(from, to, out);
    return true;
}

/* ---- steps ---- */

static int create_agent(struct apply *a, struct jv *ret)
{
    struct buf body = { 0 };
    struct jw  w = jw_on(&body);
    jw_obj(&w);
    jw_key(&w, "name");
    jw_raw(&w, jv_raw(a->name));
    if (jv_is(a->description, JSON_STRING)) {
        jw_key(&w, "description");
        jw_raw(&w, jv_raw(a->description));
    }
    if (jv_is(a->metadata, JSON_OBJECT)) {
        jw_key(&w, "metadata");
        jw_raw(&w, jv_raw(a->metadata));
    }
    jw_end(&w);
    return ask(a, "POST", "/v1/api/agents", &body, ret);
}

/* What the file does not mention stays as it is. */
static int patch_agent(struct apply *a, struct jv agent, const char *agent_id, bool *ret_changed)
{
    struct buf body = { 0 }, metadata = { 0 };
    struct jw  w = jw_on(&body);
    bool       changed = false;
    jw_obj(&w);
    if (jv_is(a->description, JSON_STRING) && !jv_equal(a->description, jv_get(agent, "description"))) {
        jw_key(&w, "description");
        jw_raw(&w, jv_raw(a->description));
        changed = true;
    }
    if (jv_is(a->metadata, JSON_OBJECT) && merge_patch_between(jv_get(agent, "metadata"), a->metadata, &metadata)) {
        jw_key(&w, "metadata");
        jw_raw(&w, buf_view(&metadata));
        changed = true;
    }
    jw_end(&w);
    buf_done(&metadata);
    *ret_changed = changed;
    if (changed)
        return ask(a, "PATCH", path_make(a->arena, "/v1/api/agents/%s", agent_id), &body, NULL);
    buf_done(&body);
    return EXIT_OK;
}

static int definition_is_live(struct apply *a, struct jv agent, const char *agent_id, bool *ret)
{
    const char *bundle_id = text_of(jv_get(agent, "live_bundle_id"), a->arena);
    struct jv   bundle;
    *ret = false;
    if (!bundle_id)
        return EXIT_OK;
    int code = ask(a, "GET", path_make(a->arena, "/v1/api/agents/%s/bundles/%s", agent_id, bundle_id), NULL, &bundle);
    if (code == EXIT_OK)
        *ret = jv_equal(jv_get(bundle, "definition"), a->definition);
    return code;
}

static int publish(struct apply *a, const char *agent_id, int64_t *ret_version)
{
    struct buf body = { 0 }, empty = { 0 };
    struct jv  bundle, version;
    BUF_LIT(&body, "{\"definition\":");
    buf_span(&body, jv_raw(a->definition));
    buf_byte(&body, '}');
    int code = ask(a, "POST", path_make(a->arena, "/v1/api/agents/%s/bundles", agent_id), &body, &bundle);
    if (code)
        return code;
    const char *bundle_id = text_of(jv_get(bundle, "bundle_id"), a->arena);
    if (!bundle_id)
        return cli_fail(a->cli, a->command, EXIT_SERVER, "the server's answer has no bundle_id");
    BUF_LIT(&empty, "{}");
    code = ask(a, "POST", path_make(a->arena, "/v1/api/agents/%s/bundles/%s/publish", agent_id, bundle_id), &empty,
               &version);
    if (code == EXIT_OK)
        (void)jv_i64(jv_get(version, "version_no"), ret_version);
    return code;
}

static int bring_up_to_date(struct apply *a, struct jv agent, bool created, struct applied *result)
{
    bool patched = false, live = false;
    int  code = created ? EXIT_OK : patch_agent(a, agent, result->agent_id, &patched);
    if (code == EXIT_OK)
        code = definition_is_live(a, agent, result->agent_id, &live);
    (void)jv_i64(jv_get(agent, "live_version_no"), &result->version_no);
    if (code == EXIT_OK && !live)
        code = publish(a, result->agent_id, &result->version_no);
    result->result = created ? "created" : patched || !live ? "updated" : "unchanged";
    return code;
}

int agent_file_read(const struct cli *cli, const char *command, const char *path, struct arena *arena, struct jv *ret)
{
    struct error error;
    if (document_read(path, 64, arena, ret, &error))
        return cli_fail(cli, command, EXIT_USAGE, "%s: %s", path, error.message);
    return EXIT_OK;
}

int agent_apply(const struct cli *cli, const char *command, struct web *web, const char *path, struct jv file, struct arena *arena,
                struct applied *ret)
{
    struct apply   a = { .cli = cli, .command = command, .web = web, .arena = arena };
    struct applied result = { 0 };
    struct jv      agent = { 0 };
    int            code = take_file(&a, path, file);
    if (code)
        return code;
    result.name = text_of(a.name, arena);
    code = agent_by_name(cli, command, web, result.name, arena, &agent);
    bool created = jv_is(agent, JSON_NONE);
    if (code == EXIT_OK && created)
        code = create_agent(&a, &agent);
    if (code)
        return code;
    result.agent_id = text_of(jv_get(agent, "agent_id"), arena);
    if (!result.agent_id)
        return cli_fail(cli, command, EXIT_SERVER, "the server's answer has no agent_id");
    code = bring_up_to_date(&a, agent, created, &result);
    if (code == EXIT_OK)
        *ret = result;
    return code;
}
