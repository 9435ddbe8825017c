/* SPDX-License-Identifier: Apache-2.0 */
/* test_args.c - what the command line accepts, what it refuses, and that a refusal names the option. */
#include "unit.h"
#include "cli/args.h"
#include <stdlib.h>
#include <string.h>

struct values {
    bool            dev, quiet;
    const char     *listen;
    int64_t         limit, timeout_ms;
    struct opt_list files;
};

static const struct opt opts[] = {
    { "dev", "TEST_ARGS_DEV", OPT_FLAG, offsetof(struct values, dev), NULL, "for a laptop", 0, 0 },
    { "quiet", NULL, OPT_FLAG, offsetof(struct values, quiet), NULL, "say less", 0, 0 },
    { "listen", "TEST_ARGS_LISTEN", OPT_TEXT, offsetof(struct values, listen), "ADDRESS", "where", 0, 0 },
    { "limit", "TEST_ARGS_LIMIT", OPT_INT, offsetof(struct values, limit), "N", "how many", 1, 500 },
    { "timeout", NULL, OPT_SECONDS, offsetof(struct values, timeout_ms), "S", "how long", 0, 60000 },
    { "file", NULL, OPT_LIST, offsetof(struct values, files), "FILE", "which", 0, 0 },
};

static const struct args_spec spec = { .command = "test", .operands = "RUN", .about = "A test.", .opts = opts,
                                       .opt_count = ARRAY_LEN(opts), .min = 0, .max = 2 };

enum { WORDS = 8 };

static enum args_result parse(const char *const *words, struct values *values, struct args *args, struct error *error)
{
    char *argv[WORDS + 2] = { (char *)(uintptr_t)"test" };
    int   argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    *values = (struct values){ .limit = 50 };
    *error = (struct error){ 0 };
    return args_parse(&spec, argc, argv, values, args, error);
}

static void environment_is_clean(void)
{
    unsetenv("TEST_ARGS_DEV");
    unsetenv("TEST_ARGS_LISTEN");
    unsetenv("TEST_ARGS_LIMIT");
}

static void every_form_of_an_option_is_understood(void **state)
{
    static const char *const words[] = { "--dev", "--listen", "a:1", "--limit=7", "one", "--", "--two", NULL };
    struct values            v;
    struct args              args;
    struct error             error;
    environment_is_clean();
    assert_int_equal(parse(words, &v, &args, &error), ARGS_OK);
    assert_true(v.dev);
    assert_false(v.quiet);
    assert_string_equal(v.listen, "a:1");
    assert_int_equal(v.limit, 7);
    assert_int_equal(args.count, 2);
    assert_string_equal(args.items[0], "one");
    assert_string_equal(args.items[1], "--two");
    assert_true(args_given(&spec, &args, "limit"));
    assert_false(args_given(&spec, &args, "quiet"));
}

static void what_is_not_given_stays_as_it_was(void **state)
{
    static const char *const words[] = { NULL };
    struct values            v;
    struct args              args;
    struct error             error;
    environment_is_clean();
    assert_int_equal(parse(words, &v, &args, &error), ARGS_OK);
    assert_int_equal(v.limit, 50);
    assert_null(v.listen);
    assert_int_equal(args.given, 0);
}

static void the_environment_speaks_where_the_command_line_is_silent(void **state)
{
    static const char *const words[] = { "--limit", "9", NULL };
    struct values            v;
    struct args              args;
    struct error             error;
    environment_is_clean();
    setenv("TEST_ARGS_LIMIT", "3", 1);
    setenv("TEST_ARGS_DEV", "yes", 1);
    setenv("TEST_ARGS_LISTEN", "", 1);
    assert_int_equal(parse(words, &v, &args, &error), ARGS_OK);
    assert_int_equal(v.limit, 9);
    assert_true(v.dev);
    assert_null(v.listen);
    assert_true(args_given(&spec, &args, "dev"));
    assert_false(args_given(&spec, &args, "listen"));
    environment_is_clean();
}

static void a_bad_value_in_the_environment_names_the_variable(void **state)
{
    static const char *const words[] = { NULL };
    struct values            v;
    struct args              args;
    struct error             error;
    environment_is_clean();
    setenv("TEST_ARGS_LIMIT", "many", 1);
    assert_int_equal(parse(words, &v, &args, &error), ARGS_WRONG);
    assert_non_null(strstr(error.message, "TEST_ARGS_LIMIT"));
    environment_is_clean();
}

static void flags_can_be_taken_back(void **state)
{
    static const struct {
        const char *words[WORDS];
        bool        dev;
    } cases[] = { { { "--dev" }, true },
                  { { "--dev=true" }, true },
                  { { "--dev=0" }, false },
                  { { "--no-dev" }, false },
                  { { "--dev=OFF" }, false } };
    environment_is_clean();
    setenv("TEST_ARGS_DEV", "1", 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct values v;
        struct args   args;
        struct error  error;
        assert_int_equal(parse(cases[i].words, &v, &args, &error), ARGS_OK);
        assert_int_equal(v.dev, cases[i].dev);
    }
    environment_is_clean();
}

