/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_doctor.c - perdure doctor: looks at everything that has to be right, one line each, with what to do where it
 * is not. */
#include "base/env.h"
#include "cli/commands.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    SYNCS = 20,
    SYNC_WARN_US = 20000, /* a commit waits for one sync */
    DISK_WARN_MB = 1024,
    DISK_FAIL_MB = 100,
    FILES_WARN = 4096,    /* a follower is a descriptor */
    SKEW_WARN_MS = 5000,
};

struct doctor {
    const struct cli *cli;
    bool              json;
    struct buf        out; /* the checks as JSON */
    struct jw         w;
    unsigned          counts[3];
};

struct options {
    struct web_options web;
    const char        *config;
    bool               json;
};

static const struct opt opts[] = {
    { "config", "PERDURE_CONFIG", OPT_TEXT, offsetof(struct options, config), "FILE",
      "check the model providers of this file", 0, 0 },
    { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print JSON for programs", 0, 0 },
    CONNECTION_OPTS(struct options, web),
};

static const struct args_spec spec = {
    .command = "doctor",
    .opts = opts,
    .opt_count = ARRAY_LEN(opts),
    .about =
        "Checks this machine, the data folder, the server and the configuration, and says what to do about what it finds.",
    .epilog = "exit codes: 0 nothing is broken (there may be warnings), 1 something is\n",
};

/* ---- the report ---- */

static void print_line(const struct doctor *d, enum doctor_level level, const char *check, const char *advice,
                       const char *text)
{
    static const char *const words[] = { "ok  ", "warn", "FAIL" };
    static const enum paint  paints[] = { PAINT_GREEN, PAINT_YELLOW, PAINT_RED };
    bool                     color = d->cli->out_color;
    printf("%s%s%s  %-9s ", cli_paint(color, paints[level]), words[level], cli_paint(color, PAINT_OFF), check);
    cli_put_safe(stdout, span_of(text), true);
    putchar('\n');
    if (advice)
        printf("%16s-> %s\n", "", advice);
    fflush(stdout);
}

void doctor_report(struct doctor *doctor, enum doctor_level level, const char *check, const char *advice,
                   const char *format, ...)
{
    static const char *const names[] = { "ok", "warn", "fail" };
    char                     text[512];
    va_list                  args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    doctor->counts[level]++;
    if (!doctor->json) {
        print_line(doctor, level, check, advice, text);
        return;
    }
    struct jw *w = &doctor->w;
    jw_obj(w);
    jw_key(w, "check");
    jw_cstr(w, check);
    jw_key(w, "level");
    jw_cstr(w, names[level]);
    jw_key(w, "message");
    jw_cstr(w, text);
    jw_key(w, "advice");
    jw_cstr(w, advice);
    jw_end(w);
}

/* ---- the machine ---- */

static void check_clock(struct doctor *d)
{
    int64_t now = env_real()->wall_ms(env_real());
    char    text[TIME_TEXT];
    time_format(now, text);
    if (now < INT64_C(1735689600000)) /* 2025: this program is newer */
        doctor_report(d, DOCTOR_FAIL, "clock", "Set the clock (timedatectl set-ntp true).", "it says %.*s", TIME_TEXT,
                      text);
    else
        doctor_report(d, DOCTOR_OK, "clock", NULL, "%.*s", TIME_TEXT, text);
}

static void check_files(struct doctor *d)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < FILES_WARN)
        doctor_report(d, DOCTOR_WARN, "files",
                      "Raise it where the server is started: ulimit -n 65536, or LimitNOFILE= in its unit.",
                      "%llu open files at most; every follower needs one", (unsigned long long)limit.rlim_cur);
    else
        doctor_report(d, DOCTOR_OK, "files", NULL, "%llu open files at most", (unsigned long long)limit.rlim_cur);
}

/* ---- the data folder ---- */

