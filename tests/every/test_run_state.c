/* SPDX-License-Identifier: Apache-2.0 */
/* test_run_state.c - every pair of state and input, against the transitions of agent-runs.md 4.2 written out once more. */
#include "run/state.h"
#include "unit/unit.h"

static const struct {
    enum run_status from;
    enum run_input  input;
    enum run_status to;
} legal[] = {
    { RUN_PENDING, RUN_PROMOTE, RUN_QUEUED },      /* T3 */
    { RUN_QUEUED, RUN_CLAIM, RUN_ACTIVE },         /* T4 */
    { RUN_ACTIVE, RUN_FINISH, RUN_COMPLETED },     /* T5 */
    { RUN_ACTIVE, RUN_FAIL, RUN_FAILED },          /* T6 */
    { RUN_ACTIVE, RUN_REST, RUN_WAITING },         /* T7 */
    { RUN_WAITING, RUN_ANSWER, RUN_RESUMED },      /* T8 */
    { RUN_RESUMED, RUN_REQUEUE, RUN_QUEUED },      /* T9 */
    { RUN_ACTIVE, RUN_TRY_AGAIN, RUN_QUEUED },     /* T10 */
    { RUN_FAILED, RUN_RETRY, RUN_QUEUED },         /* T11 */
    { RUN_FAILED, RUN_RETRY_BUSY, RUN_PENDING },   /* T11 */
    { RUN_PENDING, RUN_CANCEL, RUN_CANCELLED },    /* T12 */
    { RUN_QUEUED, RUN_CANCEL, RUN_CANCELLED },
    { RUN_ACTIVE, RUN_CANCEL, RUN_CANCELLED },
    { RUN_WAITING, RUN_CANCEL, RUN_CANCELLED },
    { RUN_RESUMED, RUN_CANCEL, RUN_CANCELLED },
    { RUN_WAITING, RUN_FAIL, RUN_FAILED },         /* T13 */
    { RUN_WAITING, RUN_WAKE, RUN_ACTIVE },         /* T13, through the machine, in one commit */
    { RUN_PENDING, RUN_FAIL, RUN_FAILED },         /* T14 */
    { RUN_QUEUED, RUN_FAIL, RUN_FAILED },
};

static bool expected(enum run_status from, enum run_input input, enum run_status *ret_to)
{
    for (size_t i = 0; i < ARRAY_LEN(legal); i++)
        if (legal[i].from == from && legal[i].input == input) {
            *ret_to = legal[i].to;
            return true;
        }
    return false;
}

static void what_is_not_written_is_not_allowed(void **state)
{
    (void)state;
    for (int from = 0; from < RUN_STATUS_COUNT; from++)
        for (int input = 0; input < RUN_INPUT_COUNT; input++) {
            enum run_status want = RUN_STATUS_COUNT, got = RUN_STATUS_COUNT;
            bool            allowed = expected((enum run_status)from, (enum run_input)input, &want);
            assert_int_equal(run_edge((enum run_status)from, (enum run_input)input, &got), allowed);
            assert_int_equal(got, want);
        }
}

static void nothing_leaves_completed_and_cancelled(void **state)
{
    (void)state;
    for (int input = 0; input < RUN_INPUT_COUNT; input++) {
        enum run_status to;
        assert_false(run_edge(RUN_COMPLETED, (enum run_input)input, &to));
        assert_false(run_edge(RUN_CANCELLED, (enum run_input)input, &to));
    }
}

static void words_and_statuses_are_one_to_one(void **state)
{
    (void)state;
    for (int s = 0; s < RUN_STATUS_COUNT; s++) {
        enum run_status back;
        assert_true(run_status_parse(span_of(run_status_ar((enum run_status)s, MASK_PERSON)), &back));
        assert_int_equal(back, s);
    }
    assert_string_equal(run_status_ar(RUN_WAITING, MASK_TOOLS), "running");
    enum run_status none;
    assert_false(run_status_parse(SPAN("bogus"), &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_written_is_not_allowed),
        cmocka_unit_test(nothing_leaves_completed_and_cancelled),
        cmocka_unit_test(words_and_statuses_are_one_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
