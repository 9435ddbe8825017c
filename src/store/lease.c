/* SPDX-License-Identifier: Apache-2.0 */
/* lease.c - who may write (model.md 6.4), and whether a transaction happened when nobody could say so.
 *
 * A start raises the node's epoch. Where other processes can reach the database (driver->shared), the node's row is the
 * lease: every transaction moves its `expires_ms` on, guarded by the epoch and the value that the transaction before it
 * left. So the row is a chain with one link per transaction of this process, and three things follow:
 *
 *   1. A process whose node another one has taken cannot write any more: its next link does not fit (ERR_FENCED).
 *   2. A commit whose answer was lost happened if and only if the row holds its link.
 *   3. It cannot happen twice, or late: what is tried again begins at the same link, and only one of the tries fits.
 *      That also stops the first try when it is still on its way to the server while the second one is done.
 *
 * `expires_ms` is wall time + LEASE_MS, and at least one more than before. Clocks that disagree may let a node be taken
 * early or late; they cannot make two writers.
 *
 * The row's `address` holds the token of the data folder. Whoever holds the lock on that folder knows that the process
 * before it is dead, and need not wait for its lease to run out. */
#include "store/inner.h"

enum { LEASE_MS = 10000, RENEW_MS = 3000 };

static enum err bound(enum err err, struct error *error)
{
    return err ? error_set(error, err, NULL, "the database refused a value of node") : ERR_OK;
}

static int64_t wall_ms(const struct store *store)
{
    return store->config.env->wall_ms(store->config.env);
}

/* ---- at start, in the transaction that prepares the schema ---- */

static enum err refused(const struct store *store, struct span id, int64_t expires_ms, const char *advice,
                        struct error *error)
{
    long long left_ms = (long long)(expires_ms - wall_ms(store));
    return error_set(error, ERR_CONFLICT, "store",
                     "node \"%.*s\" uses this database (its lease ends in %lld ms unless it is renewed): %s",
                     SPAN_ARG(id), left_ms, advice);
}

static enum err refuse_other_nodes(struct store *store, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt         *stmt = NULL;
    bool                    row = false;
    enum err                err = driver->prepare(store->writer.db, SQL_LEASE_OTHER, &stmt, error);
    if (!err)
        err = bound(driver->bind_bytes(stmt, 1, span_of(store->config.node)), error);
    if (!err)
        err = bound(driver->bind_i64(stmt, 2, wall_ms(store)), error);
    if (!err)
        err = driver->step(stmt, &row, error);
    if (!err && row)
        err = refused(store, driver->bytes(stmt, 0), driver->i64(stmt, 1), "a database has one node", error);
    driver->finalize(stmt);
    return err;
}

static enum err refuse_while_leased(struct store *store, const struct node_row *node, struct error *error)
{
    bool own = span_eq(node->address, span_of(store->lease.token));
    if (!own && node->expires_ms > wall_ms(store))
        return refused(store, node->id, node->expires_ms, "stop that server, or start with its data folder", error);
    return refuse_other_nodes(store, error);
}

static enum err raise_row(struct store *store, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt         *stmt = NULL;
    bool                    row;
    enum err                err = driver->prepare(store->writer.db, SQL_LEASE_RAISE, &stmt, error);
    if (!err)
        err = bound(driver->bind_bytes(stmt, 1, span_of(store->config.node)), error);
    if (!err)
        err = driver->step(stmt, &row, error);
    driver->finalize(stmt);
    return err;
}

static int64_t next_link(const struct store *store)
{
    int64_t wanted = wall_ms(store) + LEASE_MS;
    return wanted > store->lease.link ? wanted : store->lease.link + 1;
}

enum err lease_take(struct store *store, struct arena *arena, struct error *error)
{
    struct lease   *lease = &store->lease;
    struct node_row node = { .id = span_of(store->config.node) };
    bool            found = false;
    enum err        err = raise_row(store, error);
    if (!err)
        err = schema_read_row(store, TABLE_node, &node, arena, &found, error);
    if (!err && !found)
        node = (struct node_row){ .id = span_of(store->config.node), .epoch = 1 };
    if (!err && store->driver->shared)
        err = refuse_while_leased(store, &node, error);
    if (err)
        return err;
    if (store->driver->shared) {
        lease->link = node.expires_ms;
        lease->link = lease->next = node.expires_ms = next_link(store);
        node.address = span_of(lease->token);
    }
    lease->renewed_us = store_now_us(store);
    store->epoch = (uint64_t)node.epoch;
    return schema_write_row(store, TABLE_node, found ? SQL_PUT : SQL_INSERT, &node, error);
}

