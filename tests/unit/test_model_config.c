/* SPDX-License-Identifier: Apache-2.0 */
/* test_model_config.c - which "providers" of --config are accepted, and that the member which is wrong is named. */
#include "unit.h"
#include "model/provider.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    struct loop        *loop;
    struct http_client *client;
    struct arena        arena;
};

static int set_up(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    if (loop_new(env_real(), NULL, &f->loop, NULL) || http_client_new(f->loop, &f->client, NULL))
        return -1;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_client_free(f->client);
    loop_free(f->loop);
    arena_done(&f->arena);
    free(f);
    return 0;
}

static enum err configure(struct fixture *f, const char *config, struct models **ret, struct error *error)
{
    struct jv value = json_read(span_of(config), &f->arena);
    assert_true(!*config || jv_kind(value) != JSON_NONE);
    return models_new(f->loop, f->client, value, ret, error);
}

static void the_built_in_ones_are_always_there(void **state)
{
    static const char *const configs[] = { "", "null", "{}" };
    for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
        struct models *models = NULL;
        assert_int_equal(configure(*state, configs[i], &models, NULL), ERR_OK);
        assert_true(models_has(models, SPAN("scripted")));
        assert_true(models_has(models, SPAN("core.emit")));
        assert_false(models_has(models, SPAN("openai-chat")));
        assert_true(model_resumable(models, SPAN("scripted")));
        assert_true(model_resumable(models, SPAN("core.emit")));
        assert_false(model_resumable(models, SPAN("nobody")));
        models_free(models);
    }
}

static void a_full_configuration_is_accepted(void **state)
{
    struct models *models = NULL;
    assert_int_equal(configure(*state,
                               "{\"local\": {\"kind\": \"openai-chat\", \"base_url\": \"http://127.0.0.1:8080/v1/\"},"
                               " \"big.one\": {\"kind\": \"openai-chat\", \"base_url\": \"https://example.com\","
                               " \"api_key_env\": \"NO_SUCH_KEY\", \"connect_timeout_ms\": 1, \"idle_timeout_ms\": 60000,"
                               " \"headers\": {\"X-Title\": \"a b\"}}}",
                               &models, NULL),
                     ERR_OK);
    assert_true(models_has(models, SPAN("local")));
    assert_true(models_has(models, SPAN("big.one")));
    assert_false(model_resumable(models, SPAN("local")));
    models_free(models);
}

#define ONE(rest) "{\"p\": {\"kind\": \"openai-chat\", \"base_url\": \"http://h\"" rest "}}"
#define URL(url)  "{\"p\": {\"kind\": \"openai-chat\", \"base_url\": \"" url "\"}}"

