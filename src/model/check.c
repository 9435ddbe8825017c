/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - asks each provider in turn whether it would take a call, for `perdure doctor`.
 *
 * A provider that is built in is fine. One with an address gets a GET of its check_path with its key: the answer tells
 * whether the address, the network and the key are right, and costs nothing. */
#include "model/provider.h"
#include <stdio.h>
#include <stdlib.h>

enum { CHECK_TOTAL_MS = 10000, CHECK_BYTES_MAX = 4 << 20, DETAIL_MAX = 300 };

struct model_check {
    struct model_check_list *list;
    struct model_check      *next;
    struct loop_timer        timer; /* the next provider's turn */
    struct http_client      *client;
    const struct provider   *provider; /* whose turn it is; NULL: all are done */
    struct http_call        *http;
    struct buf               body;
    int                      status;
    void (*each)(void *user, struct span provider, enum err err, struct span detail);
    void (*done)(void *user);
    void *user;
};

static void check_free(struct model_check *check)
{
    struct model_check **at = &check->list->head;
    while (*at != check)
        at = &(*at)->next;
    *at = check->next;
    loop_timer_clear(&check->timer);
    if (check->http)
        http_call_cancel(check->http);
    buf_done(&check->body);
    free(check);
}

void model_checks_cancel(struct model_check_list *list)
{
    while (list->head)
        check_free(list->head);
}

/* One provider is through; the next one has its turn in another round. */
static void check_tell(struct model_check *check, enum err err, struct span detail)
{
    const struct provider *provider = check->provider;
    struct arena           arena = { 0 };

    check->provider = provider->next;
    check->body.len = 0;
    loop_timer_set(&check->timer, 1);
    check->each(check->user, provider->name, err, provider_clean_text(provider, detail, DETAIL_MAX, &arena));
    arena_done(&arena);
}

static void PRINTF(3, 4) check_tellf(struct model_check *check, enum err err, const char *format, ...)
{
    struct buf detail = { 0 };
    char       text[DETAIL_MAX];
    va_list    args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (check->provider->http.base_url.n)
        buf_printf(&detail, "%.*s: ", (int)(check->provider->http.base_url.n < 200 ? check->provider->http.base_url.n : 200),
                   check->provider->http.base_url.p);
    buf_span(&detail, span_of(text));
    check_tell(check, err, buf_view(&detail));
    buf_done(&detail);
}

static void tell_good(struct model_check *check)
{
    static const struct json_limits limits = { .depth = 32, .lone_surrogates = true };
    struct arena                    arena = { 0 };
    struct json                     doc;
    bool      parsed = json_parse(buf_view(&check->body), &limits, &arena, &doc, NULL) == ERR_OK;
    struct jv data = parsed ? jv_get(json_root(&doc), "data") : (struct jv){ 0 };
    size_t    count = jv_is(data, JSON_ARRAY) ? jv_count(data) : 0;
    if (!parsed)
        check_tellf(check, ERR_MODEL, "answers with something that is not JSON; is this the right address?");
    else
        check_tellf(check, ERR_OK, "answers, knows %zu model%s", count, count == 1 ? "" : "s");
    arena_done(&arena);
}

static void tell_status(struct model_check *check)
{
    bool has_key = check->provider->http.secret_count > 0;
    switch (check->status) {
    case 200:
        tell_good(check);
        break;
    case 401:
    case 403:
        check_tellf(check, ERR_UNAUTHENTICATED, has_key ? "refuses the key (status %d)" : "wants a key (status %d)",
                    check->status);
        break;
    case 404:
        check_tellf(check, ERR_NOT_FOUND, "answers, but has no %s; is this the right address?", check->provider->ops->check_path);
        break;
    case 429:
        check_tellf(check, ERR_RATE_LIMITED, "answers, but limits the rate now");
        break;
    default:
        check_tellf(check, ERR_MODEL, "answers with status %d", check->status);
    }
}

static void on_head(void *user, int status, struct span content_type, int64_t retry_after_s)
{
    ((struct model_check *)user)->status = status;
}

static void on_data(void *user, struct span data)
{
    buf_span(&((struct model_check *)user)->body, data); /* bounded by max_bytes */
}

static void on_done(void *user, enum err err, const struct error *error)
{
    struct model_check *check = user;
    check->http = NULL;
    if (err)
        check_tellf(check, err, "%s", error->message);
    else
        tell_status(check);
}

static void ask(struct model_check *check)
{
    const struct provider_http *http = &check->provider->http;
    struct arena                arena = { 0 };
    struct error                error;
    struct http_call_config     config = {
        .method = "GET",
        .trusted = true, /* the configuration names it */
        .url = arena_printf(&arena, "%.*s%s", SPAN_ARG(http->base_url), check->provider->ops->check_path).p,
        .headers = http->headers,
        .connect_timeout_ms = http->connect_timeout_ms,
        .total_timeout_ms = CHECK_TOTAL_MS,
        .max_bytes = CHECK_BYTES_MAX,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .user = check,
    };
    enum err err = http_call_start(check->client, &config, &check->http, &error);
    arena_done(&arena);
    if (err)
        check_tellf(check, err, "%s", error.message);
}

static void check_next(struct loop_timer *timer)
{
    struct model_check *check = CONTAINER(timer, struct model_check, timer);

    if (!check->provider) {
        void (*done)(void *user) = check->done;
        void *user = check->user;
        check_free(check);
        done(user);
    } else if (!check->provider->ops->check_path) {
        check_tellf(check, ERR_OK, "built in");
    } else if (check->provider->http.missing_key) {
        check_tellf(check, ERR_UNAUTHENTICATED, "%s", check->provider->http.missing_key);
    } else {
        ask(check);
    }
}

void model_check_start(struct model_check_list *list, struct loop *loop, struct http_client *client,
                       const struct provider *providers,
                       void (*each)(void *user, struct span provider, enum err err, struct span detail),
                       void (*done)(void *user), void *user)
{
    struct model_check *check = mem_alloc(sizeof *check);

    check->list = list;
    check->next = list->head;
    list->head = check;
    check->client = client;
    check->provider = providers;
    check->each = each;
    check->done = done;
    check->user = user;
    loop_timer_init(&check->timer, loop, check_next);
    loop_timer_set(&check->timer, 1);
}
