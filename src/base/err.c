/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - the table of errors as data, and the one way to fill a `struct error`.
 *
 * Everything that turns an error into a status, a code or a title on some surface asks err_info. */
#include "base/err.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>

static const struct err_info infos[ERR_COUNT] = {
#define X(name_, ar_status_, ar_code_, wf_status_, wf_code_, ds_status_, rt_code_, retryable_, title_)        \
    [ERR_##name_] = { .name = #name_, .ar_status = (ar_status_), .ar_code = (ar_code_),                       \
                      .wf_status = (wf_status_), .wf_code = (wf_code_), .ds_status = (ds_status_),            \
                      .rt_code = (rt_code_), .retryable = (retryable_) != 0, .title = (title_) },
    ERR_TABLE(X)
#undef X
};

const struct err_info *err_info(enum err err)
{
    /* A number from outside the table must not become a wild read; it is our mistake, and INTERNAL says so. */
    if ((unsigned)err >= ERR_COUNT)
        return &infos[ERR_INTERNAL];
    return &infos[err];
}

/* Ends `text`, of which the first `n` bytes are in use, so that no character is cut in two. */
static void end_on_boundary(char *text, size_t n)
{
    text[utf8_cut(text, n)] = '\0';
}

enum err error_set(struct error *error, enum err code, const char *field, const char *format, ...)
{
    if (!error)
        return code;
    error->code = code;

    size_t n = field ? strlen(field) : 0;
    if (n > sizeof error->field - 1)
        n = sizeof error->field - 1;
    if (n)
        memmove(error->field, field, n); /* the field may be error->field itself */
    end_on_boundary(error->field, n);

    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    if (wanted < 0)
        error->message[0] = '\0';
    else if ((size_t)wanted >= sizeof error->message)
        end_on_boundary(error->message, sizeof error->message - 1);
    return code;
}