static void dialects_belong_to_their_kinds(void **state)
{
    static const struct {
        const char *kind, *member, *field;
    } cases[] = {
        { "openai-chat", "\"max_tokens_name\":\"max_completion_tokens\",\"stream\":false", NULL },
        { "anthropic", "\"thinking\":\"budget\",\"headers\":{\"Authorization\":\"x\"}", NULL },
        { "openai-responses", "\"stream\":true", NULL },
        { "openai-responses", "\"max_tokens_name\":\"max_tokens\"", "/providers/p/max_tokens_name" },
        { "openai-chat", "\"max_tokens_name\":\"limit\"", "/providers/p/max_tokens_name" },
        { "openai-chat", "\"thinking\":\"budget\"", "/providers/p/thinking" },
        { "anthropic", "\"thinking\":\"deep\"", "/providers/p/thinking" },
        { "anthropic", "\"stream\":1", "/providers/p/stream" },
        { "anthropic", "\"api_key_env\":\"K\",\"headers\":{\"X-Api-Key\":\"x\"}", "/providers/p/headers/X-Api-Key" },
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct models *models = NULL;
        struct error   error = { 0 };
        struct span    config = arena_printf(&f->arena, "{\"p\":{\"kind\":\"%s\",\"base_url\":\"http://h\",%s}}", cases[i].kind, cases[i].member);
        assert_int_equal(configure(f, config.p, &models, &error), cases[i].field ? ERR_VALIDATION : ERR_OK);
        assert_string_equal(error.field, cases[i].field ? cases[i].field : "");
        models_free(models);
    }
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *config, *field;
    } cases[] = {
        { "[]", "/providers" },
        { "{\"p\": 1}", "/providers/p" },
        { "{\"\": {}}", "/providers/" },
        { "{\"a b\": {}}", "/providers/a b" },
        { "{\"a/b\": {}}", "/providers/a~1b" },
        { "{\"scripted\": {\"kind\": \"openai-chat\", \"base_url\": \"http://h\"}}", "/providers/scripted" },
        { "{\"core.emit\": {}}", "/providers/core.emit" },
        { "{\"p\": {\"base_url\": \"http://h\"}}", "/providers/p/kind" },
        { "{\"p\": {\"kind\": \"openai\", \"base_url\": \"http://h\"}}", "/providers/p/kind" },
        { "{\"p\": {\"kind\": \"scripted\", \"base_url\": \"http://h\"}}", "/providers/p/kind" },
        { "{\"p\": {\"kind\": 1, \"base_url\": \"http://h\"}}", "/providers/p/kind" },
        { "{\"p\": {\"kind\": \"openai-chat\"}}", "/providers/p/base_url" },
        { "{\"p\": {\"kind\": \"openai-chat\", \"base_url\": null}}", "/providers/p/base_url" },
        { URL("ftp://h"), "/providers/p/base_url" },
        { URL("http://"), "/providers/p/base_url" },
        { URL("http:///v1"), "/providers/p/base_url" },
        { URL("http://h/v1?x=1"), "/providers/p/base_url" },
        { URL("http://h/#x"), "/providers/p/base_url" },
        { URL("http://h/a b"), "/providers/p/base_url" },
        { URL("http://me:secret@h/"), "/providers/p/base_url" },
        { URL("http://h\\r\\nX: y"), "/providers/p/base_url" },
        { ONE(", \"api_key\": \"sk-1\""), "/providers/p/api_key" },
        { ONE(", \"api_key_env\": \"A\", \"api_key_file\": \"b\""), "/providers/p/api_key_file" },
        { ONE(", \"api_key_env\": \"A\\u0000B\""), "/providers/p/api_key_env" },
        { ONE(", \"connect_timeout_ms\": 0"), "/providers/p/connect_timeout_ms" },
        { ONE(", \"connect_timeout_ms\": 1.5"), "/providers/p/connect_timeout_ms" },
        { ONE(", \"idle_timeout_ms\": \"1\""), "/providers/p/idle_timeout_ms" },
        { ONE(", \"idle_timeout_ms\": 86400001"), "/providers/p/idle_timeout_ms" },
        { ONE(", \"headers\": []"), "/providers/p/headers" },
        { ONE(", \"headers\": {\"a b\": \"c\"}"), "/providers/p/headers/a b" },
        { ONE(", \"headers\": {\"X\": 1}"), "/providers/p/headers/X" },
        { ONE(", \"headers\": {\"X\": \"a\\nY: b\"}"), "/providers/p/headers/X" },
        { ONE(", \"headers\": {\"content-LENGTH\": \"1\"}"), "/providers/p/headers/content-LENGTH" },
        { ONE(", \"headers\": {\"Authorization\": \"x\"}, \"api_key_env\": \"A\""), "/providers/p/headers/Authorization" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct models *models = NULL;
        struct error   error = { .code = ERR_OK };
        assert_int_equal(configure(*state, cases[i].config, &models, &error), ERR_VALIDATION);
        assert_null(models);
        assert_string_equal(error.field, cases[i].field);
        assert_true(error.message[0] != 0);
        assert_null(strstr(error.message, "sk-1"));
    }
}

static struct provider configured(struct fixture *f, const char *config)
{
    static const struct provider_ops *const kinds[] = { &provider_openai_chat, NULL };
    struct provider provider = { .name = SPAN("p") };
    assert_int_equal(provider_configure(&provider, json_read(span_of(config), &f->arena), "/providers/p", &f->arena, kinds, NULL),
                     ERR_OK);
    return provider;
}

static void a_key_comes_from_the_environment(void **state)
{
    setenv("PERDURE_TEST_KEY", "  sk-from-env\n", 1);
    struct provider p = configured(*state, "{\"kind\": \"openai-chat\", \"base_url\": \"http://h/v1//\", \"headers\":"
                                           " {\"X-A\": \"1\", \"X-Api-Key\": \"hush-hush\"}, \"api_key_env\": \"PERDURE_TEST_KEY\"}");
    assert_true(span_is(p.http.base_url, "http://h/v1"));
    assert_string_equal(p.http.headers[0], "X-A: 1");
    assert_string_equal(p.http.headers[1], "X-Api-Key: hush-hush");
    assert_string_equal(p.http.headers[2], "Authorization: Bearer sk-from-env");
    assert_null(p.http.headers[3]);
    assert_null(p.http.missing_key);

    struct fixture *f = *state;
    struct span     clean = provider_clean_text(&p, SPAN("key sk-from-env and hush-hush, X-A: 1"), 500, &f->arena);
    assert_true(span_is(clean, "key *** and ***, X-A: 1"));
    unsetenv("PERDURE_TEST_KEY");
    p = configured(*state, "{\"kind\": \"openai-chat\", \"base_url\": \"http://h\", \"api_key_env\": \"PERDURE_TEST_KEY\"}");
    assert_null(p.http.headers[0]);
    assert_string_equal(p.http.missing_key, "the environment variable PERDURE_TEST_KEY is not set");
}

