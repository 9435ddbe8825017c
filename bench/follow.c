/* SPDX-License-Identifier: Apache-2.0 */
/* follow.c - many followers of event streams, and one publisher: deliveries per second, latency, the server's CPU and memory.
 *
 *   follow --port N --path P|--paths FILE --conns N [--channels N] [--header H]… [--secs S] [--threads N] [--pids "1 2"]
 *     and one of
 *     --pub-path P [--pub-header H]… [--pub-type T] [--size N] (--rate R | --window W) [--inflight N]
 *     --watch [--interval MS | --marks]   somebody else publishes (a run): count what comes for --secs; with --marks, what carries T0=
 *     --replay N                    how long until each follower got N events
 *     --idle                        connect, look at the server's memory, and go
 *
 * %d in paths is the number of the channel: the follower's (or the message's) number modulo --channels; --paths has a path per
 * line, used in turn. Framing is not decoded: an event is recognised by a mark in its text.
 *
 * What is published carries "T0=<nanoseconds>;" of CLOCK_MONOTONIC, which is also the clock here: latency is from the call that
 * publishes to the return of the read that got it. --window W: the next message is sent when all but W are with all followers
 * (2: as fast as one message at a time goes; 64: with a backlog). --inflight: connections that publish in turn, each waiting for
 * its answer.
 *
 * Events of a run carry no such text; two things are taken instead. `stamp`: arrival minus the event's own timestamp, which is
 * cut to milliseconds, so 0 to 1 ms too much, 0.5 on average. `late` (with --interval): arrival minus the moment at which the
 * chunk was due, the schedule's origin being that at which this follower's fastest event so far was not late at all: what is
 * missing is the latency of the fastest event. */
#include "common.h"
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

enum { READ_BYTES = 65536, KEEP = 96, HEADS = 2048 };
static const char stamp_mark[] = "\"MODEL_DELTA\",\"timestamp\":\"";

struct subscriber {
    int      fd, kept;
    bool     sent, up;
    uint64_t got, seen;  /* events counted; events since the stream began */
    int64_t  origin_ns;  /* of the schedule */
    char     keep[KEEP]; /* the end of what was read: a mark may be cut */
};

struct reader {
    struct load     *load;
    pthread_t        thread;
    int              epoll;
    _Atomic uint64_t got, bytes, up, closed, reads;
    struct histogram latency, late;
};

struct publisher {
    int  fd;
    bool waiting; /* for an answer */
};

struct load {
    const char        *path, *pub_path, *pub_type;
    char             **paths, heads[HEADS], pub_heads[HEADS];
    int                port, pub_port, conns, channels, path_count, threads, window, inflight, size;
    double             rate, secs, settle, interval;
    uint64_t           replay;
    bool               watch, idle, marks;
    struct watched     server;
    struct subscriber *subscribers;
    struct reader     *readers;
    atomic_bool        stop, measuring;
    _Atomic uint64_t   last_ns;
    struct publisher  *publishers; /* as many as --inflight */
};

/* ---- events in bytes ---- */

static int two(const char *p) { return (p[0] - '0') * 10 + (p[1] - '0'); }

/* Nanoseconds since 00:00 UTC: "2031-04-05T06:07:08.009Z". */
static int64_t stamp_ns(const char *p)
{
    int64_t seconds = two(p + 11) * 3600 + two(p + 14) * 60 + two(p + 17);
    return seconds * 1000000000 + (int64_t)((p[20] - '0') * 100 + two(p + 21)) * 1000000;
}

static void note_lateness(struct reader *r, struct subscriber *s, uint64_t now, bool measuring)
{
    int64_t origin = (int64_t)now - (int64_t)((double)s->seen * r->load->interval * 1e6);
    if (!s->seen || origin < s->origin_ns)
        s->origin_ns = origin;
    else if (measuring)
        histogram_add(&r->late, (uint64_t)(origin - s->origin_ns));
}

