/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - one reader through everything that a folder holds, in process: reader_frames and frame_next, as catching up does.
 *
 *   read DIR SECONDS STREAMS
 *
 * DIR is what `append` left behind: streams 1 to STREAMS. They are read over and over, from the page cache. A part of the
 * frames may still lie in the tail, the rest in segments; `tail` says how many of the frames. */
#include "common.h"
#include "ledger/ledger.h"

enum { CHUNK_BYTES = 256 << 10 };

struct count {
    uint64_t events, bytes, last;
    bool     bad;
};

static bool each(void *user, const struct frame *frame)
{
    struct count       *count = user;
    struct frame_reader in = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&in, &record)) {
        count->events += record.seq > count->last;
        count->bytes += record.pub.n;
        count->last = record.seq;
    }
    count->bad = count->bad || in.in.bad;
    return true;
}

static void read_stream(struct reader *reader, uint64_t stream, struct count *count)
{
    struct arena arena = { 0 };
    count->last = 0;
    for (uint64_t before = UINT64_MAX; before != count->last;) {
        before = count->last;
        if (reader_begin(reader, &arena) || reader_frames(reader, stream, before, CHUNK_BYTES, each, count))
            die("stream %llu cannot be read", (unsigned long long)stream);
        reader_end(reader);
        arena_reset(&arena);
    }
    arena_done(&arena);
    if (count->bad || !count->last)
        die("stream %llu is damaged or empty", (unsigned long long)stream);
}

static void deliver(void *user, struct mail *chain)
{
    mailbox_post_chain(user, chain);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        die("usage: read DIR SECONDS STREAMS");
    char           url[4096];
    struct error   error = { 0 };
    struct mailbox box;
    struct store  *store;
    double         seconds = atof(argv[2]);
    uint64_t       streams = (uint64_t)atol(argv[3]);
    snprintf(url, sizeof url, "sqlite:%s", argv[1]);
    mailbox_init(&box, false);
    struct store_config config = { .url = url, .env = env_real(), .deliver = deliver, .user = &box };
    if (store_open(&config, &store, &error))
        die("%s: %s", argv[1], error.message);

    struct count count = { 0 };
    for (uint64_t s = 1; s <= streams; s++)
        read_stream(store_reader(store), s, &count); /* into the page cache */
    uint64_t once = count.events, begin = now_ns(), rounds = 0;
    count.bytes = 0;
    for (; !rounds || (double)(now_ns() - begin) < seconds * 1e9; rounds++)
        for (uint64_t s = 1; s <= streams; s++)
            read_stream(store_reader(store), s, &count);
    double             took = (double)(now_ns() - begin) / 1e9;
    struct store_stats stats;
    store_stats(store, &stats);
    printf("rate=%.0f events=%llu rounds=%llu mb_s=%.0f tail=%llu\n", (double)(count.events - once) / took, (unsigned long long)once,
           (unsigned long long)rounds, (double)count.bytes / took / 1e6, (unsigned long long)stats.tail_frames);
    store_close(store);
    mailbox_done(&box);
    return 0;
}
