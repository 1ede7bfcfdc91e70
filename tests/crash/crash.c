/* Kills the process at its N-th change of a file system below a folder: loaded before the C library (LD_PRELOAD).
 *
 * CRASH_ROOT names the folder, CRASH_AT is N; with N = 0 nothing is killed. CRASH_COUNT names a file (outside the
 * folder) that gets the number of changes when the process ends. Half of a write that is killed reaches the file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long changes;

static int below(const char *path) {
    const char *root = getenv("CRASH_ROOT");
    char full[4096];
    if (!root || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, sizeof full / 2)) return 0;
        strncat(full, "/", 2);
        strncat(full, path, sizeof full - strlen(full) - 1);
        path = full;
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int file_below(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static int last(void) {
    const char *at = getenv("CRASH_AT");
    long limit = at ? atol(at) : 0;
    return atomic_fetch_add(&changes, 1) + 1 == limit;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (file_below(fd) && last()) { real(fd, data, size / 2); die(); }
    return real(fd, data, size);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    if (below(to) && last()) die();
    return real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat);
    if (below(to) && last()) die();
    return real(a, from, b, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (below(path) && last()) die();
    return real(path, mode);
}
int unlink(const char *path) {
    REAL(unlink);
    if (below(path) && last()) die();
    return real(path);
}
#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        REAL(name);                                             \
        va_list list;                                           \
        va_start(list, flags);                                  \
        mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0; \
        va_end(list);                                           \
        if (flags & (O_CREAT | O_TRUNC) && below(path) && last()) die(); \
        return real(path, flags, mode);                         \
    }
OPEN(open)
OPEN(open64)

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("CRASH_COUNT");
    if (!path) return;
    FILE *file = fopen(path, "w");
    if (file) { fprintf(file, "%ld", (long)changes); fclose(file); }
}
