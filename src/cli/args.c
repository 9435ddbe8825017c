/* SPDX-License-Identifier: Apache-2.0 */
/* args.c - the option parser; see args.h for what it accepts. */
#include "cli/args.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- values ---- */

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = { "1", "true", "yes", "on" };
    static const char *const no[] = { "0", "false", "no", "off", "" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (strcasecmp(text, yes[i]) == 0)
            return *ret = true, true;
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (strcasecmp(text, no[i]) == 0)
            return *ret = false, true;
    return false;
}

/* Decimal digits with an optional minus and, for `decimals` > 0, a fraction of at most so many digits; the result is
 * scaled by 10^decimals. Written out because strtoll accepts blanks, signs and overflow in ways nobody expects of an
 * option. */
static bool parse_decimal(const char *text, unsigned decimals, int64_t *ret)
{
    const char *p = text;
    bool        minus = *p == '-';
    p += minus;
    if (*p < '0' || *p > '9')
        return false;
    int64_t  v = 0;
    unsigned left = decimals;
    bool     fraction = false;
    for (; *p; p++) {
        if (*p == '.' && !fraction && decimals > 0 && p[1]) {
            fraction = true;
            continue;
        }
        if (*p < '0' || *p > '9' || (fraction && left == 0))
            return false;
        if (__builtin_mul_overflow(v, (int64_t)10, &v) || __builtin_add_overflow(v, (int64_t)(*p - '0'), &v))
            return false;
        left -= fraction;
    }
    while (left-- > 0)
        if (__builtin_mul_overflow(v, (int64_t)10, &v))
            return false;
    *ret = minus ? -v : v;
    return true;
}

/* 3.5 for 3500: bounds of OPT_SECONDS in messages. */
static const char *bound_text(const struct opt *opt, int64_t v, char out[32])
{
    if (opt->kind == OPT_SECONDS)
        snprintf(out, 32, "%g", (double)v / 1000);
    else
        snprintf(out, 32, "%lld", (long long)v);
    return out;
}

/* `source` is what the person wrote: "--limit" or "PERDURE_LIMIT". */
static enum err set_number(const struct opt *opt, const char *source, const char *text, int64_t *value,
                           struct error *error)
{
    int64_t v;
    if (!parse_decimal(text, opt->kind == OPT_SECONDS ? 3 : 0, &v))
        return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s: \"%s\" is not a %s", source, text,
                         opt->kind == OPT_SECONDS ? "number of seconds" : "whole number");
    char low[32], high[32];
    if ((opt->min || opt->max) && (v < opt->min || v > opt->max))
        return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s: %s is outside %s to %s", source, text,
                         bound_text(opt, opt->min, low), bound_text(opt, opt->max, high));
    *value = v;
    return ERR_OK;
}

static enum err set_value(const struct opt *opt, const char *source, const char *text, void *values,
                          struct error *error)
{
    char            *at = (char *)values + opt->offset;
    struct opt_list *list = (struct opt_list *)(void *)at;
    switch (opt->kind) {
    case OPT_FLAG:
        if (!parse_bool(text, (bool *)at))
            return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s: \"%s\" is neither true nor false", source,
                             text);
        return ERR_OK;
    case OPT_TEXT:
        *(const char **)(void *)at = text;
        return ERR_OK;
    case OPT_INT:
    case OPT_SECONDS:
        return set_number(opt, source, text, (int64_t *)(void *)at, error);
    case OPT_LIST:
        if (list->count == OPT_LIST_MAX)
            return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s: more than %d times", source, OPT_LIST_MAX);
        list->items[list->count++] = text;
        return ERR_OK;
    }
    assert(!"an option of no kind");
    return ERR_INTERNAL;
}

/* ---- one option ---- */

static const struct opt *find_opt(const struct args_spec *spec, struct span name)
{
    for (size_t i = 0; i < spec->opt_count; i++)
        if (span_is(name, spec->opts[i].name))
            return &spec->opts[i];
    return NULL;
}

