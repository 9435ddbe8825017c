/* SPDX-License-Identifier: Apache-2.0 */
/* common.h - what the bench programs share: a clock, a histogram, a peek at the CPU and memory of other processes.
 *
 * The programs end with a message when something is wrong: a measurement that goes on after an error is worth nothing. Each
 * prints one line of `key=value` pairs, which run.sh picks apart. */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static inline void *must_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p)
        die("out of memory");
    return p;
}

/* ---- time ---- */

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline void sleep_ns(uint64_t ns)
{
    struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
    nanosleep(&t, NULL);
}

/* ---- histogram: 64 steps per power of two, so within 1.6 % ---- */

struct histogram {
    uint64_t count[60 * 64], n, max;
};

static inline unsigned histogram_slot(uint64_t v)
{
    if (v < 64)
        return (unsigned)v;
    unsigned e = 63u - (unsigned)__builtin_clzll(v);
    return (e - 5) * 64 + (unsigned)((v >> (e - 6)) & 63);
}

static inline void histogram_add(struct histogram *h, uint64_t v)
{
    h->count[histogram_slot(v)]++;
    h->n++;
    if (v > h->max)
        h->max = v;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < 60 * 64; i++)
        into->count[i] += from->count[i];
    into->n += from->n;
    if (from->max > into->max)
        into->max = from->max;
}

/* The value below which a share q lies; nanoseconds in, microseconds out. */
static inline double histogram_us(const struct histogram *h, double q)
{
    uint64_t want = (uint64_t)((double)h->n * q), seen = 0;
    for (unsigned i = 0; i < 60 * 64; i++) {
        seen += h->count[i];
        if (seen > want)
            return (double)(i < 64 ? i : (64ull + (i & 63)) << (i / 64 - 1)) / 1e3;
    }
    return (double)h->max / 1e3;
}

/* ---- other processes ---- */

struct watched {
    int pid[16], n;
};

static inline void watched_read(struct watched *w, const char *list) /* "12 13,14" */
{
    char *copy = strdup(list), *save = NULL;
    for (char *t = strtok_r(copy, ", \n", &save); t && w->n < 16; t = strtok_r(NULL, ", \n", &save))
        w->pid[w->n++] = atoi(t);
    free(copy);
}

/* User and system seconds so far (the kernel counts in ticks of 10 ms). */
static inline double watched_cpu(const struct watched *w)
{
    double sum = 0;
    for (int i = 0; i < w->n; i++) {
        char  path[64], text[1024];
        FILE *file;
        snprintf(path, sizeof path, "/proc/%d/stat", w->pid[i]);
        if (!(file = fopen(path, "r")))
            die("process %d is gone", w->pid[i]);
        size_t n = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[n] = 0;
        char         *rest = strrchr(text, ')');
        unsigned long user = 0, kernel = 0;
        if (rest && sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) == 2)
            sum += (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    }
    return sum;
}

/* Memory of the processes that nobody shares, in KB. */
static inline double watched_pss_kb(const struct watched *w)
{
    double sum = 0;
    for (int i = 0; i < w->n; i++) {
        char  path[64], line[256];
        long  kb;
        FILE *file;
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", w->pid[i]);
        if (!(file = fopen(path, "r")))
            continue;
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "Pss: %ld", &kb) == 1)
                sum += (double)kb;
        fclose(file);
    }
    return sum;
}

static inline double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- loopback ---- */

static inline struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
}

/* A blocking connection; it is reset when closed, so that no port is left in TIME_WAIT. */
static inline int connect_to(int port)
{
    struct sockaddr_in address = loopback(port);
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct linger      reset = { 1, 0 };
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die("connect to port %d: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return fd;
}

static inline void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            die("write: %s", strerror(errno));
        p += w;
        n -= (size_t)w;
    }
}
