/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_config.c - any bytes as the configuration file's members, and as what comes from outside to the parsers behind them: URLs
 * and places of redirects (outbound.h), JSON with secrets in it (redact.h). A member is taken, or refused with its pointer. */
#include "base/redact.h"
#include "model/model.h"
#include "model/price.h"
#include "net/outbound.h"
#include "tool/tool.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct http_client *client;

static void check(enum err err, const struct error *error)
{
    assert(!err || (err == ERR_VALIDATION && error->field[0] == '/' && error->message[0]));
}

static void redaction(struct jv config, struct arena *arena)
{
    struct redact *redact = redact_new();
    struct error error = { 0 };
    redact_add(redact, SPAN("s3cr3t-word"));
    enum err err = redact_configure(redact, jv_get(config, "redact"), &error);
    check(err, &error);
    if (!err) {
        struct span clean = redact_json(redact, jv_raw(config), arena);
        assert(!jv_is(json_read(clean, arena), JSON_NONE));
        assert(!memmem(clean.p, clean.n, "s3cr3t-word", 11));
        assert(span_eq(redact_json(redact, clean, arena), clean));
    }
    redact_free(redact);
}

static void places(struct jv config, struct arena *arena)
{
    struct outbound *outbound = NULL;
    struct error error = { 0 };
    struct span host;
    struct span url = jv_string(jv_get(config, "url"), arena), to = jv_string(jv_get(config, "to"), arena);
    enum err err = outbound_new(jv_get(jv_get(config, "outbound"), "allow"), &outbound, &error);
    check(err, &error);
    if (url.n && !memchr(url.p, 0, url.n) && (!to.n || !memchr(to.p, 0, to.n))) {
        const char *text = arena_printf(arena, "%.*s", SPAN_ARG(url)).p;
        if (!outbound_url(text, arena, &host, &error)) {
            (void)outbound_allows_host(outbound, host);
            (void)outbound_allows_literal(outbound, host);
        }
        (void)outbound_join(text, arena_printf(arena, "%.*s", SPAN_ARG(to)).p, arena);
    }
    outbound_free(outbound);
}

static void registries(struct jv config)
{
    struct models *models = NULL;
    struct prices *prices = NULL;
    struct tools *tools = NULL;
    struct error error = { 0 };
    check(models_new(loop, client, jv_get(config, "providers"), &models, &error), &error);
    models_free(models);
    check(prices_new(jv_get(config, "prices"), &prices, &error), &error);
    prices_free(prices);
    check(tools_new(loop, client, jv_get(config, "tools"), jv_get(config, "mcp_servers"), &tools, &error), &error);
    tools_free(tools);
}

/* No file of the machine is read because bytes say so. */
static bool names_a_file(struct span text)
{
    return memmem(text.p, text.n, "_file", 5) || memmem(text.p, text.n, "\\u", 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = { 0 };
    struct json doc;
    struct span text = span_make(data, size);
    if (!loop && (loop_new(env_real(), NULL, &loop, NULL) || http_client_new(loop, &client, NULL)))
        abort();
    if (!json_parse(text, &(struct json_limits){ .depth = 64 }, &arena, &doc, NULL)) {
        struct jv config = json_root(&doc);
        redaction(config, &arena);
        if (jv_is(config, JSON_OBJECT)) {
            places(config, &arena);
            if (!names_a_file(text))
                registries(config);
        }
    }
    arena_done(&arena);
    return 0;
}
