/* SPDX-License-Identifier: Apache-2.0 */
/* test_outbound.c - a corpus of ways to reach what is not public: refused by the URL, or by the address that is connected to. */
#include "unit/unit.h"
#include "net/http_client.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static struct outbound *allowing(const char *json, struct arena *arena)
{
    struct outbound *outbound = NULL;
    struct error     error;
    assert_int_equal(outbound_new(json_read(span_of(json), arena), &outbound, &error), ERR_OK);
    return outbound;
}

/* ---- URLs ---- */

static const struct {
    const char *url;
    enum err    err; /* of a call that a model asked for */
} urls[] = {
    { "http://127.0.0.1/", ERR_FORBIDDEN },
    { "http://127.1/", ERR_FORBIDDEN },
    { "http://127.0.0.1:8080/x?y", ERR_FORBIDDEN },
    { "http://2130706433/", ERR_FORBIDDEN },          /* decimal */
    { "http://0177.0.0.1/", ERR_FORBIDDEN },          /* octal */
    { "http://0x7f.0.0.1/", ERR_FORBIDDEN },          /* hex */
    { "http://0x7f000001/", ERR_FORBIDDEN },
    { "http://017700000001/", ERR_FORBIDDEN },
    { "http://0/", ERR_FORBIDDEN },
    { "http://0.0.0.0/", ERR_FORBIDDEN },
    { "http://10.1.2.3/", ERR_FORBIDDEN },
    { "http://172.16.0.1/", ERR_FORBIDDEN },
    { "http://172.31.255.255/", ERR_FORBIDDEN },
    { "http://192.168.0.1/", ERR_FORBIDDEN },
    { "http://100.64.0.1/", ERR_FORBIDDEN },          /* CGNAT */
    { "http://100.100.100.200/latest/meta-data", ERR_FORBIDDEN },
    { "http://169.254.169.254/latest/meta-data", ERR_FORBIDDEN },
    { "http://0xa9fea9fe/", ERR_FORBIDDEN },
    { "http://168.63.129.16/", ERR_FORBIDDEN },
    { "http://198.18.0.1/", ERR_FORBIDDEN },
    { "http://224.0.0.1/", ERR_FORBIDDEN },
    { "http://255.255.255.255/", ERR_FORBIDDEN },
    { "http://[::1]/", ERR_FORBIDDEN },
    { "http://[::]/", ERR_FORBIDDEN },
    { "http://[0:0:0:0:0:0:0:1]:80/", ERR_FORBIDDEN },
    { "http://[::ffff:127.0.0.1]/", ERR_FORBIDDEN },  /* mapped */
    { "http://[::ffff:7f00:1]/", ERR_FORBIDDEN },
    { "http://[::ffff:a9fe:a9fe]/", ERR_FORBIDDEN },
    { "http://[::127.0.0.1]/", ERR_FORBIDDEN },       /* compatible */
    { "http://[64:ff9b::7f00:1]/", ERR_FORBIDDEN },   /* NAT64 */
    { "http://[64:ff9b:1::1]/", ERR_FORBIDDEN },
    { "http://[2002:7f00:1::]/", ERR_FORBIDDEN },     /* 6to4 */
    { "http://[2001:0:7f00:1::]/", ERR_FORBIDDEN },   /* Teredo */
    { "http://[fe80::1]/", ERR_FORBIDDEN },
    { "http://[fe80::1%25eth0]/", ERR_FORBIDDEN },
    { "http://[fc00::1]/", ERR_FORBIDDEN },
    { "http://[fd00:ec2::254]/", ERR_FORBIDDEN },     /* metadata */
    { "http://[ff02::1]/", ERR_FORBIDDEN },
    { "http://user:pass@example.com/", ERR_INVALID_PARAMETER },
    { "http://user@127.0.0.1/", ERR_INVALID_PARAMETER },
    { "http://example.com@127.0.0.1/", ERR_INVALID_PARAMETER },
    { "http://@127.0.0.1/", ERR_INVALID_PARAMETER },
    { "http://127.0.0.1#@example.com/", ERR_FORBIDDEN },
    { "http://127.0.0.1\\@example.com/", ERR_INVALID_PARAMETER },
    { "http:///etc/passwd", ERR_INVALID_PARAMETER },
    { "http://", ERR_INVALID_PARAMETER },
    { "http:/127.0.0.1/", ERR_INVALID_PARAMETER },
    { "HTTP://127.0.0.1/", ERR_FORBIDDEN },
    { "file:///etc/passwd", ERR_INVALID_PARAMETER },
    { "gopher://127.0.0.1:25/x", ERR_INVALID_PARAMETER },
    { "ftp://example.com/", ERR_INVALID_PARAMETER },
    { "dict://127.0.0.1/", ERR_INVALID_PARAMETER },
    { "example.com", ERR_INVALID_PARAMETER },
    { "http://exa mple.com/", ERR_INVALID_PARAMETER },
    { "http://example.com/\r\nX: y", ERR_INVALID_PARAMETER },
    { "", ERR_INVALID_PARAMETER },
};

