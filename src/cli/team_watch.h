/* SPDX-License-Identifier: Apache-2.0 */
/* team_watch.h - follows the team events of a run through any number of lost connections, each event once. */
#pragma once
#include "cli/commands.h"

enum team_end { TEAM_END_FINAL, TEAM_END_ERROR, TEAM_END_CANCELLED, TEAM_END_SIGNAL, TEAM_END_LOST, TEAM_END_REFUSED };

struct team_watch {
    const char *run_id;
    int         wake_fd;      /* -1: none */
    uint32_t    tick_ms;      /* 0: no ticks */
    void (*on_event)(void *user, struct span text, struct jv event); /* text: the event as it came */
    void (*on_tick)(void *user);
    void *user;
    struct error error;       /* for LOST and REFUSED */
};
enum team_end team_watch(struct web *web, struct team_watch *watch);