/* Takes the events in p[0..n); returns how many bytes at the end must be seen again. */
static size_t take_events(struct reader *r, struct subscriber *s, const char *p, size_t n, uint64_t now)
{
    bool        stamps = r->load->watch && !r->load->marks, measuring = atomic_load_explicit(&r->load->measuring, memory_order_relaxed);
    const char *mark = stamps ? stamp_mark : "T0=", *at, *from = p, *end = p + n;
    size_t      mark_len = strlen(mark), need = mark_len + (stamps ? 24 : 1);
    uint64_t    count = 0, day = stamps ? clock_ns(CLOCK_REALTIME) % 86400000000000u : 0;
    while ((at = memmem(from, (size_t)(end - from), mark, mark_len))) {
        const char *value = at + mark_len;
        uint64_t    then = 0;
        if (stamps) {
            if ((size_t)(end - at) < need)
                break;
            int64_t latency = (int64_t)day - stamp_ns(value);
            if (measuring)
                histogram_add(&r->latency, latency > 0 ? (uint64_t)latency : 0);
            if (r->load->interval > 0)
                note_lateness(r, s, now, measuring);
            s->seen++;
        } else {
            const char *q = value;
            while (q < end && *q >= '0' && *q <= '9')
                then = then * 10 + (uint64_t)(*q++ - '0');
            if (q == end)
                break;
            if (measuring)
                histogram_add(&r->latency, now > then ? now - then : 0);
        }
        count++;
        from = value;
    }
    if (count) {
        s->got += count;
        atomic_fetch_add_explicit(&r->got, count, memory_order_relaxed);
        atomic_store_explicit(&r->load->last_ns, now, memory_order_relaxed);
    }
    if (at)
        return (size_t)(end - at) < KEEP ? (size_t)(end - at) : 0;
    size_t left = (size_t)(end - from);
    return left < mark_len ? left : mark_len - 1;
}

/* ---- subscribers ---- */

static void subscribe(struct load *load, struct subscriber *s, int number)
{
    char        path[1024], text[8192];
    const char *format = load->path_count ? load->paths[number % load->path_count] : load->path;
    const char *hole = strstr(format, "%d");
    if (hole)
        snprintf(path, sizeof path, "%.*s%d%s", (int)(hole - format), format, number % load->channels, hole + 2);
    else
        snprintf(path, sizeof path, "%s", format);
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%s\r\n", path, load->heads);
    if (write(s->fd, text, (size_t)n) != n)
        die("subscribe: %s", strerror(errno));
    s->sent = true;
}

static void readable(struct reader *r, struct subscriber *s, char *space)
{
    char   *buffer = space + KEEP;
    ssize_t n = read(s->fd, buffer, READ_BYTES);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        epoll_ctl(r->epoll, EPOLL_CTL_DEL, s->fd, NULL);
        atomic_fetch_add(&r->closed, 1);
        return;
    }
    uint64_t now = now_ns();
    atomic_fetch_add_explicit(&r->bytes, (uint64_t)n, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->reads, 1, memory_order_relaxed);
    if (!s->up) {
        if (!memmem(buffer, (size_t)n, " 200", 4))
            die("refused: %.*s", (int)(n < 300 ? n : 300), buffer);
        s->up = true;
        atomic_fetch_add(&r->up, 1);
    }
    char *from = buffer - s->kept;
    memcpy(from, s->keep, (size_t)s->kept);
    s->kept = (int)take_events(r, s, from, (size_t)(s->kept + n), now);
    memcpy(s->keep, buffer + n - s->kept, (size_t)s->kept);
}

static void *read_all(void *arg)
{
    struct reader *r = arg;
    char          *space = must_alloc(KEEP + READ_BYTES);
    while (!atomic_load(&r->load->stop)) {
        struct epoll_event events[512];
        int                n = epoll_wait(r->epoll, events, 512, 50);
        for (int i = 0; i < n; i++) {
            int                number = events[i].data.fd; /* of the subscriber */
            struct subscriber *s = &r->load->subscribers[number];
            if (s->sent) {
                readable(r, s, space);
                continue;
            }
            subscribe(r->load, s, number);
            epoll_ctl(r->epoll, EPOLL_CTL_MOD, s->fd, &(struct epoll_event){ .events = EPOLLIN, .data.fd = number });
        }
    }
    free(space);
    return NULL;
}

