/* SPDX-License-Identifier: Apache-2.0 */
/* pace.c - chunks that are due one by one, for the providers that are built in. */
#include "model/provider.h"

static uint64_t pace_due(const struct pace *pace)
{
    return pace->start_us + (pace->next - pace->first) * pace->interval_us;
}

static void pace_slice(struct pace *pace, uint64_t now_us)
{
    unsigned room = PACE_SLICE;
    while (!pace->call->closed && pace->next < pace->count && room-- > 0 && pace_due(pace) <= now_us)
        pace->emit(pace->call, pace->next++);
}

static void pace_fire(struct loop_timer *timer)
{
    struct pace       *pace = CONTAINER(timer, struct pace, timer);
    struct model_call *call = pace->call;
    uint64_t           now_us = loop_now_us(timer->loop);

    if (!pace->running) {
        pace->running = true;
        pace->start_us = now_us;
    }
    call_enter(call);
    pace_slice(pace, now_us);
    if (!call->closed && pace->next >= pace->count)
        pace->end(call);
    if (!call->closed) {
        uint64_t due_us = pace_due(pace);
        loop_timer_set(timer, due_us > now_us ? due_us : now_us + 1); /* late or not, not again in this round */
    }
    call_leave(call);
}

void pace_start(struct pace *pace, struct model_call *call, uint64_t first, uint64_t count, uint64_t interval_ms)
{
    assert(interval_ms <= PACE_INTERVAL_MAX);
    pace->call = call;
    pace->interval_us = interval_ms * 1000;
    pace->first = pace->next = first < count ? first : count;
    pace->count = count;
    loop_timer_init(&pace->timer, call->loop, pace_fire);
    loop_timer_set(&pace->timer, 1); /* long past: the next round */
}

void pace_delay(struct pace *pace, uint64_t ms)
{
    assert(!pace->running);
    loop_timer_set(&pace->timer, loop_now_us(pace->call->loop) + ms * 1000);
}

void pace_stop(struct pace *pace)
{
    loop_timer_clear(&pace->timer);
}
