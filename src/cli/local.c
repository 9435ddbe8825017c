/* SPDX-License-Identifier: Apache-2.0 */
/* local.c - starts and stops the child server; see local.h. */
#include "cli/local.h"
#include "base/env.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_MS = 20000, STOP_MS = 15000, TAIL = 4096 };

static const char ready_line[] = "listening on ";

/* In the child: own group, so that Ctrl-C on the terminal is for the command alone; it ends when its parent does. */
static _Noreturn void become_server(const char *data, const char *config, pid_t parent, int out, int err)
{
    sigset_t none;
    char serve[] = "serve", listen[] = "--listen", address[] = "127.0.0.1:0", data_opt[] = "--data",
         config_opt[] = "--config";
    char     name[] = "perdure";
    char    *argv[] = { name, serve, listen, address, data_opt, (char *)(uintptr_t)data, config ? config_opt : NULL,
                        (char *)(uintptr_t)config, NULL };
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(out, 1);
    dup2(err, 2);
    /* They would decide about things that this child is told explicitly. */
    unsetenv("PERDURE_LISTEN");
    unsetenv("PERDURE_DEV");
    unsetenv("PERDURE_STORE");
    execv("/proc/self/exe", argv);
    _exit(127);
}

static uint64_t now_ms(void)
{
    return env_real()->mono_us(env_real()) / 1000;
}

/* The line "listening on URL". */
static enum err read_ready(struct local *local, struct error *error)
{
    char     line[256];
    size_t   n = 0;
    uint64_t until = now_ms() + START_MS;
    while (n < sizeof line - 1) {
        uint64_t      now = now_ms();
        struct pollfd fd = { .fd = local->out, .events = POLLIN };
        int           got = now < until ? poll(&fd, 1, (int)(until - now)) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set(error, ERR_TIMEOUT, "", "the server did not become ready within %d s", START_MS / 1000);
        ssize_t more = read(local->out, line + n, 1);
        if (more <= 0)
            return error_set(error, ERR_IO, "", "the server ended before it was ready");
        if (line[n] == '\n')
            break;
        n++;
    }
    line[n] = 0;
    if (strncmp(line, ready_line, sizeof ready_line - 1) != 0)
        return error_set(error, ERR_IO, "", "the server said \"%.60s\" instead of where it listens", line);
    snprintf(local->url, sizeof local->url, "%.127s", line + sizeof ready_line - 1);
    return ERR_OK;
}

static void show_tail(int fd)
{
    char  text[TAIL];
    off_t end = lseek(fd, 0, SEEK_END);
    if (end <= 0)
        return;
    ssize_t n = pread(fd, text, sizeof text, end > TAIL ? end - TAIL : 0);
    if (n > 0)
        fwrite(text, 1, (size_t)n, stderr);
}

static enum err spawn(const char *data, const char *config, int log, struct local *local, struct error *error)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_set(error, ERR_IO, "", "pipe: %s", strerror(errno));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become_server(data, config, parent, pipe_fds[1], log);
    close(pipe_fds[1]);
    if (pid < 0) {
        close(pipe_fds[0]);
        return error_set(error, ERR_IO, "", "fork: %s", strerror(errno));
    }
    local->pid = pid;
    local->out = pipe_fds[0];
    return ERR_OK;
}

enum err local_start(const char *data, const char *config, struct local *ret, struct error *error)
{
    struct local local = { 0 };
    /* Its log would write over the run; it matters only when the start fails. A file, so that it may grow. */
    FILE *log = tmpfile();
    if (!log)
        return error_set(error, ERR_IO, "", "temporary file: %s", strerror(errno));
    fflush(NULL);
    enum err err = spawn(data, config, fileno(log), &local, error);
    if (!err)
        err = read_ready(&local, error);
    if (err) {
        local_stop(&local);
        show_tail(fileno(log));
    } else {
        *ret = local;
    }
    fclose(log);
    return err;
}

void local_stop(struct local *local)
{
    if (local->pid <= 0)
        return;
    struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
    uint64_t        until = now_ms() + STOP_MS;
    kill(local->pid, SIGTERM);
    while (waitpid(local->pid, NULL, WNOHANG) == 0) {
        if (now_ms() >= until)
            kill(local->pid, SIGKILL);
        nanosleep(&pause, NULL);
    }
    close(local->out);
    local->pid = 0;
}

/* ---- a server, whichever ---- */

static bool nobody_listens(struct web *web)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct web_request request = { .path = "/healthz", .timeout_ms = 5000, .once = true };
    struct web_reply   reply;
    struct error       error = { 0 };
    return web_call(web, &request, &arena, &reply, &error) && strcmp(error.field, "refused") == 0;
}

static int start_own(const struct cli *cli, const struct local_want *want, struct web *web, struct local *local,
                     const char **ret_data)
{
    const char        *data = want->options->data ? want->options->data : WEB_DEFAULT_DATA;
    struct web_options options = *want->options;
    struct error       error;
    if (want->stays)
        return cli_fail(cli, want->command, EXIT_SERVER,
                        "nobody listens at %s, and --detach needs a server that stays: perdure serve", web_base(web));
    if (local_start(data, want->config, local, &error))
        return cli_fail(cli, want->command, EXIT_SERVER, "no server at %s, and none could be started: %s", web_base(web),
                        error.message);
    *ret_data = data;
    options.server = local->url;
    options.data = data;
    options.token =
        NULL; /* a token given or in the environment is for some other server; this one's is in its folder */
    if (web_move(web, &options, &error))
        return cli_fail(cli, want->command, EXIT_SERVER, "%s", error.message);
    if (!want->quiet)
        fprintf(stderr, "%sNo server is running: started one for this run, data in %s.%s\n",
                cli_paint(cli->err_color, PAINT_DIM), data, cli_paint(cli->err_color, PAINT_OFF));
    return EXIT_OK;
}

int local_connect(const struct cli *cli, const struct local_want *want, struct web **web, struct local *local, const char **ret_data)
{
    int code = cli_connect(cli, want->command, want->options, web);
    *ret_data = NULL;
    if (code == EXIT_OK && !want->options->server && nobody_listens(*web))
        code = start_own(cli, want, *web, local, ret_data);
    return code;
}