#define TOTAL(load, member)                                             \
    ({                                                                  \
        uint64_t sum_ = 0;                                              \
        for (int i_ = 0; i_ < (load)->threads; i_++)                    \
            sum_ += atomic_load(&(load)->readers[i_].member);           \
        sum_;                                                           \
    })

static void start_readers(struct load *load)
{
    load->subscribers = must_alloc((size_t)load->conns * sizeof *load->subscribers);
    load->readers = must_alloc((size_t)load->threads * sizeof *load->readers);
    for (int i = 0; i < load->threads; i++) {
        load->readers[i].load = load;
        load->readers[i].epoll = epoll_create1(EPOLL_CLOEXEC);
        if (pthread_create(&load->readers[i].thread, NULL, read_all, &load->readers[i]))
            die("no thread");
    }
}

/* A few hundred at a time, so that no backlog of the server overflows. Returns when all have an answer. */
static void connect_all(struct load *load)
{
    struct sockaddr_in address = loopback(load->port);
    struct linger      reset = { 1, 0 };
    for (int i = 0; i < load->conns; i++) {
        struct subscriber *s = &load->subscribers[i];
        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (s->fd < 0)
            die("socket %d: %s (ulimit -n?)", i, strerror(errno));
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (connect(s->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
            die("connect: %s", strerror(errno));
        epoll_ctl(load->readers[i % load->threads].epoll, EPOLL_CTL_ADD, s->fd,
                  &(struct epoll_event){ .events = EPOLLIN | EPOLLOUT, .data.fd = i });
        for (int tries = 0; TOTAL(load, up) + 400 < (uint64_t)i && tries < 10000; tries++)
            sleep_ns(500000);
    }
    for (int tries = 0; TOTAL(load, up) < (uint64_t)load->conns; tries++) {
        if (tries > 20000)
            die("only %llu of %d followers were answered", (unsigned long long)TOTAL(load, up), load->conns);
        sleep_ns(1000000);
    }
}

/* ---- the publishers: one message per connection on its way ---- */

/* Bytes of the answer that text begins with; 0 when it is not all there. */
static size_t answer_length(const char *text, size_t n)
{
    const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\ncontent-length:");
    size_t      all = end ? (size_t)(end + 4 - text) : 0;
    if (end && length && length < end)
        all += (size_t)atol(length + 16);
    return all <= n ? all : 0;
}

/* Waits until what was sent over this connection is answered. */
static void take_answer(struct publisher *p)
{
    char   text[4096] = "";
    size_t n = 0;
    while (p->waiting) {
        ssize_t more = n < sizeof text - 1 ? read(p->fd, text + n, sizeof text - 1 - n) : 0;
        if (more <= 0)
            die("the server closed a publisher's connection, or talks too much: %.300s", text);
        n += (size_t)more;
        text[n] = 0;
        if (n >= 12 && text[9] != '2')
            die("publish was answered: %.300s", text);
        p->waiting = !answer_length(text, n);
    }
}

static void publish(struct load *load, uint64_t number)
{
    static char       text[80000], body[70000];
    struct publisher *p = &load->publishers[number % (uint64_t)load->inflight];
    take_answer(p);
    int         n = sprintf(body, "{\"type\":\"ev\",\"d\":\"T0=%llu;", (unsigned long long)now_ns());
    while (n < load->size - 2)
        body[n++] = 'x';
    n += sprintf(body + n, "\"}");
    const char *hole = strstr(load->pub_path, "%d");
    int         len = hole ? sprintf(text, "POST %.*s%d%s", (int)(hole - load->pub_path), load->pub_path,
                                     (int)(number % (uint64_t)load->channels), hole + 2)
                           : sprintf(text, "POST %s", load->pub_path);
    len += sprintf(text + len, " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n", load->pub_type,
                   load->pub_heads, n);
    memcpy(text + len, body, (size_t)n);
    write_all(p->fd, text, (size_t)(len + n));
    p->waiting = true;
}

static void start_publishers(struct load *load)
{
    load->publishers = must_alloc((size_t)load->inflight * sizeof *load->publishers);
    for (int i = 0; i < load->inflight; i++)
        load->publishers[i].fd = connect_to(load->pub_port ? load->pub_port : load->port);
}

static bool wait_for(struct load *load, uint64_t got, double seconds)
{
    for (uint64_t begin = now_ns(), spins = 0; TOTAL(load, got) < got; spins++) {
        if ((double)(now_ns() - begin) > seconds * 1e9)
            return false;
        if (spins > 100)
            sleep_ns(50000);
        else
            sched_yield();
    }
    return true;
}

/* Publishes for the given time; returns how many. */
static uint64_t publish_for(struct load *load, double seconds)
{
    uint64_t base = TOTAL(load, got), begin = now_ns(), n = 0, per = (uint64_t)(load->conns / load->channels);
    for (; (double)(now_ns() - begin) < seconds * 1e9; n++) {
        if (load->window && n >= (uint64_t)load->window) {
            if (!wait_for(load, base + (n - (uint64_t)load->window + 1) * per, 5))
                die("stalled: %llu events are missing", (unsigned long long)(base + n * per - TOTAL(load, got)));
        } else if (!load->window) {
            uint64_t due = begin + (uint64_t)((double)n / load->rate * 1e9), now = now_ns();
            if (now < due)
                sleep_ns(due - now);
        }
        publish(load, n);
    }
    if (!wait_for(load, base + n * per, 10))
        die("%llu events never came", (unsigned long long)(base + n * per - TOTAL(load, got)));
    return n;
}

/* ---- what is asked for ---- */

static void finish(struct load *load, uint64_t begin, uint64_t got, double server_cpu, double cpu, const char *more)
{
    struct histogram *latency = must_alloc(sizeof *latency), *late = must_alloc(sizeof *late);
    double            took = (double)(atomic_load(&load->last_ns) - begin) / 1e9;
    server_cpu = watched_cpu(&load->server) - server_cpu;
    cpu = own_cpu() - cpu;
    got = TOTAL(load, got) - got;
    atomic_store(&load->stop, true);
    for (int i = 0; i < load->threads; i++) {
        pthread_join(load->readers[i].thread, NULL);
        histogram_merge(latency, &load->readers[i].latency);
        histogram_merge(late, &load->readers[i].late);
    }
    printf("rate=%.0f n=%llu p50=%.1f p99=%.1f p999=%.1f max=%.1f late_p50=%.1f late_p99=%.1f server_cpu=%.2f cpu=%.2f us_per=%.3f "
           "per_read=%.2f closed=%llu%s\n",
           (double)got / took, (unsigned long long)got, histogram_us(latency, 0.5), histogram_us(latency, 0.99),
           histogram_us(latency, 0.999), (double)latency->max / 1e3, histogram_us(late, 0.5), histogram_us(late, 0.99),
           server_cpu / took, cpu / took, got ? server_cpu * 1e6 / (double)got : 0, (double)got / (double)(TOTAL(load, reads) + 1),
           (unsigned long long)TOTAL(load, closed), more);
}

static void measure(struct load *load, const char *more)
{
    if (!load->watch) {
        start_publishers(load);
        publish_for(load, 0.5);
    }
    for (int i = 0; i < load->threads; i++)
        atomic_store(&load->readers[i].reads, 0);
    double   server_cpu = watched_cpu(&load->server), cpu = own_cpu();
    uint64_t got = TOTAL(load, got), begin = now_ns();
    atomic_store(&load->measuring, true);
    if (load->watch)
        sleep_ns((uint64_t)(load->secs * 1e9));
    else
        publish_for(load, load->secs);
    atomic_store(&load->measuring, false);
    if (TOTAL(load, got) == got)
        die("no event came");
    finish(load, begin, got, server_cpu, cpu, more);
}

static void replay(struct load *load, uint64_t begin)
{
    double   server_cpu = watched_cpu(&load->server);
    uint64_t want = load->replay * (uint64_t)load->conns;
    if (!wait_for(load, want, load->secs))
        die("%llu of %llu events came", (unsigned long long)TOTAL(load, got), (unsigned long long)want);
    double took = (double)(atomic_load(&load->last_ns) - begin) / 1e9;
    printf("rate=%.0f took=%.3f mb_s=%.0f server_cpu=%.2f\n", (double)want / took, took, (double)TOTAL(load, bytes) / took / 1e6,
           (watched_cpu(&load->server) - server_cpu) / took);
}

static void read_paths(struct load *load, const char *file_name)
{
    FILE  *file = fopen(file_name, "r");
    char  *line = NULL;
    size_t cap = 0;
    if (!file)
        die("%s: %s", file_name, strerror(errno));
    while (getline(&line, &cap, file) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        load->paths = realloc(load->paths, (size_t)(load->path_count + 1) * sizeof *load->paths);
        load->paths[load->path_count++] = strdup(line);
    }
    free(line);
    fclose(file);
    if (!load->path_count)
        die("%s is empty", file_name);
}

static void add_head(char *heads, const char *line)
{
    size_t n = strlen(heads);
    snprintf(heads + n, HEADS - n, "%s\r\n", line);
}

static void read_options(struct load *load, int argc, char **argv)
{
    static const struct option names[] = {
        { "port", 1, 0, 'p' },       { "path", 1, 0, 'u' },     { "paths", 1, 0, 'U' },    { "conns", 1, 0, 'n' },
        { "channels", 1, 0, 'c' },   { "header", 1, 0, 'h' },   { "secs", 1, 0, 's' },     { "threads", 1, 0, 't' },
        { "pids", 1, 0, 'i' },       { "pub-path", 1, 0, 'P' }, { "pub-header", 1, 0, 'H' }, { "pub-type", 1, 0, 'T' },
        { "pub-port", 1, 0, 'q' },   { "size", 1, 0, 'z' },     { "rate", 1, 0, 'r' },     { "window", 1, 0, 'w' },
        { "inflight", 1, 0, 'f' },   { "watch", 0, 0, 'W' },    { "interval", 1, 0, 'I' }, { "replay", 1, 0, 'R' },
        { "settle", 1, 0, 'e' },     { "idle", 0, 0, 'x' },     { "marks", 0, 0, 'm' },   { 0, 0, 0, 0 },
    };
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;)
        switch (o) {
        case 'p': load->port = atoi(optarg); break;
        case 'u': load->path = optarg; break;
        case 'U': read_paths(load, optarg); break;
        case 'n': load->conns = atoi(optarg); break;
        case 'c': load->channels = atoi(optarg); break;
        case 'h': add_head(load->heads, optarg); break;
        case 's': load->secs = atof(optarg); break;
        case 't': load->threads = atoi(optarg); break;
        case 'i': watched_read(&load->server, optarg); break;
        case 'P': load->pub_path = optarg; break;
        case 'H': add_head(load->pub_heads, optarg); break;
        case 'T': load->pub_type = optarg; break;
        case 'q': load->pub_port = atoi(optarg); break;
        case 'z': load->size = atoi(optarg); break;
        case 'r': load->rate = atof(optarg); break;
        case 'w': load->window = atoi(optarg); break;
        case 'f': load->inflight = atoi(optarg); break;
        case 'W': load->watch = true; break;
        case 'I': load->interval = atof(optarg); break;
        case 'R': load->replay = (uint64_t)atol(optarg); break;
        case 'e': load->settle = atof(optarg); break;
        case 'x': load->idle = true; break;
        case 'm': load->marks = true; break;
        default: die("see the head of follow.c");
        }
}

int main(int argc, char **argv)
{
    struct load load = { .path = "/", .pub_path = "/", .pub_type = "application/json", .conns = 100, .channels = 1, .threads = 1,
                         .inflight = 1, .size = 200, .rate = 100, .secs = 3, .settle = 0.3 };
    read_options(&load, argc, argv);
    if (load.conns % load.channels)
        die("--conns must be a multiple of --channels");
    double   memory = watched_pss_kb(&load.server);
    uint64_t begin = now_ns();
    char     more[128];
    start_readers(&load);
    connect_all(&load);
    if (load.replay) {
        replay(&load, begin);
        return 0;
    }
    double connected = (double)(now_ns() - begin) / 1e9;
    sleep_ns((uint64_t)(load.settle * 1e9));
    double per = (watched_pss_kb(&load.server) - memory) / load.conns;
    snprintf(more, sizeof more, " connect_s=%.2f kb_per=%.3f", connected, per);
    if (load.idle)
        printf("conns=%d%s\n", load.conns, more);
    else
        measure(&load, more);
    return 0;
}
