/* SPDX-License-Identifier: Apache-2.0 */
/* secret.c - reads secrets once, when the process starts. */
#include "base/secret.h"
#include "base/util.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct span span_trim(struct span text)
{
    while (text.n && (unsigned char)text.p[text.n - 1] <= 0x20)
        text.n--;
    while (text.n && (unsigned char)text.p[0] <= 0x20)
        text = span_make(text.p + 1, text.n - 1);
    return text;
}

bool span_one_line(struct span text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f)
            return false;
    return true;
}

static bool is_usable(struct span secret)
{
    return secret.n > 0 && secret.n <= SECRET_MAX && span_one_line(secret);
}

struct span secret_from_env(struct span name, const char *what, struct arena *arena, const char **ret_missing)
{
    struct span secret = span_trim(span_of(getenv(arena_printf(arena, "%.*s", SPAN_ARG(name)).p)));
    if (is_usable(secret))
        return arena_copy(arena, secret);
    *ret_missing = secret.n ? arena_printf(arena, "the environment variable %.*s holds no %s", SPAN_ARG(name), what).p
                            : arena_printf(arena, "the environment variable %.*s is not set", SPAN_ARG(name)).p;
    return SPAN_NONE;
}

struct span secret_from_file(struct span path, const char *what, struct arena *arena, const char **ret_missing)
{
    char   text[SECRET_MAX + 1];
    size_t n = 0;
    int    fd = open(arena_printf(arena, "%.*s", SPAN_ARG(path)).p, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *ret_missing = arena_printf(arena, "the file %.*s cannot be read: %s", SPAN_ARG(path), strerror(errno)).p;
        return SPAN_NONE;
    }
    for (ssize_t got; n < sizeof text && ((got = read(fd, text + n, sizeof text - n)) > 0 || (got < 0 && errno == EINTR));)
        n += got > 0 ? (size_t)got : 0;
    close(fd);
    struct span secret = span_trim(span_make(text, n));
    if (n <= SECRET_MAX && is_usable(secret))
        return arena_copy(arena, secret);
    *ret_missing = arena_printf(arena, "the file %.*s holds no %s", SPAN_ARG(path), what).p;
    return SPAN_NONE;
}
