#define _GNU_SOURCE
#include "CFabric.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int local_name(const char *path, struct sockaddr_un *name) {
    size_t length = strlen(path);
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    if (length == 0) return -EINVAL;
    if (length >= sizeof name->sun_path) return -ENAMETOOLONG;
    memcpy(name->sun_path, path, length);
    return 0;
}

static int fail(int socket) {
    int error = errno;
    close(socket);
    return -error;
}

int fabric_local_listen(const char *path, int backlog) {
    struct sockaddr_un name;
    int status = local_name(path, &name);
    if (status < 0) return status;
    int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (local < 0) return -errno;
    // Linux gives the file the socket's own mode: no moment passes in which others may connect.
    if (fchmod(local, S_IRUSR | S_IWUSR) < 0) return fail(local);
    if (bind(local, (const struct sockaddr *)&name, sizeof name) < 0) return fail(local);
    if (listen(local, backlog) < 0) return fail(local);
    return local;
}

int fabric_local_connect(const char *path) {
    struct sockaddr_un name;
    int status = local_name(path, &name);
    if (status < 0) return status;
    int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (local < 0) return -errno;
    if (connect(local, (const struct sockaddr *)&name, sizeof name) < 0) return fail(local);
    return local;
}

int fabric_local_accept(int socket) {
    int accepted = accept4(socket, NULL, NULL, SOCK_CLOEXEC);
    return accepted < 0 ? -errno : accepted;
}

int fabric_local_set_timeout(int socket, int timeout_ms) {
    struct timeval time = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) < 0) return -errno;
    if (setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) < 0) return -errno;
    return 0;
}

int fabric_local_shutdown(int socket) {
    return shutdown(socket, SHUT_RDWR) < 0 ? -errno : 0;
}

int fabric_local_remove(const char *path) {
    struct stat found;
    if (lstat(path, &found) < 0) return -errno;
    if (!S_ISSOCK(found.st_mode)) return -EEXIST;
    return unlink(path) < 0 ? -errno : 0;
}