static void seconds_have_fractions_and_lists_repeat(void **state)
{
    static const char *const words[] = { "--timeout", "2.25", "--file", "a", "--file=b", NULL };
    struct values            v;
    struct args              args;
    struct error             error;
    environment_is_clean();
    assert_int_equal(parse(words, &v, &args, &error), ARGS_OK);
    assert_int_equal(v.timeout_ms, 2250);
    assert_int_equal(v.files.count, 2);
    assert_string_equal(v.files.items[1], "b");
}

static void what_is_wrong_is_refused_by_name(void **state)
{
    static const struct {
        const char *words[WORDS], *says;
    } cases[] = {
        { { "--limt", "3" }, "did you mean --limit" },
        { { "--limit" }, "--limit needs a value" },
        { { "--limit", "--dev" }, "--limit needs a value" },
        { { "--limit=0" }, "--limit: 0 is outside 1 to 500" },
        { { "--limit=501" }, "outside" },
        { { "--limit= 5" }, "not a whole number" },
        { { "--limit=5x" }, "not a whole number" },
        { { "--limit=+5" }, "not a whole number" },
        { { "--limit=" }, "not a whole number" },
        { { "--limit=99999999999999999999" }, "not a whole number" },
        { { "--limit=1", "--limit=2" }, "--limit is given twice" },
        { { "--timeout=1.2345" }, "not a number of seconds" },
        { { "--timeout=1." }, "not a number of seconds" },
        { { "--timeout=.5" }, "not a number of seconds" },
        { { "--timeout=60.001" }, "outside 0 to 60" },
        { { "--dev=perhaps" }, "neither true nor false" },
        { { "--no-listen" }, "unknown option --no-listen" },
        { { "-x" }, "unknown option -x" },
        { { "a", "b", "c" }, "unexpected \"c\"" },
    };
    environment_is_clean();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct values v;
        struct args   args = { .count = 99 };
        struct error  error;
        assert_int_equal(parse(cases[i].words, &v, &args, &error), ARGS_WRONG);
        if (!strstr(error.message, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", error.message, cases[i].says);
        assert_int_equal(args.count, 99);
    }
}

static void a_missing_operand_is_named(void **state)
{
    struct args_spec one = spec;
    char            *argv[] = { (char *)(uintptr_t)"test", NULL };
    struct values    v = { 0 };
    struct args      args;
    struct error     error;
    one.min = 1;
    environment_is_clean();
    assert_int_equal(args_parse(&one, 1, argv, &v, &args, &error), ARGS_WRONG);
    assert_string_equal(error.message, "RUN is missing");
}

static void help_wins_wherever_it_stands(void **state)
{
    static const char *const words[] = { "a", "--dev", "--help", "--nonsense", NULL };
    struct values            v;
    struct args              args;
    struct error             error;
    environment_is_clean();
    assert_int_equal(parse(words, &v, &args, &error), ARGS_HELP);
}

static void help_shows_every_option_and_its_variable(void **state)
{
    char  *text = NULL;
    size_t size = 0;
    FILE  *out = open_memstream(&text, &size);
    args_help(&spec, out);
    fclose(out);
    for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
        assert_non_null(strstr(text, opts[i].name));
        assert_non_null(strstr(text, opts[i].help));
        assert_true(!opts[i].env || strstr(text, opts[i].env));
    }
    free(text);
}

static void slips_of_the_fingers_find_their_word(void **state)
{
    static const char *const names[] = { "run", "runs", "serve", "doctor" };
    assert_string_equal(args_nearest("rnus", names, 4), "runs");
    assert_string_equal(args_nearest("rn", names, 4), "run");
    assert_string_equal(args_nearest("dcotor", names, 4), "doctor");
    assert_null(args_nearest("xyz", names, 4));
    assert_null(args_nearest("a-word-that-is-far-longer-than-any-command", names, 4));
    assert_null(args_nearest("", names, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_an_option_is_understood),
        cmocka_unit_test(what_is_not_given_stays_as_it_was),
        cmocka_unit_test(the_environment_speaks_where_the_command_line_is_silent),
        cmocka_unit_test(a_bad_value_in_the_environment_names_the_variable),
        cmocka_unit_test(flags_can_be_taken_back),
        cmocka_unit_test(seconds_have_fractions_and_lists_repeat),
        cmocka_unit_test(what_is_wrong_is_refused_by_name),
        cmocka_unit_test(a_missing_operand_is_named),
        cmocka_unit_test(help_wins_wherever_it_stands),
        cmocka_unit_test(help_shows_every_option_and_its_variable),
        cmocka_unit_test(slips_of_the_fingers_find_their_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
