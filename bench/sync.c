/* SPDX-License-Identifier: Apache-2.0 */
/* sync.c - what the disk can do: records written into a file that is already there, one fdatasync per group.
 *
 *   sync DIR SECONDS BYTES GROUP
 *
 * The file is filled with zeros first, so that no size and no extent changes: the cheapest durable append there is. */
#include "common.h"
#include <fcntl.h>

enum { FILE_BYTES = 256 << 20 };

static int make_file(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/sync.%d", folder, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die("%s: %s", path, strerror(errno));
    unlink(path);
    char *zeros = must_alloc(1 << 20);
    for (off_t at = 0; at < FILE_BYTES; at += 1 << 20)
        if (pwrite(fd, zeros, 1 << 20, at) != 1 << 20)
            die("fill: %s", strerror(errno));
    free(zeros);
    if (fsync(fd))
        die("fsync: %s", strerror(errno));
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: sync DIR SECONDS BYTES GROUP");
    double seconds = atof(argv[2]);
    size_t group = (size_t)atol(argv[4]), bytes = (size_t)atol(argv[3]) * group;
    int    fd = make_file(argv[1]);
    char  *records = must_alloc(bytes);
    memset(records, 'x', bytes);

    struct histogram *h = must_alloc(sizeof *h);
    uint64_t          begin = now_ns(), t = begin;
    for (off_t at = 0; (double)(t - begin) < seconds * 1e9; at += (off_t)bytes) {
        if (at + (off_t)bytes > FILE_BYTES)
            at = 0;
        uint64_t from = t;
        if (pwrite(fd, records, bytes, at) != (ssize_t)bytes || fdatasync(fd))
            die("write: %s", strerror(errno));
        t = now_ns();
        histogram_add(h, t - from);
    }
    printf("rate=%.0f syncs=%.0f p50=%.1f p99=%.1f\n", (double)(h->n * group) * 1e9 / (double)(t - begin),
           (double)h->n * 1e9 / (double)(t - begin), histogram_us(h, 0.5), histogram_us(h, 0.99));
    return 0;
}