static void check_space(struct doctor *d, const char *folder)
{
    struct statvfs fs;
    struct statfs  kind;
    if (statvfs(folder, &fs) < 0)
        return;
    uint64_t    mb = (uint64_t)fs.f_bavail * fs.f_frsize >> 20;
    const char *advice = "Free some space: when the disk is full the server stops taking work.";
    if (mb < DISK_FAIL_MB)
        doctor_report(d, DOCTOR_FAIL, "space", advice, "%" PRIu64 " MiB are free", mb);
    else if (mb < DISK_WARN_MB)
        doctor_report(d, DOCTOR_WARN, "space", advice, "%" PRIu64 " MiB are free", mb);
    else
        doctor_report(d, DOCTOR_OK, "space", NULL, "%" PRIu64 " GiB are free", mb >> 10);
    if (statfs(folder, &kind) == 0 && (kind.f_type == TMPFS_MAGIC || kind.f_type == RAMFS_MAGIC))
        doctor_report(d, DOCTOR_WARN, "disk", "Choose a folder on a disk: --data DIR.",
                      "%s is in memory and is lost when the machine "
                      "restarts",
                      folder);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What a commit waits for: append a page, sync it. Median of SYNCS. */
static bool measure_sync(int fd, uint64_t *ret_us)
{
    static const char page[4096];
    uint64_t          took[SYNCS];
    for (size_t i = 0; i < SYNCS; i++) {
        uint64_t start = env_real()->mono_us(env_real());
        if (write(fd, page, sizeof page) != (ssize_t)sizeof page || fdatasync(fd) < 0)
            return false;
        took[i] = env_real()->mono_us(env_real()) - start;
    }
    qsort(took, SYNCS, sizeof took[0], by_size);
    *ret_us = took[SYNCS / 2];
    return true;
}

static void report_sync(struct doctor *d, uint64_t us)
{
    if (us > SYNC_WARN_US)
        doctor_report(d, DOCTOR_WARN, "sync",
                      "Use a local SSD for --data; network and spinning disks make every event wait.",
                      "a sync takes %.1f ms (median of %d)", (double)us / 1000, SYNCS);
    else
        doctor_report(d, DOCTOR_OK, "sync", NULL, "a sync takes %.2f ms (median of %d)", (double)us / 1000, SYNCS);
}

static void check_writing(struct doctor *d, const char *folder)
{
    char     path[4096];
    uint64_t us;
    if (snprintf(path, sizeof path, "%s/.doctor-XXXXXX", folder) >= (int)sizeof path)
        return;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        doctor_report(d, DOCTOR_FAIL, "folder", "Give the user that runs the server write access to it.",
                      "cannot write in %s: %s", folder, strerror(errno));
        return;
    }
    doctor_report(d, DOCTOR_OK, "folder", NULL, "%s can be written", folder);
    if (measure_sync(fd, &us))
        report_sync(d, us);
    else
        doctor_report(d, DOCTOR_FAIL, "sync", "Look at the disk (dmesg) and at quotas.", "writing in %s fails: %s",
                      folder, strerror(errno));
    close(fd);
    unlink(path);
}

static void check_token_file(struct doctor *d, const char *folder)
{
    char        path[4096];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/token", folder) >= (int)sizeof path)
        return;
    if (stat(path, &st) < 0)
        doctor_report(d, DOCTOR_WARN, "keyfile",
                      "The first start of `perdure serve` makes it; afterwards keep a copy of your own.", "no %s",
                      path);
    else if (st.st_mode & (S_IRWXG | S_IRWXO))
        doctor_report(d, DOCTOR_FAIL, "keyfile",
                      "chmod 600 it; if others use this machine, make a new token and revoke this one.",
                      "%s can be read by others (mode %03o)", path, (unsigned)(st.st_mode & 0777));
    else
        doctor_report(d, DOCTOR_OK, "keyfile", NULL, "%s is private", path);
}

/* The folder that would hold it, while it is not there yet. */
static void parent_of(const char *folder, char out[4096])
{
    snprintf(out, 4096, "%s", folder);
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        out[--n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash)
        snprintf(out, 4096, ".");
    else
        slash[slash == out] = 0;
}

static void check_folder(struct doctor *d, const char *folder)
{
    struct stat st;
    char        parent[4096];
    if (stat(folder, &st) == 0 && S_ISDIR(st.st_mode)) {
        check_writing(d, folder);
        check_token_file(d, folder);
        check_space(d, folder);
        return;
    }
    if (stat(folder, &st) == 0) {
        doctor_report(d, DOCTOR_FAIL, "folder", "Name a folder with --data.", "%s is no folder", folder);
        return;
    }
    doctor_report(d, DOCTOR_WARN, "folder", "`perdure serve` makes it; or name another one with --data.",
                  "no data folder %s", folder);
    parent_of(folder, parent);
    if (stat(parent, &st) == 0) {
        check_writing(d, parent);
        check_space(d, parent);
    }
}

/* ---- the server ---- */

static enum err get(struct web *web, const char *path, struct arena *arena, struct web_reply *ret, struct error *error)
{
    struct web_request request = { .path = path, .timeout_ms = 10000, .once = true };
    return web_call(web, &request, arena, ret, error);
}