static enum err unknown_option(const struct args_spec *spec, struct span name, struct error *error)
{
    const char *names[ARGS_OPTIONS_MAX];
    char        word[64];
    snprintf(word, sizeof word, "%.*s", SPAN_ARG(name));
    for (size_t i = 0; i < spec->opt_count; i++)
        names[i] = spec->opts[i].name;
    const char *near = args_nearest(word, names, spec->opt_count);
    return error_set(error, ERR_INVALID_PARAMETER, word,
                     near ? "unknown option --%s; did you mean --%s?" : "unknown option --%s", word, near);
}

/* An operand that begins like an option is far more often a forgotten value than a value. */
static enum err take_next(const struct opt *opt, const char *source, int argc, char **argv, int *i, const char **ret,
                          struct error *error)
{
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    if (!next)
        return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s needs a value (%s)", source,
                         opt->arg ? opt->arg : "VALUE");
    if (strncmp(next, "--", 2) == 0)
        return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s needs a value; write %s=%s if that is meant",
                         source, source, next);
    *i += 1;
    *ret = next;
    return ERR_OK;
}

static enum err parse_option(const struct args_spec *spec, int argc, char **argv, int *i, void *values,
                             struct args *args, struct error *error)
{
    const char       *word = argv[*i] + 2;
    const char       *equals = strchr(word, '=');
    struct span       name = equals ? span_make(word, (size_t)(equals - word)) : span_of(word);
    const struct opt *opt = find_opt(spec, name);
    const char       *value = equals ? equals + 1 : NULL;
    char              source[72];
    snprintf(source, sizeof source, "--%.*s", SPAN_ARG(name));

    if (!opt && !equals && strncmp(word, "no-", 3) == 0) {
        opt = find_opt(spec, span_of(word + 3));
        if (opt && opt->kind != OPT_FLAG)
            opt = NULL;
        value = "false";
    } else if (opt && opt->kind == OPT_FLAG && !equals) {
        value = "true";
    }
    if (!opt)
        return unknown_option(spec, name, error);
    if (!value) {
        enum err err = take_next(opt, source, argc, argv, i, &value, error);
        if (err)
            return err;
    }
    size_t index = (size_t)(opt - spec->opts);
    if ((args->given >> index & 1) && opt->kind != OPT_LIST)
        return error_set(error, ERR_INVALID_PARAMETER, opt->name, "%s is given twice", source);
    args->given |= UINT64_C(1) << index;
    return set_value(opt, source, value, values, error);
}

/* The environment speaks for options that the command line left alone; an empty variable is as good as none. */
static enum err read_environment(const struct args_spec *spec, void *values, struct args *args, struct error *error)
{
    for (size_t i = 0; i < spec->opt_count; i++) {
        const struct opt *opt = &spec->opts[i];
        const char       *value = opt->env ? getenv(opt->env) : NULL;
        if (!value || !*value || (args->given >> i & 1))
            continue;
        args->given |= UINT64_C(1) << i;
        enum err err = set_value(opt, opt->env, value, values, error);
        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err check_operands(const struct args_spec *spec, const struct args *args, struct error *error)
{
    if (args->count > spec->max)
        return error_set(error, ERR_INVALID_PARAMETER, "", "unexpected \"%s\"", args->items[spec->max]);
    if (args->count < spec->min)
        return error_set(error, ERR_INVALID_PARAMETER, "", "%s is missing", spec->operands);
    return ERR_OK;
}

enum args_result args_parse(const struct args_spec *spec, int argc, char **argv, void *values, struct args *ret,
                            struct error *error)
{
    assert(spec->opt_count <= ARGS_OPTIONS_MAX && spec->max < ARGS_MAX);
    struct args args = { .count = 0 };
    bool        options = true;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            return ARGS_HELP;
        } else if (options && strncmp(word, "--", 2) == 0) {
            if (parse_option(spec, argc, argv, &i, values, &args, error))
                return ARGS_WRONG;
        } else if (options && word[0] == '-' && word[1]) {
            error_set(error, ERR_INVALID_PARAMETER, "", "unknown option %s; options are written out, like --help",
                      word);
            return ARGS_WRONG;
        } else if (args.count == ARGS_MAX) {
            error_set(error, ERR_INVALID_PARAMETER, "", "too many arguments");
            return ARGS_WRONG;
        } else {
            args.items[args.count++] = word;
        }
    }
    if (check_operands(spec, &args, error) || read_environment(spec, values, &args, error))
        return ARGS_WRONG;
    *ret = args;
    return ARGS_OK;
}