static void a_key_comes_from_a_file(void **state)
{
    char            path[] = "/tmp/perdure-key-XXXXXX", config[256];
    int             fd = mkstemp(path);
    struct provider p;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "sk-from-file\n", 13), 13);
    snprintf(config, sizeof config, "{\"kind\": \"openai-chat\", \"base_url\": \"http://h\", \"api_key_file\": \"%s\"}", path);
    p = configured(*state, config);
    assert_string_equal(p.http.headers[0], "Authorization: Bearer sk-from-file");

    assert_int_equal(pwrite(fd, "two\nlines\n", 10, 0), 10);
    p = configured(*state, config);
    assert_null(p.http.headers[0]);
    assert_non_null(strstr(p.http.missing_key, "holds no key"));
    close(fd);
    unlink(path);
    p = configured(*state, config);
    assert_null(p.http.headers[0]);
    assert_non_null(strstr(p.http.missing_key, "cannot be read"));
}

static void texts_of_providers_are_bounded_and_well_formed(void **state)
{
    struct fixture *f = *state;
    struct provider p = { .name = SPAN("p") };
    assert_true(span_is(provider_clean_text(&p, SPAN("a\xff" "b\xed\xa0\x80"), 500, &f->arena), "a?b???"));
    assert_true(span_is(provider_clean_text(&p, SPAN("\xc3\xbc\xc3\xbc"), 3, &f->arena), "\xc3\xbc"));
    assert_true(span_is(provider_clean_text(&p, SPAN("\xc3\xbc\xc3\xbc"), 4, &f->arena), "\xc3\xbc\xc3\xbc"));
    assert_int_equal(provider_clean_text(&p, SPAN_NONE, 4, &f->arena).n, 0);
}

static void no_call(void *user, enum err err, struct span result)
{
    fail_msg("a call that was refused has ended");
}

static void unusable_requests_are_refused(void **state)
{
    static const struct {
        const char *provider, *model, *request, *field;
    } cases[] = {
        { "nobody", "m", "{}", "/provider" },
        { "p", "", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "/model" },
        { "p", "m", "{", "" },
        { "p", "m", "[]", "" },
        { "p", "m", "{}", "/messages" },
        { "p", "m", "{\"messages\":[]}", "/messages" },
        { "p", "m", "{\"messages\":[1]}", "/messages/0" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\"},{\"content\":\"x\"}]}", "/messages/1/role" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\"}],\"script\":{}}", "/script" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\"}],\"max_tokens\":0}", "/max_tokens" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\"}],\"max_tokens\":1.5}", "/max_tokens" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\"}],\"temperature\":\"hot\"}", "/temperature" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\"}],\"nonsense\":1}", "/nonsense" },
        { "p", "m", "{\"messages\":[{\"role\":\"developer\",\"content\":\"x\"}]}", "/messages/0/role" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":1}]}", "/messages/0/content" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", "/messages/0/content/0/type" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"file\","
          "\"file\":{\"mime_type\":\"a/b\"}}]}]}", "/messages/0/content/0/file/data_base64" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"file\","
          "\"file\":{\"data_base64\":\"\",\"mime_type\":\"a b\"}}]}]}", "/messages/0/content/0/file/mime_type" },
        { "p", "m", "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "/messages/0/tool_call_id" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"tool_call_id\":\"c\"}]}", "/messages/0/tool_call_id" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"tool_calls\":[]}]}", "/messages/0/tool_calls" },
        { "p", "m", "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"name\":\"f\","
          "\"arguments\":{}}]}]}", "/messages/0/tool_calls/0/arguments" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"name\":\"f\"}]}", "/tools/0/parameters" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tool_choice\":\"always\"}", "/tool_choice" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tool_choice\":{}}", "/tool_choice/name" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"parallel_tool_calls\":1}", "/parallel_tool_calls" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
          "\"output_format\":{\"type\":\"json_object\",\"name\":\"n\",\"schema\":{}}}", "/output_format/type" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
          "\"output_format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{},\"strict\":1}}", "/output_format/strict" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stop\":[1]}", "/stop/0" },
        { "p", "m", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"reasoning_effort\":\"huge\"}", "/reasoning_effort" },
    };
    struct models *models = NULL;
    assert_int_equal(configure(*state, ONE(""), &models, NULL), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct model_call_config config = { .provider = span_of(cases[i].provider), .model = span_of(cases[i].model),
                                            .request = span_of(cases[i].request), .on_end = no_call };
        struct model_call       *call = NULL;
        struct error             error = { .code = ERR_OK };
        assert_int_equal(model_start(models, &config, &call, &error), ERR_VALIDATION);
        assert_null(call);
        assert_string_equal(error.field, cases[i].field);
    }
    models_free(models);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_ones_are_always_there),
        cmocka_unit_test(a_full_configuration_is_accepted),
        cmocka_unit_test(dialects_belong_to_their_kinds),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_key_comes_from_the_environment),
        cmocka_unit_test(a_key_comes_from_a_file),
        cmocka_unit_test(texts_of_providers_are_bounded_and_well_formed),
        cmocka_unit_test(unusable_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
