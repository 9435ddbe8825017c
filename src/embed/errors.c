/* SPDX-License-Identifier: Apache-2.0 */
/* errors.c - errors, arguments and texts at the border of libperdure. */
#include "embed/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEXT_MAX = 4 << 20 };

const char *pd_version(void)
{
    return PERDURE_VERSION;
}

const char *pd_code_name(int code)
{
    switch (code) {
    case PD_OK:        return "PD_OK";
    case PD_TIMEOUT:   return "PD_TIMEOUT";
    case PD_END:       return "PD_END";
    case PD_INVALID:   return "PD_INVALID";
    case PD_NOT_FOUND: return "PD_NOT_FOUND";
    case PD_CONFLICT:  return "PD_CONFLICT";
    case PD_LIMIT:     return "PD_LIMIT";
    case PD_GONE:      return "PD_GONE";
    case PD_CLOSED:    return "PD_CLOSED";
    case PD_STORAGE:   return "PD_STORAGE";
    default:           return "PD_INTERNAL";
    }
}

void pd_free(char *text)
{
    free(text);
}

int pd_code_of(enum err err)
{
    switch (err) {
    case ERR_OK:                return PD_OK;
    case ERR_TIMEOUT:           return PD_TIMEOUT;
    case ERR_DRAINING:          return PD_CLOSED;
    case ERR_STORAGE:
    case ERR_FENCED:
    case ERR_CORRUPT:
    case ERR_IO:                return PD_STORAGE;
    case ERR_IDEM_REUSED:       return PD_CONFLICT;
    case ERR_THREAD_QUEUE_FULL: return PD_LIMIT;
    default:                    break;
    }
    switch (err_info(err)->ar_status) {
    case 404: return PD_NOT_FOUND;
    case 409: return PD_CONFLICT;
    case 410: return PD_GONE;
    case 429: return PD_LIMIT;
    case 400:
    case 413:
    case 422: return PD_INVALID;
    default:  return PD_INTERNAL;
    }
}

int give_error(const struct error *error, struct pd_error *ret)
{
    const struct err_info *info = err_info(error->code);
    int                    code = pd_code_of(error->code);
    if (!ret)
        return code;
    *ret = (struct pd_error){ .code = code };
    snprintf(ret->reason, sizeof ret->reason, "%s", info->ar_code);
    snprintf(ret->field, sizeof ret->field, "%s", error->field);
    snprintf(ret->message, sizeof ret->message, "%s", error->message[0] ? error->message : info->title);
    return code;
}

int refuse(struct pd_error *ret, enum err err, const char *field, const char *format, ...)
{
    struct error error = { 0 };
    char         text[sizeof error.message];
    va_list      args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(&error, err, field, "%s", text);
    return give_error(&error, ret);
}

int give_ask(struct ask *ask, struct pd_error *ret)
{
    const struct issue *first = ask->issues.count ? &ask->issues.items[0] : NULL;
    if (ask->error.code == ERR_OK) {
        ask_done(ask);
        return PD_OK;
    }
    if (first) { /* error_set cuts both where a character ends */
        struct span field = arena_copy(&ask->arena, first->pointer);
        error_set(&ask->error, ask->error.code, field.n ? field.p : "", "%.*s", SPAN_ARG(first->message));
    }
    int code = give_error(&ask->error, ret);
    ask_done(ask);
    return code;
}

bool take_id(const char *text, const char *name, enum err unknown, struct uuid *ret, struct pd_error *error, int *ret_code)
{
    if (text && uuid_parse(span_of(text), ret))
        return true;
    *ret_code = text ? refuse(error, unknown, name, "\"%.40s\" is not the id of anything here", text)
                     : refuse(error, ERR_VALIDATION, name, "is required");
    return false;
}

bool take_json(const char *text, const char *name, struct arena *arena, struct jv *ret, struct pd_error *error, int *ret_code)
{
    static const struct json_limits limits = { .depth = 64 };
    struct json *doc = ARENA_NEW(arena, struct json);
    struct error why = { 0 };
    size_t       n = text ? strnlen(text, TEXT_MAX + 1) : 0;
    if (!text)
        *ret_code = refuse(error, ERR_VALIDATION, name, "is required");
    else if (n > TEXT_MAX)
        *ret_code = refuse(error, ERR_TOO_LARGE, name, "is larger than %d bytes", TEXT_MAX);
    else if (json_parse(span_make(text, n), &limits, arena, doc, &why))
        *ret_code = refuse(error, why.code, name, "%s", why.message);
    else {
        *ret = json_root(doc);
        return true;
    }
    return false;
}

char *give_text(struct buf *buf)
{
    buf_byte(buf, '\0');
    char *text = buf->p;
    *buf = (struct buf){ 0 };
    return text;
}

void monotonic_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}