static void never_done(void *user, enum err err, const struct error *error)
{
    fail();
}

static struct loop *new_loop(void)
{
    struct loop *loop = NULL;
    struct error error;
    assert_int_equal(loop_new(env_real(), NULL, &loop, &error), ERR_OK);
    return loop;
}

static struct http_client *new_client(struct loop *loop)
{
    struct http_client *client = NULL;
    struct error        error;
    assert_int_equal(http_client_new(loop, &client, &error), ERR_OK);
    return client;
}

static void urls_that_lead_inside_are_refused(void **state)
{
    struct loop        *loop = new_loop();
    struct http_client *client = new_client(loop);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct http_call_config config = { .method = "GET", .url = urls[i].url, .on_done = never_done };
        struct http_call       *call = NULL;
        struct error            error = { 0 };
        enum err                err = http_call_start(client, &config, &call, &error);
        if (err != urls[i].err)
            print_error("%s: %s, %s\n", urls[i].url, err_info(err)->name, error.message);
        assert_int_equal(err, urls[i].err);
        assert_true(error.message[0] != 0);
    }
    http_client_free(client);
    loop_free(loop);
}

/* ---- addresses ---- */

static void public_addresses_are_not_refused(void **state)
{
    static const char *const fine[] = { "1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.169.0.1",
                                        "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "example.com" };
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        assert_true(outbound_allows_literal(NULL, span_of(fine[i])));
}

static void the_configuration_allows_by_name_address_and_network(void **state)
{
    struct arena     arena = { 0 };
    struct outbound *outbound = allowing("[\"Files.internal\", \"*.corp\", \"10.0.0.0/8\", \"127.0.0.1\", \"fd00::/8\", \"[::1]\"]", &arena);
    assert_true(outbound_allows_host(outbound, SPAN("files.internal")));
    assert_true(outbound_allows_host(outbound, SPAN("FILES.internal.")));
    assert_true(outbound_allows_host(outbound, SPAN("a.b.corp")));
    assert_false(outbound_allows_host(outbound, SPAN("corp")));
    assert_false(outbound_allows_host(outbound, SPAN("evilcorp")));
    assert_false(outbound_allows_host(outbound, SPAN("xfiles.internal")));
    assert_true(outbound_allows_literal(outbound, SPAN("10.255.0.1")));
    assert_true(outbound_allows_literal(outbound, SPAN("::ffff:10.0.0.1")));
    assert_true(outbound_allows_literal(outbound, SPAN("127.0.0.1")));
    assert_false(outbound_allows_literal(outbound, SPAN("127.0.0.2")));
    assert_false(outbound_allows_literal(outbound, SPAN("192.168.0.1")));
    assert_true(outbound_allows_literal(outbound, SPAN("fd12::1")));
    assert_true(outbound_allows_literal(outbound, SPAN("::1")));
    assert_false(outbound_allows_literal(outbound, SPAN("fe80::1")));
    outbound_free(outbound);
    static const char *const wrong[] = { "{}", "[1]", "[\"\"]", "[\"10.0.0.0/33\"]", "[\"a b\"]", "[\"http://x/\"]", "[\"10.0.0.0/\"]" };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error error = { 0 };
        assert_int_equal(outbound_new(json_read(span_of(wrong[i]), &arena), &outbound, &error), ERR_VALIDATION);
        assert_string_equal(error.field, "/outbound/allow");
    }
    arena_done(&arena);
}

