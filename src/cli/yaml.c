/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.c - a YAML document to JSON text, with libyaml.
 *
 * libyaml gives a table of nodes in which an alias is only an index, so that it is we who expand them, within a bound. */
#include "cli/yaml.h"
#include "base/json.h"
#include <stdlib.h>
#include <yaml.h>

enum { DEPTH_MAX = 64, BYTES_MAX = 16 << 20 };

struct writer {
    yaml_document_t *document;
    struct buf      *out;
    size_t           start;
    struct error    *error;
};

static enum err complain(struct writer *w, const yaml_node_t *node, const char *what)
{
    return error_set(w->error, ERR_VALIDATION, "", "line %zu, column %zu: %s", node->start_mark.line + 1,
                     node->start_mark.column + 1, what);
}

/* ---- scalars ---- */

static bool is_one_of(struct span text, const char *const *words)
{
    for (; *words; words++)
        if (span_is(text, *words))
            return true;
    return false;
}

static size_t digits(struct span text, size_t from)
{
    size_t n = from;
    while (n < text.n && text.p[n] >= '0' && text.p[n] <= '9')
        n++;
    return n - from;
}

/* [-+]? ( digits (. digits?)? | . digits ) ([eE] [-+]? digits)?  */
static bool is_number(struct span text)
{
    size_t at = text.n && (text.p[0] == '-' || text.p[0] == '+');
    size_t whole = digits(text, at), fraction = 0;
    at += whole;
    if (at < text.n && text.p[at] == '.') {
        fraction = digits(text, at + 1);
        at += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (at < text.n && (text.p[at] == 'e' || text.p[at] == 'E')) {
        at++;
        at += at < text.n && (text.p[at] == '-' || text.p[at] == '+');
        size_t n = digits(text, at);
        if (n == 0)
            return false;
        at += n;
    }
    return at == text.n;
}

/* Numbers that JSON writes otherwise (+1, .5, 007, 1.) go through a double or lose their zeros. */
static void put_number(struct writer *w, struct span text)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    if (jv_is(json_read(text, &arena), JSON_NUMBER)) {
        buf_span(w->out, text);
        return;
    }
    struct span plain = text.p[0] == '+' ? span_make(text.p + 1, text.n - 1) : text;
    bool minus = plain.n && plain.p[0] == '-';
    size_t zeros = minus;
    while (zeros + 1 < plain.n && plain.p[zeros] == '0' && plain.p[zeros + 1] >= '0' && plain.p[zeros + 1] <= '9')
        zeros++;
    struct span bare = span_make(plain.p + zeros, plain.n - zeros);
    if (jv_is(json_read(bare, &arena), JSON_NUMBER)) {
        buf_span(w->out, minus ? SPAN("-") : SPAN(""));
        buf_span(w->out, bare);
        return;
    }
    json_put_f64(w->out, strtod(arena_copy(&arena, text).p, NULL));
}

static enum err put_scalar(struct writer *w, const yaml_node_t *node)
{
    static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
    static const char *const yes[] = { "true", "True", "TRUE", NULL };
    static const char *const no[] = { "false", "False", "FALSE", NULL };
    static const char *const unwritable[] = { ".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf", ".INF",
                                              "-.inf", "-.Inf", "-.INF", "+.inf", NULL };
    struct span text = span_make(node->data.scalar.value, node->data.scalar.length);
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        json_put_string(w->out, text);
    else if (is_one_of(text, nulls))
        BUF_LIT(w->out, "null");
    else if (is_one_of(text, yes))
        BUF_LIT(w->out, "true");
    else if (is_one_of(text, no))
        BUF_LIT(w->out, "false");
    else if (is_one_of(text, unwritable))
        return complain(w, node, "JSON has no such number");
    else if (is_number(text))
        put_number(w, text);
    else
        json_put_string(w->out, text);
    return ERR_OK;
}

/* ---- nodes ---- */

static enum err put_node(struct writer *w, int index, unsigned depth);

static enum err put_sequence(struct writer *w, const yaml_node_t *node, unsigned depth)
{
    buf_byte(w->out, '[');
    for (const yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
        if (item > node->data.sequence.items.start)
            buf_byte(w->out, ',');
        enum err err = put_node(w, *item, depth);
        if (err)
            return err;
    }
    buf_byte(w->out, ']');
    return ERR_OK;
}

static enum err put_mapping(struct writer *w, const yaml_node_t *node, unsigned depth)
{
    buf_byte(w->out, '{');
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(w->document, pair->key);
        if (!key || key->type != YAML_SCALAR_NODE)
            return complain(w, key ? key : node, "a key must be text");
        struct span name = span_make(key->data.scalar.value, key->data.scalar.length);
        if (span_is(name, "<<") && key->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
            return complain(w, key, "merge keys are not supported");
        if (pair > node->data.mapping.pairs.start)
            buf_byte(w->out, ',');
        json_put_string(w->out, name);
        buf_byte(w->out, ':');
        enum err err = put_node(w, pair->value, depth);
        if (err)
            return err;
    }
    buf_byte(w->out, '}');
    return ERR_OK;
}

static enum err put_node(struct writer *w, int index, unsigned depth)
{
    const yaml_node_t *node = yaml_document_get_node(w->document, index);
    assert(node);
    if (depth == 0)
        return complain(w, node, "it is nested too deep, or an alias holds itself");
    if (w->out->len - w->start > BYTES_MAX)
        return complain(w, node, "aliases make it larger than 16 MiB");
    switch (node->type) {
    case YAML_SCALAR_NODE: return put_scalar(w, node);
    case YAML_SEQUENCE_NODE: return put_sequence(w, node, depth - 1);
    case YAML_MAPPING_NODE: return put_mapping(w, node, depth - 1);
    default: return complain(w, node, "is no YAML value");
    }
}

/* ---- the document ---- */

static enum err parse_error(const yaml_parser_t *parser, struct error *error)
{
    return error_set(error, ERR_VALIDATION, "", "line %zu, column %zu: %s", parser->problem_mark.line + 1,
                     parser->problem_mark.column + 1, parser->problem ? parser->problem : "this is no YAML");
}

static enum err put_document(yaml_document_t *document, struct buf *out, struct error *error)
{
    struct writer w = { .document = document, .out = out, .start = out->len, .error = error };
    if (!yaml_document_get_root_node(document))
        return error_set(error, ERR_VALIDATION, "", "there is nothing in it");
    return put_node(&w, 1, DEPTH_MAX + 1);
}

enum err yaml_to_json(struct span yaml, struct buf *out, struct error *error)
{
    yaml_parser_t parser;
    yaml_document_t document, next;
    if (!yaml_parser_initialize(&parser))
        return error_set(error, ERR_NOMEM, "", "out of memory");
    yaml_parser_set_input_string(&parser, (const unsigned char *)(yaml.n ? yaml.p : ""), yaml.n);
    enum err err = ERR_OK;
    if (!yaml_parser_load(&parser, &document)) {
        err = parse_error(&parser, error);
        yaml_parser_delete(&parser);
        return err;
    }
    err = put_document(&document, out, error);
    yaml_document_delete(&document);
    if (err == ERR_OK && !yaml_parser_load(&parser, &next)) {
        err = parse_error(&parser, error);
    } else if (err == ERR_OK) {
        if (yaml_document_get_root_node(&next))
            err = error_set(error, ERR_VALIDATION, "", "there is more than one document in it");
        yaml_document_delete(&next);
    }
    yaml_parser_delete(&parser);
    return err;
}
