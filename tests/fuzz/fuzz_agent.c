/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_agent.c - any bytes as an agent definition: compiling must not crash, and what compiles must cope with any answer; and any
 * bytes as an answer of a model or a tool, and as a snapshot.
 *
 * libFuzzer: build with -fsanitize=fuzzer,address,undefined. With -DFUZZ_MAIN instead it has a main of its own, which changes
 * built-in definitions and answers at random from a fixed seed. */
#include "../unit/agent_rig.h"
#include "base/ids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t draw(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

static const char *const answers[] = {
    "{\"text\":\"a\",\"finish_reason\":\"stop\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"total_tokens\":3}}",
    "{\"text\":\"5\",\"finish_reason\":\"length\"}",
    "{\"text\":\"\",\"tool_calls\":[{\"id\":\"a\",\"name\":\"c\",\"arguments\":\"{}\"},{\"id\":\"a\",\"name\":\"user_ask\",\"arguments\":"
    "\"{\\\"question\\\":\\\"q\\\"}\"},{\"id\":\"call_0_2\",\"name\":\"s\",\"arguments\":\"{\\\"input\\\":\\\"x\\\"}\"},{\"name\":\"f_a\"}]}",
    "{\"tool_calls\":[{\"id\":\"\",\"name\":\"s\",\"arguments\":{\"input\":\"y\"}},{\"id\":\"call_0_3\",\"name\":\"r\",\"arguments\":\"{}\"},"
    "{\"id\":\"z\",\"name\":\"kv_read\",\"arguments\":\"{\\\"key\\\":\\\"\\\\u0000\\\"}\"},7,{},[]],\"finish_reason\":\"length\",\"provider_state\":[1]}",
    "{\"tool_calls\":[{\"id\":\"x\",\"name\":\"f.a\",\"arguments\":\"{\\\"a\\\":\"}]}",
    "{\"tools\":[{\"name\":\"f.a\",\"input_schema\":{\"type\":\"object\"},\"approval\":true},{\"name\":\"f.b\"},{\"name\":5},3]}",
    "{\"approved\":true}",
    "{\"status\":\"completed\",\"output\":{\"text\":\"t\"}}",
    "\"b\\u0000c\"",
    "null",
    "{}",
    "{\"message\":\"m\\ud800\",\"retryable\":true,\"code\":\"x\",\"provider_code\":1}",
};

/* The definition may have brought bytes of its own: they are answers too, if they are JSON. */
static struct span some_answer(const struct span *own, uint64_t *seed)
{
    uint32_t at = draw(seed, ARRAY_LEN(answers) + (own->n ? 2 : 0));
    return at < ARRAY_LEN(answers) ? span_of(answers[at]) : *own;
}

static void answer_something(struct arig *r, const struct span *own, uint64_t *seed)
{
    static const enum err errs[] = { ERR_OK, ERR_OK, ERR_OK, ERR_OK, ERR_OK, ERR_TOOL, ERR_EXPIRED, ERR_BUDGET };
    struct span value = some_answer(own, seed);

    r->reloads = draw(seed, 3) == 0;
    if (draw(seed, 8) == 0)
        arig_input(r, IN_MESSAGE, (struct op_path){ 0 }, ERR_OK, some_answer(own, seed));
    arig_answer_at(r, draw(seed, (uint32_t)r->open_count), errs[draw(seed, ARRAY_LEN(errs))], value);
}

static void run_bounded(struct arig *r, const struct span *own, uint64_t seed)
{
    assert(agent_ops.init(&r->plan, &r->arenas[0], &r->m) == ERR_OK);
    arig_start(r, "{\"input\":\"x\",\"values\":{\"messages\":[{\"role\":\"user\",\"content\":\"1\"}],\"v\":1}}");
    for (int i = 0; i < 24 && r->open_count > 0 && r->open_count < ARIG_OPEN / 2; i++)
        answer_something(r, own, &seed);
    if (r->open_count == 0)
        assert(r->finished || r->failed);
    r->open_count = 0;
    arig_reload(r);
    arig_start(r, "{\"input\":\"x\"}");
    arig_reload(r);
}

static void load_anything(struct arig *r, struct span text)
{
    struct machine *m;
    struct arena arena = { 0 };
    if (agent_ops.load(&r->plan, text, &arena, &m) == ERR_OK) {
        struct input in = { .kind = IN_START, .value = SPAN("{\"input\":\"x\"}") };
        struct arena turn = { 0 };
        struct effects fx = { .arena = &turn };
        assert(agent_ops.step(m, &in, &fx) == ERR_OK);
        free(fx.items);
        arena_done(&turn);
    }
    arena_done(&arena);
}

