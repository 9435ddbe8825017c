/* SPDX-License-Identifier: Apache-2.0 */
/* engine_rig.h - a whole engine in the test's own process: real loop, real store, real machines, the scripted models. */
#pragma once
#include "ledger/follow.h"
#include "run/engine.h"
#include "support/store_fixture.h"

struct rig {
    char                   *folder, *url;
    const struct db_driver *driver;
    struct loop            *loop;
    struct engine_inbox    *inbox;
    struct store           *store;
    struct http_client     *client;
    struct models          *models;
    struct engine          *engine;
    struct uuid             tenant, workspace;
    struct ledger_config    ledger;
    struct engine_tools     tools;  /* these are set before rig_open */
    const struct prices    *prices;
    const struct machine_ops *const *machines; /* NULL: the graph alone */
    struct plan_budget      run_budget, day_budget;
    bool                  (*until)(void *user);
    void                   *until_user;
    uint64_t                give_up_us;
    bool                    timed_out;
    struct loop_timer       poll;
};

/* driver NULL: SQLite. Zeroes *rig but keeps nothing; the folder is new. */
void rig_init(struct rig *rig, const struct db_driver *driver);
/* ERR_OK: the engine runs, what was in flight is recovered. */
enum err rig_open(struct rig *rig, struct error *error);
void     rig_close(struct rig *rig); /* drains when it can; keeps the folder */
void     rig_done(struct rig *rig);  /* closes and removes the folder */
/* Runs the loop until until(user) is true, at most `seconds`. False: time was over. */
bool rig_run(struct rig *rig, bool (*until)(void *user), void *user, double seconds);

/* An agent with one published bundle. The definition must compile. */
struct uuid rig_agent(struct rig *rig, const char *name, const char *definition);
/* Everything read back with a reader of the test's own: the events of a stream as AR types joined by spaces. */
void rig_events(struct rig *rig, uint64_t stream, struct buf *out);
