/* SPDX-License-Identifier: Apache-2.0 */
/* pg_append.c - durable appends on PostgreSQL: our store's one writer against plain connections, in the same run.
 *
 *   pg_append URL DIR SECONDS BYTES APPENDERS CONNECTIONS
 *
 *   url=$(tests/support/postgres.sh start /var/tmp/pg)      # a server of one's own, fsync on
 *   bench-pg_append "$url" /var/tmp/data 5 300 64 32
 *   tests/support/postgres.sh remove /var/tmp/pg
 *
 * Ours: as append.c, APPENDERS streams, each appends its next event when the last one is on disk; one connection writes. Plain:
 * CONNECTIONS threads, each with a connection of its own, insert one row per transaction with a prepared statement, into a
 * table with an identity as its key and no other index. Both sides take turns, three times, and the median of each counts. */
#include "common.h"
#include "ledger/ledger.h"
#include <libpq-fe.h>
#include <pthread.h>

enum { ROUNDS = 3 };

/* ---- ours ---- */

struct appender {
    struct bench    *bench;
    struct appender *due_next;
    struct stream   *stream;
};

struct bench {
    struct mailbox   box;
    struct store    *store;
    struct ledger   *ledger;
    struct appender *due;
    struct span      text;
    uint64_t         done;
    size_t           busy;
};

static void deliver(void *user, struct mail *chain)
{
    mailbox_post_chain(&((struct bench *)user)->box, chain);
}

static void acknowledged(void *arg, enum err err)
{
    struct appender *a = arg;
    if (err)
        die("a commit failed");
    a->bench->done++;
    a->bench->busy--;
    a->due_next = a->bench->due;
    a->bench->due = a;
}

/* Everybody who is due appends; one batch leaves. */
static void turn(struct bench *bench)
{
    struct batch *batch = batch_new(bench->store);
    while (bench->due) {
        struct appender *a = bench->due;
        bench->due = a->due_next;
        stream_append(a->stream, &(struct record){ .type = REC_CUSTOM, .op = 1, .pub = bench->text });
        batch_after(batch, acknowledged, a);
        bench->busy++;
    }
    ledger_seal(bench->ledger, batch);
    store_submit(bench->store, batch);
}

static void finish_mail(struct bench *bench)
{
    for (struct mail *mail = mailbox_wait(&bench->box, -1), *next; mail; mail = next) {
        next = mail->next;
        store_finish(bench->store, mail);
    }
}

static double ours(struct bench *bench, double seconds)
{
    uint64_t done = bench->done, begin = now_ns();
    while ((double)(now_ns() - begin) < seconds * 1e9) {
        turn(bench);
        finish_mail(bench);
    }
    while (bench->busy > 0)
        finish_mail(bench);
    return (double)(bench->done - done) / ((double)(now_ns() - begin) / 1e9);
}

static void open_store(struct bench *bench, const char *url, const char *folder)
{
    struct error error = { 0 };
    mailbox_init(&bench->box, false);
    struct store_config config = { .url = url, .folder = folder, .env = env_real(), .deliver = deliver, .user = bench };
    if (store_open(&config, &bench->store, &error))
        die("%s", error.message);
    struct ledger_config ledger = { .store = bench->store, .env = env_real() };
    ledger_defaults(&ledger);
    bench->ledger = ledger_new(&ledger);
}

/* ---- plain ---- */

struct plain {
    pthread_t   thread;
    PGconn     *conn;
    struct span text;
    uint64_t    until_ns, done;
};

static void must(PGconn *conn, PGresult *result)
{
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("%s", PQerrorMessage(conn));
    PQclear(result);
}

static void *run_plain(void *arg)
{
    struct plain     *plain = arg;
    const char *const values[] = { plain->text.p };
    const int         lengths[] = { (int)plain->text.n }, formats[] = { 1 };
    for (; now_ns() < plain->until_ns; plain->done++)
        must(plain->conn, PQexecPrepared(plain->conn, "put", 1, values, lengths, formats, 1));
    return NULL;
}

