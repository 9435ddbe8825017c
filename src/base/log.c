/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - one event, one line, one write(2), so that lines of several threads never mix. */
#include "base/log.h"
#include "base/env.h"
#include "base/json.h"
#include "base/redact.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *const level_names[] = { "debug", "info", "warn", "error" };

/* Whatever came from outside cannot begin a line of its own or drive the terminal. */
static void put_visible(struct buf *line, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '\n')
            BUF_LIT(line, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_printf(line, "\\x%02x", c);
        else
            buf_byte(line, (char)c);
    }
}

static void line_as_text(struct buf *line, struct span time, const char *level, const char *event, struct span message)
{
    buf_span(line, time);
    buf_printf(line, " %s ", level);
    put_visible(line, span_of(event));
    if (message.n)
        buf_byte(line, ' ');
    put_visible(line, message);
}

static void line_as_json(struct buf *line, struct span time, const char *level, const char *event, struct span message)
{
    struct jw w = jw_on(line);
    jw_obj(&w);
    jw_key(&w, "time");
    jw_str(&w, time);
    jw_key(&w, "level");
    jw_cstr(&w, level);
    jw_key(&w, "event");
    jw_cstr(&w, event);
    jw_key(&w, "message");
    jw_str(&w, message);
    jw_end(&w);
}

void log_line(const struct log *log, enum log_level level, const char *event, const char *format, ...)
{
    if (!log || level < log->level || level >= LOG_OFF)
        return;
    char    text[4096]; /* longer messages are cut: a log line is not a place for payloads */
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t length = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;

    CLEANUP(buf_done) struct buf clean = { 0 };
    struct span message = span_make(text, length);
    if (log->redact) {
        (void)redact_append(log->redact, message, &clean);
        message = buf_view(&clean);
    }
    char stamp[TIME_TEXT];
    time_format(env_real()->wall_ms(env_real()), stamp);
    CLEANUP(buf_done) struct buf line = { 0 };
    (log->json ? line_as_json : line_as_text)(&line, span_make(stamp, TIME_TEXT), level_names[level], event, message);
    if (log->take) {
        buf_byte(&line, '\0');
        log->take(log->user, level, line.p);
        return;
    }
    buf_byte(&line, '\n');
    /* One write. A log that cannot be written (a full disk, a closed pipe) must not stop the engine. */
    while (write(log->fd, line.p, line.len) < 0 && errno == EINTR)
        continue;
}
