/* SPDX-License-Identifier: Apache-2.0 */
/* team_conform.c - runs scenarios and says where the first difference is. */
#include "cli/team_conform.h"
#include "cli/commands.h"
#include "cli/team_sim.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- differences ---- */

static void put_short(struct buf *out, struct jv v)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (jv_kind(v) == JSON_NONE) {
        BUF_LIT(out, "nothing");
        return;
    }
    json_minify(v, &text);
    size_t n = text.len < 160 ? text.len : 160;
    while (n && n < text.len && ((unsigned char)text.p[n] & 0xc0) == 0x80)
        n--;
    buf_put(out, text.p, n);
    if (n < text.len)
        BUF_LIT(out, "…");
}

static bool says(struct jv expected, struct jv actual, const struct buf *pointer, struct buf *out)
{
    BUF_LIT(out, "at ");
    buf_span(out, pointer->len ? buf_view(pointer) : SPAN("/"));
    BUF_LIT(out, ": expected ");
    put_short(out, expected);
    BUF_LIT(out, ", got ");
    put_short(out, actual);
    return true;
}

static bool arrays_differ(struct jv expected, struct jv actual, struct buf *pointer, struct buf *out)
{
    size_t before = pointer->len, n = jv_count(expected) > jv_count(actual) ? jv_count(expected) : jv_count(actual);
    struct jv_iter left = jv_iter(expected), right = jv_iter(actual);
    for (size_t i = 0; i < n; i++) {
        struct jv x = jv_step(&left) ? left.value : (struct jv){ 0 }, y = jv_step(&right) ? right.value : (struct jv){ 0 };
        buf_printf(pointer, "/%zu", i);
        if (conform_differs(x, y, pointer, out))
            return true;
        pointer->len = before;
    }
    return false;
}

static bool objects_differ(struct jv expected, struct jv actual, struct buf *pointer, struct buf *out)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    size_t before = pointer->len;
    for (struct jv_iter it = jv_iter(expected); jv_step(&it);) {
        struct span name = jv_string(it.name, &arena);
        json_pointer_push(pointer, name);
        if (conform_differs(it.value, jv_get_span(actual, name), pointer, out))
            return true;
        pointer->len = before;
    }
    for (struct jv_iter it = jv_iter(actual); jv_step(&it);) {
        struct span name = jv_string(it.name, &arena);
        if (jv_kind(jv_get_span(expected, name)) != JSON_NONE)
            continue;
        json_pointer_push(pointer, name);
        return says((struct jv){ 0 }, it.value, pointer, out);
    }
    return false;
}

bool conform_differs(struct jv expected, struct jv actual, struct buf *pointer, struct buf *out)
{
    if (jv_is(expected, JSON_ARRAY) && jv_is(actual, JSON_ARRAY))
        return arrays_differ(expected, actual, pointer, out);
    if (jv_is(expected, JSON_OBJECT) && jv_is(actual, JSON_OBJECT))
        return objects_differ(expected, actual, pointer, out);
    if (jv_kind(expected) == jv_kind(actual) && (jv_kind(expected) == JSON_NONE || jv_equal(expected, actual)))
        return false;
    return says(expected, actual, pointer, out);
}

/* ---- scenarios ---- */

static bool is_digest(struct span name)
{
    return name.n > 6 && memcmp(name.p + name.n - 6, "Sha256", 6) == 0;
}

/* A notice of a retry is compared in the members that both sides have; the form of its error is nobody's rule. */
static bool retries_differ(struct jv expected, struct jv actual, struct buf *pointer, struct buf *out)
{
    static const char *const members[] = { "attempt", "maxAttempts", "delayMs", "providerId" };
    size_t before = pointer->len;
    if (jv_count(expected) != jv_count(actual))
        return says(expected, actual, pointer, out);
    struct jv_iter right = jv_iter(actual);
    for (struct jv_iter it = jv_iter(expected); jv_step(&it) && jv_step(&right);)
        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
            struct jv x = jv_get(it.value, members[i]);
            json_pointer_push(pointer, span_of(members[i]));
            if (jv_kind(x) != JSON_NONE && conform_differs(x, jv_get(right.value, members[i]), pointer, out))
                return true;
            pointer->len = before;
        }
    return false;
}