static void check_skew(struct doctor *d, const struct web_reply *reply)
{
    int64_t skew = reply->date_ms ? env_real()->wall_ms(env_real()) - reply->date_ms : 0;
    /* Date has whole seconds: up to one of difference means nothing. */
    if (skew > SKEW_WARN_MS || skew < -SKEW_WARN_MS)
        doctor_report(d, DOCTOR_WARN, "clock", "Synchronise both clocks (NTP).",
                      "the server's clock is %+.1f s from this one", -(double)skew / 1000);
}

static void check_token(struct doctor *d, struct web *web, struct arena *arena)
{
    struct web_reply reply;
    struct error     error;
    const char      *advice = "Set PERDURE_TOKEN or --token, or --data DIR of a server on this machine.";
    if (!web_has_token(web)) {
        doctor_report(d, DOCTOR_FAIL, "token", advice, "there is none");
        return;
    }
    if (get(web, "/v1/api/runs?limit=1", arena, &reply, &error))
        doctor_report(d, DOCTOR_FAIL, "token", "Try again.", "%s", error.message);
    else if (reply.status == 200)
        doctor_report(d, DOCTOR_OK, "token", NULL, "accepted");
    else {
        web_problem(reply.status, reply.json, arena, &error);
        bool scope = reply.status == 403 && jv_str_eq(jv_get(reply.json, "code"), "insufficient_scope");
        doctor_report(d, scope ? DOCTOR_WARN : DOCTOR_FAIL, "token",
                      scope ? "It is valid, but `runs` commands need runs:read." : advice, "%s", error.message);
    }
    if (!web_is_local(web) && strncmp(web_base(web), "http:", 5) == 0)
        doctor_report(d, DOCTOR_WARN, "tls", "Use https:// through a proxy that ends TLS.",
                      "the token travels unencrypted to %s", web_base(web));
}

static void check_server(struct doctor *d, struct web *web, struct arena *arena)
{
    struct web_reply reply;
    struct error     error;
    if (get(web, "/healthz", arena, &reply, &error)) {
        doctor_report(d, DOCTOR_FAIL, "server", "Start it with `perdure serve`, or name the right one with --server.",
                      "%s", error.message);
        return;
    }
    if (reply.status != 200) {
        doctor_report(d, DOCTOR_FAIL, "server", "Is this a perdure server? See its log.",
                      "%s/healthz answers with status %d", web_base(web), reply.status);
        return;
    }
    doctor_report(d, DOCTOR_OK, "server", NULL, "%s is up", web_base(web));
    check_skew(d, &reply);
    if (get(web, "/readyz", arena, &reply, &error) == ERR_OK && reply.status == 200)
        doctor_report(d, DOCTOR_OK, "ready", NULL, "it takes work");
    else
        doctor_report(d, DOCTOR_FAIL, "ready", "It drains, or its storage failed: see its log.",
                      "it takes no work now");
    check_token(d, web, arena);
}

/* ---- all of it ---- */

static void check_all(struct doctor *d, const struct options *options, struct web *web, struct arena *arena)
{
    doctor_report(d, DOCTOR_OK, "version", NULL, "perdure %s", PERDURE_VERSION);
    check_clock(d);
    check_files(d);
    /* With a server elsewhere there is no folder here, unless one is named. */
    if (options->web.data || web_is_local(web))
        check_folder(d, options->web.data ? options->web.data : WEB_DEFAULT_DATA);
    check_server(d, web, arena);
    if (options->config)
        (void)doctor_providers(options->config, d);
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
    struct options options = { 0 };
    struct args    args;
    struct doctor  doctor = { .cli = cli };
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec.command, &options.web, &web);
    if (code)
        return code;
    doctor.json = options.json;
    doctor.w = jw_on(&doctor.out);
    if (doctor.json) {
        jw_obj(&doctor.w);
        jw_key(&doctor.w, "checks");
        jw_arr(&doctor.w);
    }
    check_all(&doctor, &options, web, &arena);
    bool broken = doctor.counts[DOCTOR_FAIL] > 0;
    if (doctor.json) {
        jw_arr_end(&doctor.w);
        jw_key(&doctor.w, "ok");
        jw_bool(&doctor.w, !broken);
        jw_end(&doctor.w);
        printf("%.*s\n", SPAN_ARG(buf_view(&doctor.out)));
    } else {
        printf("\n%u ok, %u to look at, %u broken\n", doctor.counts[DOCTOR_OK], doctor.counts[DOCTOR_WARN],
               doctor.counts[DOCTOR_FAIL]);
    }
    buf_done(&doctor.out);
    return broken ? EXIT_FAILED : EXIT_OK;
}
