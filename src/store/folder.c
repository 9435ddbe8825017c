/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c - the data folder: made when it is missing, and used by one process at a time.
 *
 * The lock on DIR/lock is this node's lease: whoever holds it is the only writer (model.md 6.4). It belongs to the open
 * file, so it goes away with the process, however that ends. */
#include "store/inner.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder's own entry must be as durable as what is in it. */
static void sync_parent(const char *path)
{
    CLEANUP(buf_done) struct buf parent = { 0 };
    buf_printf(&parent, "%s/..%c", path, '\0');
    int fd = open(parent.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return; /* a parent that may not be read: nothing that one could do */
    (void)!fsync(fd);
    close(fd);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Like mkdir -p: all that is missing, private to the user. */
static enum err make_folder(char *path, struct error *error)
{
    for (char *slash = path + 1;; slash++) {
        if (*slash != '/' && *slash != '\0')
            continue;
        char kept = *slash;
        *slash = '\0';
        if (!is_folder(path) && mkdir(path, 0700) == 0)
            sync_parent(path);
        else if (!is_folder(path))
            return error_set(error, ERR_STORAGE, "store", "cannot make the folder %s: %s", path, strerror(errno));
        *slash = kept;
        if (kept == '\0')
            return ERR_OK;
    }
}

static enum err lock_folder(const char *folder, int *ret_fd, struct error *error)
{
    CLEANUP(buf_done) struct buf path = { 0 };
    buf_printf(&path, "%s/lock%c", folder, '\0');
    int fd = open(path.p, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(error, ERR_STORAGE, "store", "cannot open %s: %s", path.p, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int reason = errno;
        close(fd);
        if (reason == EWOULDBLOCK)
            return error_set(error, ERR_CONFLICT, "store", "the folder %s is in use by another process", folder);
        return error_set(error, ERR_STORAGE, "store", "cannot lock %s: %s", path.p, strerror(reason));
    }
    *ret_fd = fd;
    return ERR_OK;
}

enum err folder_take(const char *folder, int *ret_fd, struct error *error)
{
    if (!folder || folder[0] == '\0')
        return error_set(error, ERR_INVALID_PARAMETER, "store", "the store has no data folder");
    CLEANUP(buf_done) struct buf path = { 0 };
    buf_printf(&path, "%s%c", folder, '\0');
    enum err err = make_folder(path.p, error);
    return err ? err : lock_folder(path.p, ret_fd, error);
}

/* ---- the token: which folder this is ---- */

enum { TOKEN_BYTES = (FOLDER_TOKEN - 1) / 2 };

static bool read_token(int fd, char out[FOLDER_TOKEN])
{
    ssize_t n = pread(fd, out, FOLDER_TOKEN - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    return n == FOLDER_TOKEN - 1 && strspn(out, "0123456789abcdef") == FOLDER_TOKEN - 1;
}

static bool write_token(int fd, struct env *env, char out[FOLDER_TOKEN])
{
    CLEANUP(buf_done) struct buf text = { 0 };
    unsigned char bytes[TOKEN_BYTES];
    env->random(env, bytes, sizeof bytes);
    buf_hex(&text, bytes, sizeof bytes);
    memcpy(out, text.p, FOLDER_TOKEN - 1);
    out[FOLDER_TOKEN - 1] = '\0';
    buf_byte(&text, '\n');
    return pwrite(fd, text.p, text.len, 0) == (ssize_t)text.len && fsync(fd) == 0;
}

/* The lock's own file holds it. A token that is not whole was never told to a database. */
enum err folder_token(int lock_fd, struct env *env, char ret[FOLDER_TOKEN], struct error *error)
{
    if (read_token(lock_fd, ret) || write_token(lock_fd, env, ret))
        return ERR_OK;
    return error_set(error, ERR_STORAGE, "store", "cannot write the data folder's token: %s", strerror(errno));
}

void folder_give_back(int fd)
{
    if (fd >= 0)
        close(fd);
}
