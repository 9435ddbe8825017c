/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - structured log lines on stderr: one line, `time level event key=value…` or one JSON object (--log json).
 *
 * Libraries do not print; they return errors. The parts that run a process (cli, net, store's threads) log. Thread-safe:
 * one write(2) per line. Values are escaped. Configured secrets are taken out (redact.h). */
#pragma once
#include "base/util.h"
#include <stdbool.h>

struct redact;

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

struct log {
    enum log_level level;
    bool           json;
    int            fd;
    const struct redact *redact; /* what is never written; NULL: nothing. Set before other threads log */
    /* Takes the lines instead of fd, without their end but with a NUL; any thread, several at once. NULL: they are written */
    void (*take)(void *user, enum log_level level, const char *line);
    void *user;
};

/* `format` makes the text of "key=value key2=value2"; log may be NULL (silent). */
void log_line(const struct log *log, enum log_level level, const char *event, const char *format, ...) PRINTF(4, 5);