/* "DEFINITION" or "DEFINITION\nANSWER". */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    struct arig r = { .fx.arena = NULL };
    struct json doc, answer;
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    size_t n = line ? (size_t)(line - data) : size;
    struct span own = line ? span_make(line + 1, size - n - 1) : SPAN_NONE;
    struct json_limits limits = { .depth = 64, .lone_surrogates = true };

    r.fx.arena = &r.effects_arena;
    if (json_parse(own, &limits, &scratch, &answer, NULL))
        own = SPAN_NONE; /* the host only passes on JSON */
    if (json_parse(span_make(data, n), &(struct json_limits){ .depth = 128 }, &scratch, &doc, NULL) == ERR_OK) {
        enum err err = agent_ops.compile(json_root(&doc), &r.plan, &issues);
        assert(err == ERR_OK || err == ERR_VALIDATION);
        assert((err == ERR_OK) == (issues.count == 0));
        if (err == ERR_OK) {
            load_anything(&r, own);
            run_bounded(&r, &own, hash64(data, size));
        }
    }
    arig_done(&r);
    arena_done(&scratch);
    return 0;
}

#ifdef FUZZ_MAIN
static const char *const seeds[] = {
    "{\"model\":{\"provider\":\"p\",\"model\":\"m\"},\"tools\":[\"f.*\",\"user_ask\",{\"name\":\"c\",\"by\":\"client\",\"approval\":true},{\"name\":\"s\","
    "\"agent\":{\"model\":{\"provider\":\"p\",\"model\":\"m\"},\"tools\":[\"kv_read\",\"f.a\"]}},{\"name\":\"r\",\"agent_id\":\"i\",\"parameters\":{}},"
    "{\"name\":\"kv_read\",\"by\":\"local\"}],\"memory\":{\"thread\":true,\"max_messages\":3},"
    "\"limits\":{\"max_steps\":3,\"max_tool_calls_per_step\":5},\"on_limit\":\"stop\"}\n"
    "{\"text\":\"x\",\"tool_calls\":[{\"id\":\"a\",\"name\":\"c\",\"arguments\":\"{}\"},{\"id\":\"b\",\"name\":\"f_a\",\"arguments\":\"[1\"}]}",
    "{\"system\":\"s\",\"model\":{\"provider\":\"p\",\"model\":\"m\"},\"tools\":[{\"name\":\"c\",\"by\":\"client\"}],\"output\":{\"schema\":{\"type\":"
    "\"integer\"},\"repairs\":1},\"on_budget\":\"fail\",\"budget\":{\"usd\":\"0.1\"},\"tool_choice\":\"required\",\"output_form\":\"response\"}\n"
    "{\"rev\":1,\"life\":\"running\",\"phase\":\"tools\",\"steps\":1,\"last\":{\"text\":\"\\\"\\\"\",\"finish_reason\":\"stop\"},\"messages\":[{\"role\":"
    "\"user\",\"content\":\"x\"}],\"calls\":[{\"id\":\"a\",\"name\":\"c\",\"arguments\":{},\"state\":\"tool\"}]}",
};
static const char *const pieces[] = { "\"a\"", "\"c\"",    "\"client\"", "null",    "7",      "[]",       "{}",       "\"tools\"", "\"done\"",
                                      "true",  "\"user_ask\"", "\"f.*\"",    "\"local\"", "\"role\"", "\"list\"", "\"model\"", "-1" };

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
        for (end = at; end < text->len && !strchr(",]}\n", text->p[end]);)
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
    uint64_t seed = 20260202;
    for (int round = 0; round < 30000; round++) {
        struct buf text = { 0 };
        const char *from = seeds[draw(&seed, ARRAY_LEN(seeds))];
        buf_put(&text, from, strlen(from));
        for (uint32_t n = draw(&seed, 4); n > 0 && text.len > 0; n--)
            change(&text, &seed);
        BUF_LIT(&text, " ");
        buf_printf(&text, "%*s", (int)draw(&seed, 8), ""); /* other answers for the same bytes */
        LLVMFuzzerTestOneInput((const uint8_t *)text.p, text.len);
        buf_done(&text);
    }
    return 0;
}
#endif
