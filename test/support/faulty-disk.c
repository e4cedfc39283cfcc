/*
 * Preloaded into a process, it makes writes and syncs of files whose path contains FAULT_PATH fail now and then: every FAULT_EVERY-th write in
 * turn with EIO, with ENOSPC and short, every FAULT_EVERY-th sync with EIO.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int writes, syncs;

static int is_meant(int fd) {
  char link[64], path[4096];
  const char *wanted = getenv("FAULT_PATH");
  if (wanted == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strstr(path, wanted) != NULL;
}

static int every(void) {
  const char *text = getenv("FAULT_EVERY");
  int number = text == NULL ? 0 : atoi(text);
  return number > 0 ? number : 100;
}

static ssize_t faulty_write(const char *name, int fd, const void *buffer, size_t count, off_t offset) {
  ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
  if (is_meant(fd)) {
    int number = atomic_fetch_add(&writes, 1) + 1;
    if (number % every() == 0) {
      switch ((number / every()) % 3) {
        case 0: errno = EIO; return -1;
        case 1: errno = ENOSPC; return -1;
        default: if (count > 1) return real(fd, buffer, count / 2, offset);
      }
    }
  }
  return real(fd, buffer, count, offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset) { return faulty_write("pwrite", fd, buffer, count, offset); }
ssize_t pwrite64(int fd, const void *buffer, size_t count, off64_t offset) { return faulty_write("pwrite64", fd, buffer, count, offset); }

static int faulty_sync(const char *name, int fd) {
  int (*real)(int) = dlsym(RTLD_NEXT, name);
  if (is_meant(fd) && (atomic_fetch_add(&syncs, 1) + 1) % every() == 0) {
    errno = EIO;
    return -1;
  }
  return real(fd);
}

int fdatasync(int fd) { return faulty_sync("fdatasync", fd); }
int fsync(int fd) { return faulty_sync("fsync", fd); }
