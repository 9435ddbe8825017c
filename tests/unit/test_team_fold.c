/* SPDX-License-Identifier: Apache-2.0 */
/* What a ledger says of a team: the fold of api/teams over records made by hand. */
#include "api/teams/fold.h"
#include "unit.h"

#define PLAN                                                                                                                   \
    "{\"nodes\":[{\"id\":\"desk\",\"type\":\"team.run\",\"machine\":{\"format\":1,\"kind\":\"team\",\"team\":{"                \
    "\"agents\":[{\"id\":\"a\",\"role\":\"r\"}],\"model\":{\"provider\":\"p\",\"stream\":true}}}},"                            \
    "{\"id\":\"other\",\"type\":\"core.value\"}]}"

struct seen {
    struct arena arena;
    struct span  events[16];
    size_t       count;
};

static void on_event(void *user, const struct team_event *event)
{
    struct seen *seen = user;
    seen->events[seen->count++] = arena_copy(&seen->arena, event->json);
}

static const struct uuid run = { .b = { 1, 2, 3 } };

static struct team_fold *open_fold(struct arena *arena, struct seen *seen)
{
    struct team_place place;
    team_place_find(json_read(SPAN(PLAN), arena), SPAN_NONE, arena, &place);
    assert_int_equal(place.count, 1);
    return team_fold_new(run, &place, seen ? on_event : NULL, seen);
}

static void give(struct team_fold *fold, enum record_type type, uint32_t op, const char *pub, const char *priv)
{
    struct record record = { .type = type, .op = op, .wall_ms = 1000, .pub = span_of(pub), .priv = priv ? span_of(priv) : SPAN_NONE };
    team_fold_take(fold, &record);
}

static void give_text(struct team_fold *fold, uint32_t op, const char *text)
{
    struct record record = { .type = REC_MODEL_DELTA, .op = op, .wall_ms = 1000, .delta_kind = DELTA_TEXT, .text = span_of(text),
                             .node = SPAN("desk") };
    team_fold_take(fold, &record);
}

static void begin(struct team_fold *fold)
{
    give(fold, REC_CUSTOM, 1, "{\"node\":\"desk\",\"name\":\"team.started\",\"value\":{\"intent\":\"go\"}}", NULL);
    give(fold, REC_CUSTOM, 1, "{\"node\":\"desk\",\"name\":\"team.role-assignment\",\"value\":{\"agentId\":\"a\",\"role\":\"r\"}}", NULL);
    give(fold, REC_MODEL_STARTED, 2, "{\"node\":\"desk\",\"call_id\":\"c2\"}",
         "{\"labels\":{\"agent_id\":\"a\",\"role\":\"r\",\"call\":0,\"request\":{\"messages\":[{\"role\":\"user\",\"content\":\"ask\"}],"
         "\"metadata\":{},\"temperature\":0}}}");
}

static void finish(struct team_fold *fold, uint32_t op)
{
    give(fold, REC_MODEL_FINISHED, op, "{\"node\":\"desk\"}", "{\"p\":[],\"v\":{\"text\":\"done\",\"finish_reason\":\"stop\"}}");
    give(fold, REC_CUSTOM, 1, "{\"node\":\"desk\",\"name\":\"team.agent-turn\",\"value\":{\"truncated\":true,\"bytes\":9}}",
         "{\"agentId\":\"a\",\"cost\":{\"usd\":0},\"input\":\"ask\",\"output\":\"done\",\"role\":\"r\"}"); /* it was too long for `pub` */
    give(fold, REC_CUSTOM, 1, "{\"node\":\"desk\",\"name\":\"team.final\",\"value\":{\"output\":\"done\",\"cost\":{\"usd\":0}}}", NULL);
}

static void check_event(struct jv event, const char *type, const char *name, const char *value)
{
    struct arena arena = { 0 };
    assert_true(jv_str_eq(jv_get(event, "type"), type));
    if (name)
        assert_true(span_is(jv_string(jv_get(event, name), &arena), value));
    arena_done(&arena);
}

static void a_call_made_again_counts_once(void **state)
{
    struct arena      arena = { 0 };
    struct buf        text = { 0 };
    struct team_fold *fold = open_fold(&arena, NULL);
    (void)state;
    begin(fold);
    give_text(fold, 2, "lo");
    give_text(fold, 2, "st");
    give(fold, REC_MODEL_FAILED, 2, "{\"node\":\"desk\"}", "{\"superseded\":true}");
    give(fold, REC_MODEL_STARTED, 3, "{\"node\":\"desk\",\"call_id\":\"c3\",\"supersedes_call_id\":\"c2\"}", NULL);
    give_text(fold, 3, "do");
    give_text(fold, 3, "ne");
    assert_false(team_fold_complete(fold));
    finish(fold, 3);
    assert_true(team_fold_complete(fold));
    struct jw w = jw_on(&text);
    team_trace_to_json(team_fold_trace(fold), &w);
    struct jv trace = json_read(buf_view(&text), &arena), events = jv_get(trace, "events");
    assert_int_equal(jv_count(events), 5);
    check_event(jv_at(events, 1), "model-output-chunk", "output", "do");
    check_event(jv_at(events, 2), "model-output-chunk", "output", "done");
    check_event(jv_at(events, 2), "model-output-chunk", "input", "ask");
    check_event(jv_at(events, 3), "agent-turn", "output", "done");
    assert_int_equal(jv_count(jv_get(trace, "providerCalls")), 1);
    assert_true(span_is(jv_string(jv_get(jv_get(trace, "inputs"), "intent"), &arena), "go"));
    team_fold_free(fold);
    buf_done(&text);
    arena_done(&arena);
}

static void a_stream_tells_what_happened_and_how_it_ended(void **state)
{
    struct arena      arena = { 0 };
    struct seen       seen = { .count = 0 };
    struct team_fold *fold = open_fold(&arena, &seen);
    (void)state;
    begin(fold);
    give_text(fold, 2, "lost");
    give(fold, REC_CUSTOM, 9, "{\"node\":\"other\",\"name\":\"team.final\",\"value\":{\"output\":\"no\"}}", NULL);
    give(fold, REC_RUN_FAILED, 0, "{\"error\":{\"code\":\"rate_limited\",\"category\":\"rate_limit\",\"message\":\"slow down\",\"retryable\":true}}", NULL);
    assert_int_equal(seen.count, 3);
    struct jv error = json_read(seen.events[2], &arena);
    check_event(error, "error", "name", "DogpileError");
    check_event(error, "error", "message", "slow down");
    assert_true(span_is(jv_string(jv_get(jv_get(error, "detail"), "code"), &arena), "provider-rate-limited"));
    team_fold_free(fold);
    arena_done(&seen.arena);
    arena_done(&arena);
}

static void records_before_a_team_began_are_nothing(void **state)
{
    struct arena      arena = { 0 };
    struct seen       seen = { .count = 0 };
    struct team_fold *fold = open_fold(&arena, &seen);
    (void)state;
    give_text(fold, 2, "x");
    finish(fold, 2);
    assert_false(team_fold_begun(fold));
    give(fold, REC_RUN_CANCELLED, 0, "{\"reason\":\"r\"}", NULL);
    assert_int_equal(seen.count, 1); /* as the contract: a stream that was cancelled before the start has this one event, without a run id */
    check_event(json_read(seen.events[0], &arena), "error", "runId", "");
    team_fold_free(fold);
    arena_done(&seen.arena);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_made_again_counts_once),
        cmocka_unit_test(a_stream_tells_what_happened_and_how_it_ended),
        cmocka_unit_test(records_before_a_team_began_are_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