/* Values first, for a readable difference, then the digests, for the bytes. */
static bool scenario_differs(struct jv expected, struct jv actual, struct buf *out)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf pointer = { 0 };
    for (int digests = 0; digests < 2; digests++)
        for (struct jv_iter it = jv_iter(expected); jv_step(&it);) {
            struct span name = jv_string(it.name, &arena);
            struct jv   own = jv_get_span(actual, name);
            if (is_digest(name) != (digests == 1))
                continue;
            pointer.len = 0;
            json_pointer_push(&pointer, name);
            if (span_is(name, "retries") ? retries_differ(it.value, own, &pointer, out)
                                         : conform_differs(it.value, own, &pointer, out))
                return true;
        }
    return false;
}

static void report(struct conform *conform, struct span name, const struct buf *difference)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    buf_span(&text, buf_view(difference));
    buf_byte(&text, '\0');
    conform->passed += difference->len == 0;
    conform->failed += difference->len != 0;
    conform->each(conform->user, name, difference->len ? text.p : NULL);
}

void conform_scenario(struct span name, struct jv scenario, struct jv expected, struct conform *conform)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf actual = { 0 }, difference = { 0 };
    struct error error = { 0 };
    if (sim_scenario(scenario, NULL, &actual, &error) != ERR_OK)
        buf_span(&difference, span_of(error.message));
    else if (!jv_is(expected, JSON_OBJECT))
        BUF_LIT(&difference, "the expected file is missing or no JSON");
    else
        scenario_differs(expected, json_read(buf_view(&actual), &arena), &difference);
    report(conform, name, &difference);
}

/* ---- folders ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static struct jv read_json(const char *path, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct error error;
    if (cli_read(path, &text, &error) != ERR_OK)
        return (struct jv){ 0 };
    return json_read(arena_copy(arena, buf_view(&text)), arena);
}

static int is_json(const struct dirent *entry)
{
    return ends_with(entry->d_name, ".json");
}

/* The scenario and the file of what is expected of it. */
static void scenario_file(const char *folder, const char *name, struct conform *conform)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct span stem = span_make(name, strlen(name) - strlen(".scenario.json"));
    struct jv   scenario = read_json(arena_printf(&arena, "%s/%s", folder, name).p, &arena);
    struct jv   expected = read_json(arena_printf(&arena, "%s/%.*s.expected.json", folder, SPAN_ARG(stem)).p, &arena);
    conform_scenario(stem, scenario, expected, conform);
}

static void vector_file(const char *folder, const char *name, struct conform *conform)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv file = read_json(arena_printf(&arena, "%s/%s", folder, name).p, &arena);
    if (jv_str_eq(jv_get(file, "format"), "team-vectors-1"))
        conform_vectors(file, conform);
}

/* Every scenario or vector file of one folder, by name. */
static void one_folder(const char *folder, struct conform *conform)
{
    struct dirent **entries;
    int             count = scandir(folder, &entries, is_json, alphasort);
    for (int i = 0; i < count; i++) {
        if (ends_with(entries[i]->d_name, ".scenario.json"))
            scenario_file(folder, entries[i]->d_name, conform);
        else if (!ends_with(entries[i]->d_name, ".expected.json"))
            vector_file(folder, entries[i]->d_name, conform);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

enum err conform_folder(const char *path, struct conform *conform, struct error *error)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(error, ERR_NOT_FOUND, path, "%s is no folder", path);
    one_folder(path, conform);
    one_folder(arena_printf(&arena, "%s/scenarios", path).p, conform);
    one_folder(arena_printf(&arena, "%s/vectors", path).p, conform);
    if (ends_with(path, "scenarios") || ends_with(path, "scenarios/"))
        one_folder(arena_printf(&arena, "%s/../vectors", path).p, conform);
    if (conform->passed + conform->failed == 0)
        return error_set(error, ERR_NOT_FOUND, path, "%s has no *.scenario.json and no vector files", path);
    return ERR_OK;
}
