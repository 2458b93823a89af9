/* Between forebay and libc: syncs and writes of RocksDB's log files can be held, failed, counted.
 *
 * SLOW_SYNC_DATA     the data directory; of its files, those named *.log are watched
 * SLOW_SYNC_CONTROL  a directory of files through which a test and this shim talk:
 *   hold        while it is there, no sync returns (nor begins)
 *   reached     made here when a sync waits because of it
 *   delay_ms    how many milliseconds every sync takes longer than the disk takes for it
 *   fail_sync   the next sync takes it away and fails with EIO, without syncing
 *   fail_write  the next write takes it away and fails with EIO, without writing
 *   syncs       grows by a byte here whenever a sync has returned
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static ssize_t real_write(int fd, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return next(fd, bytes, count);
}

static int is_log_file(int fd) {
    char link[64], path[PATH_MAX];
    const char *data = getenv("SLOW_SYNC_DATA");
    if (!data) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 4) return 0;
    path[length] = 0;
    return !strncmp(path, data, strlen(data)) && !strcmp(path + length - 4, ".log");
}

/* The path of a control file; 0 when there is no room for it. */
static int control(char *path, const char *name) {
    const char *directory = getenv("SLOW_SYNC_CONTROL");
    if (!directory) return 0;
    return snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX;
}

/* Takes a control file away; whether it was there. */
static int take(const char *name) {
    char path[PATH_MAX];
    int before = errno;
    int taken = control(path, name) && unlink(path) == 0;
    errno = before;
    return taken;
}

static void append(const char *name, const char *bytes, size_t count) {
    char path[PATH_MAX];
    int before = errno;
    if (control(path, name)) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd >= 0) {
            if (real_write(fd, bytes, count) < 0) abort();
            close(fd);
        }
    }
    errno = before;
}

static void wait_while_held(void) {
    char path[PATH_MAX];
    struct timespec moment = {0, 2000000};
    int before = errno;
    if (control(path, "hold") && access(path, F_OK) == 0) {
        append("reached", "", 0);
        while (access(path, F_OK) == 0) nanosleep(&moment, NULL);
    }
    errno = before;
}

static void be_slow(void) {
    char path[PATH_MAX], text[16] = "";
    int before = errno;
    int fd = control(path, "delay_ms") ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        long ms = read(fd, text, sizeof text - 1) > 0 ? strtol(text, NULL, 10) : 0;
        struct timespec time = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&time, NULL);
        close(fd);
    }
    errno = before;
}

static int sync_with(const char *name, int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (!is_log_file(fd)) return next(fd);
    wait_while_held();
    if (take("fail_sync")) {
        errno = EIO;
        return -1;
    }
    be_slow();
    int result = next(fd);
    if (result == 0) append("syncs", ".", 1);
    return result;
}

int fsync(int fd) { return sync_with("fsync", fd); }

int fdatasync(int fd) { return sync_with("fdatasync", fd); }

ssize_t write(int fd, const void *bytes, size_t count) {
    if (is_log_file(fd) && take("fail_write")) {
        errno = EIO;
        return -1;
    }
    return real_write(fd, bytes, count);
}