bool args_given(const struct args_spec *spec, const struct args *args, const char *name)
{
    const struct opt *opt = find_opt(spec, span_of(name));
    assert(opt);
    return args->given >> (opt - spec->opts) & 1;
}

/* ---- help ---- */

enum { HELP_WIDTH = 92, HELP_INDENT = 28 };

/* Words, wrapped behind a hanging indent; the cursor is already at column `at`. */
static void print_wrapped(FILE *out, const char *text, size_t at, size_t indent)
{
    size_t column = at;
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + 1 + n > HELP_WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)n, text);
        column += n;
        text += n;
        if (*text == '\n') {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        }
        text += *text != 0;
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const char *name, const char *arg, const char *help, const char *env)
{
    int n = fprintf(out, "  --%s%s%s", name, arg ? " " : "", arg ? arg : "");
    if (n >= HELP_INDENT - 1)
        fputc('\n', out);
    fprintf(out, "%*s", n >= HELP_INDENT - 1 ? HELP_INDENT : HELP_INDENT - n, "");
    char text[512];
    snprintf(text, sizeof text, env ? "%s [%s]" : "%s", help, env);
    print_wrapped(out, text, HELP_INDENT, HELP_INDENT);
}

void args_help(const struct args_spec *spec, FILE *out)
{
    fprintf(out, "usage: perdure %s%s%s [options]\n\n", spec->command, spec->operands ? " " : "",
            spec->operands ? spec->operands : "");
    print_wrapped(out, spec->about, 0, 0);
    fprintf(out, "\noptions:\n");
    for (size_t i = 0; i < spec->opt_count; i++)
        print_option(out, spec->opts[i].name, spec->opts[i].arg, spec->opts[i].help, spec->opts[i].env);
    print_option(out, "help", NULL, "this text", NULL);
    if (spec->epilog)
        fprintf(out, "\n%s", spec->epilog);
}

int args_begin(const struct args_spec *spec, int argc, char **argv, void *values, struct args *ret)
{
    struct error error;
    switch (args_parse(spec, argc, argv, values, ret, &error)) {
    case ARGS_OK:
        return -1;
    case ARGS_HELP:
        args_help(spec, stdout);
        return 0;
    case ARGS_WRONG:
        break;
    }
    fprintf(stderr, "perdure %s: %s\nSee: perdure %s --help\n", spec->command, error.message, spec->command);
    return 2;
}

/* ---- did you mean ---- */

enum { WORD_MAX = 32 };

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions, changes and swaps of neighbours; words longer than WORD_MAX are infinitely far. */
static unsigned distance(const char *a, const char *b)
{
    size_t   na = strlen(a), nb = strlen(b);
    unsigned d[WORD_MAX + 1][WORD_MAX + 1];
    if (na > WORD_MAX || nb > WORD_MAX)
        return UINT32_MAX;
    for (size_t i = 0; i <= na; i++)
        d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        for (size_t j = 1; j <= nb; j++) {
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[na][nb];
}

const char *args_nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    unsigned    least = strlen(word) < 4 ? 4 : 6; /* a name at half this distance is no longer near */
    for (size_t i = 0; i < count; i++) {
        unsigned d = distance(word, names[i]);
        if (d >= 3)
            continue;
        d = 2 * d + (strlen(names[i]) != strlen(word)); /* of two that are as near, the one that is as long */
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}
