/* SPDX-License-Identifier: Apache-2.0 */
/* store_fixture.h - what tests of the store share: a folder of their own, and an owner that waits for its batches. */
#pragma once
#include "store/store.h"

/* A new folder under TMPDIR; remove it with temp_folder_remove. NUL-terminated, free with free(). */
char *temp_folder_new(void);
void  temp_folder_remove(char *path); /* with everything in it; frees path; accepts NULL */

struct fixture {
    const struct db_driver *base;  /* db_sqlite or db_pg */
    char               *folder, *url;
    char               *data;     /* the store's data folder, inside `folder` */
    char               *schema;   /* on PostgreSQL: the tables live in a schema of their own */
    struct store_config config;
    struct store       *store;
    struct mailbox      box;      /* the owner's */
    size_t              waiting;  /* batches and jobs that are under way */
    unsigned            ok, failed;
};
/* Tiny limits, so that settling and checkpoints happen in tests. driver may be NULL. Does not open the store. */
void     fixture_init(struct fixture *fixture, const struct db_driver *driver);
/* The same on a driver of one's choice. For db_pg the environment's PERDURE_TEST_PG is the url of a server. */
void     fixture_init_on(struct fixture *fixture, const struct db_driver *base, const struct db_driver *driver);
bool     fixture_has(const struct db_driver *base); /* db_pg: whether there is a server */
/* On a connection of its own, in the store's database. What fails ends the test program. */
void     fixture_exec(struct fixture *fixture, const char *sql);
enum err fixture_open(struct fixture *fixture, struct error *error);
void     fixture_must_open(struct fixture *fixture);
void     fixture_close(struct fixture *fixture);  /* waits, closes the store; the folder stays */
void     fixture_done(struct fixture *fixture);   /* closes what is open and removes the folder, or the schema */

void     fixture_submit(struct fixture *fixture, struct batch *batch);
void     fixture_read(struct fixture *fixture, struct read_job *job);
/* Until nothing is under way. Returns the result of the last batch that came back. */
enum err fixture_wait(struct fixture *fixture);
enum err fixture_commit(struct fixture *fixture, struct batch *batch); /* submit and wait */
/* Waits (bounded) until the store has settled and deleted all it can: tail empty. False when it did not. */
bool     fixture_settled(struct fixture *fixture);

/* One event each of `size` bytes that can be told from all others. */
void     fixture_body(uint64_t stream, uint64_t seq, size_t size, struct buf *out);
bool     fixture_body_is(uint64_t stream, uint64_t seq, struct span body);
