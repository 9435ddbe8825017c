/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_bundle.c - any bytes as a bundle definition: compiling must not crash, and what compiles must run.
 *
 * libFuzzer: build with -fsanitize=fuzzer,address,undefined. With -DFUZZ_MAIN instead it has a main of its
 * own, which changes built-in definitions at random from a fixed seed. */
#include "../unit/graph_rig.h"
#include "base/ids.h"
#include "workflow/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t draw(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

static void answer_something(struct rig *r, uint64_t *seed)
{
    static const char *const answers[] = {
        "{\"text\":\"a\",\"usage\":{},\"finish_reason\":\"stop\"}",
        "null",
        "{\"status\":\"completed\",\"output\":[1]}",
        "\"b\"",
        "{\"status\":\"failed\",\"error\":{\"retryable\":true}}",
        "{}",
        "{\"retryable\":true,\"code\":\"x\"}",
        "1e400",
    };
    static const enum err errs[] = { ERR_OK, ERR_OK, ERR_OK, ERR_OK, ERR_MODEL, ERR_TIMEOUT, ERR_EXPIRED, ERR_BUDGET };
    size_t at = draw(seed, (uint32_t)r->call_count);
    enum err err = r->calls[at].kind == FX_TIMER ? ERR_OK : errs[draw(seed, ARRAY_LEN(errs))];
    if (draw(seed, 4) == 0)
        rig_reload(r);
    rig_answer_at(r, at, err, answers[draw(seed, ARRAY_LEN(answers))]);
}

static void run_bounded(struct rig *r, uint64_t seed)
{
    assert(graph_ops.init(&r->plan, &r->machine_arenas[0], &r->m) == ERR_OK);
    rig_start(r, draw(&seed, 2) ? "{\"input\":{\"a\":1,\"b\":[\"x\",{}]},\"values\":{\"v\":1}}" : "{\"values\":{}}");
    for (int i = 0; i < 30 && r->call_count > 0; i++)
        answer_something(r, &seed);
    if (r->call_count == 0)
        assert(r->finished || r->failed);
    rig_reload(r);
}

/* The rig holds few calls at once and looks up every path it saw, so wide graphs are compiled only. */
static bool runs_in_rig(const struct graph *graph)
{
    return graph->node_count <= RIG_CALLS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    struct rig r = { 0 };
    struct json doc;
    uint64_t seed = hash64(data, size);

    r.fx.arena = &r.effects_arena;
    if (json_parse(span_make(data, size), &(struct json_limits){ .depth = 128 }, &scratch, &doc, NULL) == ERR_OK) {
        enum err err = graph_ops.compile(json_root(&doc), &r.plan, &issues);
        assert(err == ERR_OK || err == ERR_VALIDATION);
        assert((err == ERR_OK) == (issues.count == 0));
        if (err == ERR_OK && runs_in_rig(r.plan.compiled))
            run_bounded(&r, seed);
    }
    rig_close(&r);
    arena_done(&scratch);
    return 0;
}

#ifdef FUZZ_MAIN
static const char *const seeds[] = {
    "{\"format\":1,\"entry\":\"a\",\"policy\":{\"max_attempts\":1,\"max_steps\":90},\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"model.chat\","
    "\"capability_version\":\"1\",\"execution_binding\":\"model\",\"config\":{\"provider\":\"p\",\"model\":\"m\",\"prompt\":"
    "{\"$from\":\"/input/a\",\"default\":1}},\"next\":[\"b\",\"c\"],\"policy\":{\"max_tries\":2,\"backoff_ms\":1}},{\"node\":\"b\","
    "\"capability_ref\":\"core.human\",\"capability_version\":\"1\",\"execution_binding\":\"human\",\"config\":{\"prompt\":\"b\"},"
    "\"next\":\"d\"},{\"node\":\"c\",\"capability_ref\":\"core.set\",\"capability_version\":\"1\",\"execution_binding\":\"builtin\","
    "\"config\":{\"value\":{\"v\":{\"$from\":\"/values/v\",\"default\":0}}},\"next\":\"d\"},{\"node\":\"d\",\"capability_ref\":"
    "\"core.switch\",\"capability_version\":\"1\",\"execution_binding\":\"builtin\",\"config\":{\"cases\":[{\"when\":{\"pointer\":"
    "\"/nodes/b/output\",\"equals\":\"b\"},\"next\":\"a\"},{\"next\":\"e\"}]}},{\"node\":\"e\",\"capability_ref\":\"core.echo\","
    "\"capability_version\":\"1\",\"execution_binding\":\"builtin\"}]}",
    "{\"format\":1,\"entry\":\"a\",\"policy\":{\"max_steps\":300},\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.sleep\","
    "\"capability_version\":\"1\",\"execution_binding\":\"builtin\",\"config\":{\"ms\":1},\"next\":\"b\"},{\"node\":\"b\","
    "\"capability_ref\":\"core.emit\",\"capability_version\":\"1\",\"execution_binding\":\"builtin\",\"config\":{\"count\":3},"
    "\"next\":\"c\"},{\"node\":\"c\",\"capability_ref\":\"core.handoff\",\"capability_version\":\"1\",\"execution_binding\":\"agent\","
    "\"config\":{\"agent_id\":\"x\"},\"next\":\"d\"},{\"node\":\"d\",\"capability_ref\":\"core.fail\",\"capability_version\":\"1\","
    "\"execution_binding\":\"builtin\",\"config\":{\"fail_times\":1,\"retryable\":true},\"policy\":{\"max_tries\":2}}]}",
};
static const char *const pieces[] = { "\"a\"",
                                      "\"b\"",
                                      "\"e\"",
                                      "null",
                                      "7",
                                      "[]",
                                      "{}",
                                      "\"core.value\"",
                                      "{\"$from\":\"/input\"}",
                                      "\"core.switch\"",
                                      "\"builtin\"",
                                      "[\"a\",\"d\"]",
                                      "\"1\"",
                                      "true",
                                      "\"core.echo\"" };

/* Replaces one value by a piece, or drops a byte. */
static void change(struct buf *text, uint64_t *seed)
{
    size_t at = draw(seed, (uint32_t)text->len), end = at;
    struct buf out = { 0 };
    if (draw(seed, 8) == 0) {
        end = at + 1;
        buf_put(&out, text->p, at);
    } else {
        while (at > 0 && !strchr(":,[", text->p[at - 1]))
            at--;
        for (end = at; end < text->len && !strchr(",]}", text->p[end]);)
            end++;
        const char *piece = pieces[draw(seed, ARRAY_LEN(pieces))];
        buf_put(&out, text->p, at);
        buf_put(&out, piece, strlen(piece));
    }
    buf_put(&out, text->p + end, text->len - end);
    buf_done(text);
    *text = out;
}

int main(void)
{
    uint64_t seed = 20260101;
    for (int round = 0; round < 60000; round++) {
        struct buf text = { 0 };
        const char *from = seeds[draw(&seed, ARRAY_LEN(seeds))];
        buf_put(&text, from, strlen(from));
        for (uint32_t n = draw(&seed, 4); n > 0 && text.len > 0; n--)
            change(&text, &seed);
        LLVMFuzzerTestOneInput((const uint8_t *)text.p, text.len);
        buf_done(&text);
    }
    return 0;
}
#endif