/* ---- with every transaction ---- */

/* The first try settles, too, the others do not, so it must be seen which of the two has happened. */
void lease_prepare(struct store *store, bool first)
{
    struct lease *lease = &store->lease;
    if (first)
        lease->first = next_link(store);
    lease->next = first ? lease->first : lease->first + 1;
}

bool lease_first_try(const struct store *store)
{
    return store->lease.next == store->lease.first;
}

static enum err move_link(struct store *store, int64_t to, struct error *error)
{
    const struct db_driver *driver = store->driver;
    const struct lease     *lease = &store->lease;
    struct db_stmt        **stmt = &store->writer.lease_renew;
    const int64_t           numbers[] = { to, (int64_t)store->epoch, lease->link };
    bool                    row;
    enum err                err = writer_prepare(store, stmt, SQL_LEASE_RENEW, error);
    for (unsigned i = 0; i < ARRAY_LEN(numbers) && !err; i++)
        err = bound(driver->bind_i64(*stmt, i + 1, numbers[i]), error);
    if (!err)
        err = bound(driver->bind_bytes(*stmt, ARRAY_LEN(numbers) + 1, span_of(store->config.node)), error);
    if (!err)
        err = driver->step(*stmt, &row, error);
    if (*stmt)
        driver->reset(*stmt);
    return err;
}

enum err lease_renew(struct store *store, struct error *error)
{
    return store->driver->shared ? move_link(store, store->lease.next, error) : ERR_OK;
}

void lease_committed(struct store *store)
{
    store->lease.link = store->lease.next;
    store->lease.renewed_us = store_now_us(store);
}

int lease_patience(const struct store *store)
{
    if (!store->driver->shared)
        return -1;
    uint64_t since_ms = (store_now_us(store) - store->lease.renewed_us) / 1000;
    return since_ms < RENEW_MS ? (int)(RENEW_MS - since_ms) : 0;
}

/* ---- afterwards ---- */

static enum err look(struct store *store, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct lease           *lease = &store->lease;
    struct db_stmt        **stmt = &store->writer.lease_look;
    bool                    row = false;
    enum err                err = writer_prepare(store, stmt, SQL_LEASE_LOOK, error);
    if (!err)
        err = bound(driver->bind_bytes(*stmt, 1, span_of(store->config.node)), error);
    if (!err)
        err = driver->step(*stmt, &row, error);
    if (err)
        return err;
    bool    own = row && driver->i64(*stmt, 0) == (int64_t)store->epoch;
    int64_t link = own ? driver->i64(*stmt, 1) : 0;
    if (own && (link == lease->next || link == lease->first)) {
        lease->next = link;
        return ERR_OK;
    }
    if (own && link == lease->link)
        return ERR_CONFLICT;
    return error_set(error, ERR_FENCED, NULL, "another process has taken this node over");
}

enum err lease_outcome(struct store *store, struct error *error)
{
    const struct db_driver *driver = store->driver;
    driver->rollback(store->writer.db);
    enum err err = driver->begin(store->writer.db, false, error);
    if (!err)
        err = look(store, error);
    if (store->writer.lease_look)
        driver->reset(store->writer.lease_look);
    driver->rollback(store->writer.db);
    return err;
}

void lease_give_back(struct store *store)
{
    const struct db_driver *driver = store->driver;
    struct error            error;
    if (!driver->shared || store->epoch == 0 || store_failed(store))
        return;
    enum err err = driver->begin(store->writer.db, true, &error);
    if (!err)
        err = move_link(store, 0, &error);
    if (!err)
        err = driver->commit(store->writer.db, &error);
    if (err) /* then it runs out by itself */
        driver->rollback(store->writer.db);
}
