/* SPDX-License-Identifier: Apache-2.0 */
/* append.c - durable appends in process: the ledger and the store, driven the way the engine drives them.
 *
 *   append DIR SECONDS BYTES APPENDERS
 *
 * Each appender has a stream of its own, and appends its next event when it was told that the last one is on disk. All that
 * became due in one round of mail goes into one batch, as in the engine's turn; nothing else of the engine is there. So the
 * figure is that of record encoding, frames, mailboxes, SQLite, checkpoints and settling, without HTTP and JSON. */
#include "common.h"
#include "ledger/ledger.h"

struct appender {
    struct bench    *bench;
    struct appender *due_next;
    struct stream   *stream;
    uint64_t         appended_ns;
};

struct bench {
    struct mailbox   box;
    struct store    *store;
    struct ledger   *ledger;
    struct appender *due;
    struct span      text;
    struct histogram latency;
    uint64_t         done;
    bool             measuring;
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
    if (a->bench->measuring)
        histogram_add(&a->bench->latency, now_ns() - a->appended_ns);
    a->bench->done++;
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
        a->appended_ns = now_ns();
        stream_append(a->stream, &(struct record){ .type = REC_CUSTOM, .op = 1, .pub = bench->text });
        batch_after(batch, acknowledged, a);
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

static void append_for(struct bench *bench, double seconds)
{
    for (uint64_t begin = now_ns(); (double)(now_ns() - begin) < seconds * 1e9;) {
        turn(bench);
        finish_mail(bench);
    }
}

static void open_store(struct bench *bench, const char *folder)
{
    char         url[4096];
    struct error error = { 0 };
    snprintf(url, sizeof url, "sqlite:%s", folder);
    mailbox_init(&bench->box, false);
    struct store_config config = { .url = url, .env = env_real(), .deliver = deliver, .user = bench };
    if (store_open(&config, &bench->store, &error))
        die("%s: %s", folder, error.message);
    struct ledger_config ledger = { .store = bench->store, .env = env_real() };
    ledger_defaults(&ledger);
    bench->ledger = ledger_new(&ledger);
}

/* A JSON object of so many bytes. */
static struct span make_text(size_t bytes)
{
    char *p = must_alloc(bytes + 16);
    int   head = sprintf(p, "{\"d\":\"");
    memset(p + head, 'x', bytes);
    memcpy(p + bytes - 2, "\"}", 2);
    return span_make(p, bytes);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: append DIR SECONDS BYTES APPENDERS");
    double        seconds = atof(argv[2]);
    size_t        bytes = (size_t)atol(argv[3]), appenders = (size_t)atol(argv[4]);
    struct bench *bench = must_alloc(sizeof *bench);
    bench->text = make_text(bytes < 16 ? 16 : bytes);
    open_store(bench, argv[1]);

    struct appender *all = must_alloc(appenders * sizeof *all);
    for (size_t i = 0; i < appenders; i++) {
        all[i].bench = bench;
        all[i].stream = stream_open(bench->ledger, i + 1, &(struct stream_place){ 0 });
        all[i].due_next = bench->due;
        bench->due = &all[i];
    }
    append_for(bench, seconds / 5); /* until checkpoints and settling go on as they will */

    struct store_stats before, after;
    store_stats(bench->store, &before);
    uint64_t done = bench->done, begin = now_ns();
    double   cpu = own_cpu();
    bench->measuring = true;
    append_for(bench, seconds);
    bench->measuring = false;
    double took = (double)(now_ns() - begin) / 1e9;
    cpu = own_cpu() - cpu;
    store_stats(bench->store, &after);
    done = bench->done - done;

    printf("rate=%.0f p50=%.1f p99=%.1f p999=%.1f max=%.1f cpu_us=%.2f commits=%llu per_commit=%.1f checkpoints=%llu stalls=%llu "
           "settled=%llu tail_frames=%llu all_commits=%llu\n",
           (double)done / took, histogram_us(&bench->latency, 0.5), histogram_us(&bench->latency, 0.99),
           histogram_us(&bench->latency, 0.999), (double)bench->latency.max / 1e3, cpu * 1e6 / (double)done,
           (unsigned long long)(after.commits - before.commits), (double)done / (double)(after.commits - before.commits),
           (unsigned long long)(after.checkpoints - before.checkpoints),
           (unsigned long long)(after.checkpoint_stalls - before.checkpoint_stalls),
           (unsigned long long)(after.settled_events - before.settled_events), (unsigned long long)after.tail_frames,
           (unsigned long long)after.commits);

    for (size_t i = 0; i < appenders; i++)
        stream_unref(all[i].stream);
    store_close(bench->store);
    ledger_free(bench->ledger);
    mailbox_done(&bench->box);
    free((char *)bench->text.p);
    free(all);
    free(bench);
    return 0;
}