static void a_redirect_is_resolved_against_its_page(void **state)
{
    struct arena arena = { 0 };
    assert_string_equal(outbound_join("http://a.example/x/y?z", "../w", &arena), "http://a.example/w");
    assert_string_equal(outbound_join("https://a.example/x", "//127.0.0.1/", &arena), "https://127.0.0.1/");
    assert_string_equal(outbound_join("https://a.example/x", "http://0x7f.1/", &arena), "http://127.0.0.1/");
    arena_done(&arena);
}

/* ---- names: judged by the address that is connected to, each time ---- */

struct trial {
    struct loop *loop;
    enum err     err;
    bool         ended, sent;
    struct http_call *call;
    char         message[256];
};

static void trial_done(void *user, enum err err, const struct error *error)
{
    struct trial *trial = user;
    trial->ended = true;
    trial->err = err;
    trial->sent = http_call_sent(trial->call);
    memcpy(trial->message, error->message, sizeof trial->message);
    loop_stop(trial->loop);
}

static struct trial try(struct loop *loop, struct http_client *client, const char *url, const char *resolve, bool trusted)
{
    struct trial            trial = { .loop = loop };
    const char             *lines[] = { resolve, NULL };
    struct error            error;
    struct http_call_config config = { .method = "GET", .url = url, .resolve = lines, .trusted = trusted, .on_done = trial_done, .user = &trial,
                                       .connect_timeout_ms = 2000, .total_timeout_ms = 4000 };
    assert_int_equal(http_call_start(client, &config, &trial.call, &error), ERR_OK);
    loop_run(loop);
    assert_true(trial.ended);
    return trial;
}

/* A port where nobody listens; a connection that is tried there fails as ERR_IO, one that is refused by us as ERR_FORBIDDEN. */
static int closed_port(int *ret_fd)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          n = sizeof a;
    *ret_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(*ret_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&a, &n), 0);
    return ntohs(a.sin_port);
}

static void a_name_is_judged_by_the_address_it_leads_to(void **state)
{
    static const char *const inside[] = { "127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[fd00:ec2::254]", "[::ffff:127.0.0.1]",
                                          "[64:ff9b::a9fe:a9fe]", "100.64.0.1", "127.0.0.1,8.8.8.8" };
    struct arena        arena = { 0 };
    struct loop        *loop = new_loop();
    struct http_client *client = new_client(loop);
    int                 fd, port = closed_port(&fd);
    for (size_t i = 0; i < ARRAY_LEN(inside); i++) {
        const char *url = arena_printf(&arena, "http://rebind%zu.test:%d/", i, port).p;
        struct trial t = try(loop, client, url, arena_printf(&arena, "rebind%zu.test:%d:%s", i, port, inside[i]).p, false);
        assert_int_equal(t.err, ERR_FORBIDDEN);
        assert_false(t.sent);
        assert_non_null(strstr(t.message, "not public"));
    }
    /* The system's resolver is held to the same. */
    const char *local = arena_printf(&arena, "http://localhost:%d/", port).p;
    assert_int_equal(try(loop, client, local, NULL, false).err, ERR_FORBIDDEN);
    /* The configuration may allow it: then it fails for another reason, that nobody is there. */
    assert_int_equal(try(loop, client, local, NULL, true).err, ERR_IO);
    http_client_allow(client, allowing("[\"localhost\", \"rebind.ok\"]", &arena));
    assert_int_equal(try(loop, client, local, NULL, false).err, ERR_IO);
    const char *named = arena_printf(&arena, "http://rebind.ok:%d/", port).p, *line = arena_printf(&arena, "rebind.ok:%d:127.0.0.1", port).p;
    assert_int_equal(try(loop, client, named, line, false).err, ERR_IO);
    const char *other = arena_printf(&arena, "http://rebind.no:%d/", port).p, *line_no = arena_printf(&arena, "rebind.no:%d:127.0.0.1", port).p;
    assert_int_equal(try(loop, client, other, line_no, false).err, ERR_FORBIDDEN);
    close(fd);
    http_client_free(client);
    loop_free(loop);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_that_lead_inside_are_refused),
        cmocka_unit_test(public_addresses_are_not_refused),
        cmocka_unit_test(the_configuration_allows_by_name_address_and_network),
        cmocka_unit_test(a_redirect_is_resolved_against_its_page),
        cmocka_unit_test(a_name_is_judged_by_the_address_it_leads_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