static void plain_open(struct plain *plain, const char *url)
{
    plain->conn = PQconnectdb(url);
    if (PQstatus(plain->conn) != CONNECTION_OK)
        die("%s", PQerrorMessage(plain->conn));
    must(plain->conn, PQexec(plain->conn, "SET synchronous_commit = on; SET client_min_messages = error; "
                                          "CREATE TABLE IF NOT EXISTS bench_plain "
                                          "(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body BYTEA NOT NULL)"));
    must(plain->conn, PQprepare(plain->conn, "put", "INSERT INTO bench_plain (body) VALUES ($1)", 1, (const Oid[]){ 17 }));
}

static double run_plains(struct plain *all, size_t count, struct span text, double seconds)
{
    uint64_t begin = now_ns(), done = 0;
    for (size_t i = 0; i < count; i++) {
        all[i].text = text;
        all[i].done = 0;
        all[i].until_ns = begin + (uint64_t)(seconds * 1e9);
        if (pthread_create(&all[i].thread, NULL, run_plain, &all[i]) != 0)
            die("cannot start a thread");
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(all[i].thread, NULL);
        done += all[i].done;
    }
    return (double)done / ((double)(now_ns() - begin) / 1e9);
}

/* ---- the whole ---- */

static struct span make_text(size_t bytes)
{
    char *p = must_alloc(bytes + 16);
    int   head = sprintf(p, "{\"d\":\"");
    memset(p + head, 'x', bytes);
    memcpy(p + bytes - 2, "\"}", 2);
    return span_make(p, bytes);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 7)
        die("usage: pg_append URL DIR SECONDS BYTES APPENDERS CONNECTIONS");
    double        seconds = atof(argv[3]), our_rates[ROUNDS], plain_rates[ROUNDS];
    size_t        bytes = (size_t)atol(argv[4]), appenders = (size_t)atol(argv[5]), connections = (size_t)atol(argv[6]);
    struct bench *bench = must_alloc(sizeof *bench);
    bench->text = make_text(bytes < 16 ? 16 : bytes);
    open_store(bench, argv[1], argv[2]);
    struct appender *all = must_alloc(appenders * sizeof *all);
    for (size_t i = 0; i < appenders; i++) {
        all[i].bench = bench;
        all[i].stream = stream_open(bench->ledger, i + 1, &(struct stream_place){ 0 });
        all[i].due_next = bench->due;
        bench->due = &all[i];
    }
    struct plain *plains = must_alloc(connections * sizeof *plains);
    for (size_t i = 0; i < connections; i++)
        plain_open(&plains[i], argv[1]);

    ours(bench, seconds / 5);
    run_plains(plains, connections, bench->text, seconds / 5);
    for (int round = 0; round < ROUNDS; round++) {
        our_rates[round] = ours(bench, seconds);
        plain_rates[round] = run_plains(plains, connections, bench->text, seconds);
    }
    qsort(our_rates, ROUNDS, sizeof *our_rates, by_size);
    qsort(plain_rates, ROUNDS, sizeof *plain_rates, by_size);
    struct store_stats stats;
    store_stats(bench->store, &stats);
    printf("rate=%.0f plain=%.0f ratio=%.2f per_commit=%.1f commit_us=%.0f\n", our_rates[ROUNDS / 2], plain_rates[ROUNDS / 2],
           our_rates[ROUNDS / 2] / plain_rates[ROUNDS / 2], (double)stats.events / (double)stats.commits,
           (double)stats.commit_us_sum / (double)stats.commits);

    for (size_t i = 0; i < connections; i++)
        PQfinish(plains[i].conn);
    for (size_t i = 0; i < appenders; i++)
        stream_unref(all[i].stream);
    store_close(bench->store);
    ledger_free(bench->ledger);
    mailbox_done(&bench->box);
    free((char *)bench->text.p);
    free(plains);
    free(all);
    free(bench);
    return 0;
}
