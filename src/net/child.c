/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - starts a child process, moves bytes between its pipes and the loop, and sees to it that it is gone in the end.
 *
 * The end is noticed by the end of its output: a server that cannot answer any more is of no use, whether its process still
 * exists or not. Between fork and exec only async-signal-safe functions are called. */
#include "net/child.h"
#include "base/mem.h"
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINGER_MS = 20, READ_MAX = 64 << 10, READS_PER_EVENT = 4 };

struct child_process {
    struct loop        *loop;
    struct child_config config;
    pid_t               pid;
    int                 in, out, err; /* our ends; -1 when closed */
    struct event       *can_write, *can_read, *can_read_err;
    struct buf          unsent;
    unsigned            busy;    /* a callback is on the stack */
};

/* ---- its end ---- */

static void close_end(struct event **event, int *fd)
{
    if (*event)
        event_free(*event);
    *event = NULL;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void child_free(struct child_process *child)
{
    close_end(&child->can_write, &child->in);
    close_end(&child->can_read, &child->out);
    close_end(&child->can_read_err, &child->err);
    buf_done(&child->unsent);
    free(child);
}

static bool gone_within(pid_t pid, unsigned ms, int *ret_status)
{
    static const struct timespec step = { .tv_nsec = 2000000 };
    for (unsigned waited = 0;; waited += 2) {
        pid_t got = waitpid(pid, ret_status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return true;
        if (waited >= ms)
            return false;
        nanosleep(&step, NULL);
    }
}

/* Its input is closed. What is left of the group gets SIGKILL also when the leader is gone. */
static int end_group(pid_t pid, unsigned patience_ms)
{
    int  status = 0;
    bool gone = gone_within(pid, patience_ms, &status);
    if (!gone && patience_ms > LINGER_MS) {
        kill(-pid, SIGTERM);
        gone = gone_within(pid, patience_ms, &status);
    }
    kill(-pid, SIGKILL);
    while (!gone && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

/* Its last words: the end of its output may be seen before what it said on its standard error. */
static void hear_out(struct child_process *child)
{
    char data[4096];
    for (ssize_t n; child->err >= 0 && (n = read(child->err, data, sizeof data)) > 0;)
        child->config.on_err(child->config.user, span_make(data, (size_t)n));
}

static void ended(struct child_process *child)
{
    char how[64];
    close_end(&child->can_write, &child->in);
    int status = end_group(child->pid, LINGER_MS); /* the loop waits meanwhile: not for long */
    hear_out(child);
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "was ended by signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof how, "ended with status %d", WEXITSTATUS(status));
    void (*on_end)(void *, const char *) = child->config.on_end;
    void *user = child->config.user;
    child_free(child);
    on_end(user, how);
}

void child_stop(struct child_process *child, unsigned patience_ms)
{
    if (!child)
        return;
    assert(child->busy == 0);
    close_end(&child->can_write, &child->in);
    (void)end_group(child->pid, patience_ms);
    child_free(child);
}

/* ---- its pipes ---- */

static void on_readable(evutil_socket_t fd, short what, void *user)
{
    struct child_process *child = user;
    char                  data[READ_MAX];
    for (unsigned i = 0; i < READS_PER_EVENT; i++) {
        ssize_t n = read(child->out, data, sizeof data);
        if (n > 0) {
            child->busy++;
            child->config.on_out(child->config.user, span_make(data, (size_t)n));
            child->busy--;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        } else {
            ended(child);
            return;
        }
    }
}

static void on_readable_err(evutil_socket_t fd, short what, void *user)
{
    struct child_process *child = user;
    char                  data[4096];
    ssize_t               n = read(child->err, data, sizeof data);
    if (n > 0) {
        child->busy++;
        child->config.on_err(child->config.user, span_make(data, (size_t)n));
        child->busy--;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_end(&child->can_read_err, &child->err);
    }
}

/* What the pipe takes now; a broken one takes all: the end of the output follows. */
static size_t push(struct child_process *child, struct span data)
{
    size_t sent = 0;
    while (sent < data.n && child->in >= 0) {
        ssize_t n = write(child->in, data.p + sent, data.n - sent);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            return sent;
        else if (n < 0 && errno != EINTR)
            close_end(&child->can_write, &child->in);
    }
    return data.n;
}

static void on_writable(evutil_socket_t fd, short what, void *user)
{
    struct child_process *child = user;
    size_t                n = push(child, buf_view(&child->unsent));
    child->unsent.len -= n;
    if (child->unsent.len) {
        memmove(child->unsent.p, child->unsent.p + n, child->unsent.len);
        event_add(child->can_write, NULL);
    }
}

enum err child_write(struct child_process *child, struct span data)
{
    if (child->in < 0)
        return ERR_OK;
    if (data.n > child->config.max_unsent || child->unsent.len > child->config.max_unsent - data.n)
        return ERR_TOO_LARGE;
    if (child->unsent.len == 0) {
        size_t n = push(child, data);
        data = span_make(data.p + n, data.n - n);
    }
    if (data.n) {
        buf_span(&child->unsent, data);
        event_add(child->can_write, NULL);
    }
    return ERR_OK;
}

/* ---- its beginning ---- */

struct pipes { int in[2], out[2], err[2], why[2]; };

static void close_pair(int pair[2])
{
    for (unsigned i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

static bool pipes_open(struct pipes *p)
{
    *p = (struct pipes){ { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
    if (pipe2(p->in, O_CLOEXEC) == 0 && pipe2(p->out, O_CLOEXEC) == 0 && pipe2(p->err, O_CLOEXEC) == 0 && pipe2(p->why, O_CLOEXEC) == 0)
        return true;
    close_pair(p->in);
    close_pair(p->out);
    close_pair(p->err);
    close_pair(p->why);
    return false;
}

/* In the child. What cannot be done is told through `why`, which exec closes. */
static _Noreturn void become(const struct child_config *config, const struct pipes *p, pid_t parent)
{
    sigset_t none;
    int      why;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (getppid() == parent && dup2(p->in[0], 0) == 0 && dup2(p->out[1], 1) == 1 && dup2(p->err[1], 2) == 2 &&
        (!config->folder || chdir(config->folder) == 0)) {
        (void)close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
        execvpe(config->argv[0], (char *const *)config->argv, (char *const *)config->env);
    }
    why = errno;
    (void)!write(p->why[1], &why, sizeof why);
    _exit(127);
}

static enum err watch(struct child_process *child)
{
    struct event_base *base = loop_base(child->loop);
    fcntl(child->in, F_SETFL, O_NONBLOCK);
    fcntl(child->out, F_SETFL, O_NONBLOCK);
    fcntl(child->err, F_SETFL, O_NONBLOCK);
    child->can_write = event_new(base, child->in, EV_WRITE, on_writable, child);
    child->can_read = event_new(base, child->out, EV_READ | EV_PERSIST, on_readable, child);
    child->can_read_err = event_new(base, child->err, EV_READ | EV_PERSIST, on_readable_err, child);
    bool ok = child->can_write && child->can_read && child->can_read_err && event_add(child->can_read, NULL) == 0 &&
              event_add(child->can_read_err, NULL) == 0;
    return ok ? ERR_OK : ERR_IO;
}

enum err child_start(struct loop *loop, const struct child_config *config, struct child_process **ret, struct error *error)
{
    struct pipes p;
    int          why = 0;
    pid_t        self = getpid();
    if (!pipes_open(&p))
        return error_set(error, ERR_IO, NULL, "%s: %s", config->argv[0], strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        become(config, &p, self);
    why = pid < 0 ? errno : 0;
    close(p.in[0]);
    close(p.out[1]);
    close(p.err[1]);
    close(p.why[1]);
    if (pid > 0) {
        setpgid(pid, pid); /* also here: a signal to the group may be wanted before the child has run */
        while (read(p.why[0], &why, sizeof why) < 0 && errno == EINTR)
            continue;
    }
    close(p.why[0]);
    struct child_process *child = mem_alloc(sizeof *child);
    *child = (struct child_process){ .loop = loop, .config = *config, .pid = pid, .in = p.in[1], .out = p.out[0], .err = p.err[0] };
    child->config.argv = child->config.env = NULL;
    if (why || watch(child)) {
        if (pid > 0)
            (void)end_group(pid, LINGER_MS);
        child_free(child);
        return error_set(error, ERR_IO, NULL, "%s: %s", config->argv[0], why ? strerror(why) : "cannot be watched");
    }
    *ret = child;
    return ERR_OK;
}
