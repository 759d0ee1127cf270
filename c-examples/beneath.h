/* beneath.h: opens a file beneath a directory, and never one outside of it, whatever the path and the links say.
 *
 * Two ways to the same file:
 *   beneath_openat2   openat2(2) with RESOLVE_BENEATH: the kernel sees to it, in one system call (Linux 5.6)
 *   struct beneath    a walk, one component at a time, for systems without, and for programs that may not block:
 *
 *     beneath_start ──▶ beneath_next ──0: open walk.name in walk.dirfd──▶ beneath_opened ──0──▶ beneath_next ...
 *                            │                                                 │
 *                            └── error                                         └── fd, or error
 *
 * The caller opens: with openat(2), or with an operation that completes later. The kernel gets a single name each time,
 * never "..", and O_NOFOLLOW; so each step stays in the directory it is in. ".." and links are followed here, on the path's
 * text: whatever stands before the place where the walk is has been opened as a real directory, so ".." takes the last of
 * it away and the walk begins anew. A link out, an absolute one, or a ".." too many is -EXDEV, as from openat2(2).
 *
 * A walk is O(steps), at most BENEATH_STEPS_MAX, and holds one fd of its own. No allocation. */
#ifndef BENEATH_H
#define BENEATH_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BENEATH_PATH_MAX  4096 /* with the targets of links, and the NUL */
#define BENEATH_NAME_MAX  256  /* one component, and the NUL */
#define BENEATH_LINKS_MAX 40   /* as the kernel's */
#define BENEATH_STEPS_MAX 1024 /* names opened */

/* How a file is opened that is to be read: a FIFO is not waited for, a terminal does not become ours. What it is, the
 * caller asks fstat(2). */
#define BENEATH_READ (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_LARGEFILE)

#ifndef O_LARGEFILE /* only where a file may be too large for off_t */
#define O_LARGEFILE 0
#endif
#ifndef O_PATH /* where a directory must be opened for reading to be gone through */
#define O_PATH O_RDONLY
#endif

/* The resolve flags of openat2(2); <linux/openat2.h> is not on every system that has the call. */
#define BENEATH_NO_MAGICLINKS 0x02
#define BENEATH_BENEATH       0x08
#define BENEATH_CACHED        0x20

/* Laid out as struct open_how. */
struct beneath_how {
  uint64_t flags, mode, resolve;
};

static const struct beneath_how beneath_how = {BENEATH_READ, 0, BENEATH_BENEATH | BENEATH_NO_MAGICLINKS};

/* Opens for reading, with openat2(2). `cached`: only if the disk need not be asked for any name on the way, else -EAGAIN
 * (Linux 5.12). Returns the fd; -EXDEV, it is not beneath; -ENOSYS, -EINVAL, -EPERM (a filter), -E2BIG: this system has
 * not got it; else what open(2) says. */
static inline int beneath_openat2(int root, const char *path, bool cached) {
#ifdef SYS_openat2
  struct beneath_how how = beneath_how;
  if (cached) how.resolve |= BENEATH_CACHED;
  long fd;
  /* EAGAIN, uncached: something was renamed meanwhile, and ".." could not be judged. EINTR: a slow file system. */
  for (int i = 0; i < 16; i++) {
    fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd >= 0 || (errno != EINTR && (cached || errno != EAGAIN))) break;
  }
  return fd >= 0 ? (int)fd : -errno;
#else
  (void)root, (void)path, (void)cached;
  return -ENOSYS;
#endif
}

struct beneath {
  int root, dirfd; /* dirfd: where the walk is; the root, or an fd of its own */
  int flags;       /* how `name` is to be opened */
  uint32_t done;   /* the path up to here leads to dirfd, through real directories */
  uint32_t end;    /* of the component at hand */
  uint32_t size;   /* of the path */
  uint32_t links, steps;
  bool last; /* the component at hand is the file itself */
  char name[BENEATH_NAME_MAX];
  char path[BENEATH_PATH_MAX];
};

/* Sets a walk up, to open a path of `size` bytes beneath `root` for reading. */
static inline int beneath_start(struct beneath *walk, int root, const char *path, size_t size) {
  if (size == 0) return -ENOENT;
  if (size >= BENEATH_PATH_MAX) return -ENAMETOOLONG;
  if (path[0] == '/') return -EXDEV;
  memcpy(walk->path, path, size);
  walk->path[size] = '\0';
  walk->size = (uint32_t)size;
  walk->root = walk->dirfd = root;
  walk->done = walk->links = walk->steps = 0;
  return 0;
}

static inline void beneath_go_to(struct beneath *walk, int dirfd) {
  if (walk->dirfd != walk->root) close(walk->dirfd);
  walk->dirfd = dirfd;
}

/* Gives the walk up at any time between two steps; one that has ended needs it no more. */
static inline void beneath_stop(struct beneath *walk) { beneath_go_to(walk, walk->root); }

/* Replaces path[from..to) by `size` bytes. */
static inline int beneath_splice(struct beneath *walk, size_t from, size_t to, const char *bytes, size_t size) {
  if (walk->size - (to - from) + size >= BENEATH_PATH_MAX) return -ENAMETOOLONG;
  memmove(walk->path + from + size, walk->path + to, walk->size - to + 1);
  memcpy(walk->path + from, bytes, size);
  walk->size = (uint32_t)(walk->size - (to - from) + size);
  return 0;
}

/* ".." at [from, to): without it and the last directory before it, from the root again. */
static inline int beneath_up(struct beneath *walk, size_t from, size_t to) {
  size_t parent = from;
  while (parent > 0 && walk->path[parent - 1] == '/') parent--;
  if (parent == 0) return -EXDEV;
  while (parent > 0 && walk->path[parent - 1] != '/') parent--;
  /* What is left may be empty, or end with the slash after a directory: "." stands for that directory. */
  int code = beneath_splice(walk, parent, to, ".", 1);
  beneath_go_to(walk, walk->root);
  walk->done = 0;
  return code;
}

/* Which name is next? 0: open walk->name in walk->dirfd with walk->flags, and tell beneath_opened(). Else the walk has
 * ended with an error. */
static inline int beneath_next(struct beneath *walk) {
  int code = 0;
  while (code == 0) {
    const char *path = walk->path;
    size_t from = walk->done;
    while (path[from] == '/') from++;
    size_t to = from;
    while (path[to] != '/' && path[to] != '\0') to++;
    size_t size = to - from;
    bool dot = size == 1 && path[from] == '.';
    size_t after = to;
    while (path[after] == '/') after++;
    bool last = path[after] == '\0';
    if (size == 2 && path[from] == '.' && path[from + 1] == '.') {
      code = ++walk->steps > BENEATH_STEPS_MAX ? -ELOOP : beneath_up(walk, from, to);
    } else if (dot && !last) {
      code = beneath_splice(walk, from, after, "", 0);
    } else if (size >= BENEATH_NAME_MAX) {
      code = -ENAMETOOLONG;
    } else if (++walk->steps > BENEATH_STEPS_MAX) {
      code = -ELOOP;
    } else {
      /* "a/" is the directory a, so that it ends with "." in it. */
      walk->last = last && (path[to] == '\0' || dot || size == 0);
      walk->end = (uint32_t)to;
      memcpy(walk->name, size == 0 ? "." : path + from, size == 0 ? 1 : size);
      walk->name[size == 0 ? 1 : size] = '\0';
      walk->flags = O_NOFOLLOW | O_CLOEXEC | (walk->last ? BENEATH_READ : O_PATH | O_DIRECTORY);
      return 0;
    }
  }
  beneath_stop(walk);
  return code;
}

/* `name` was no directory, or not to be followed: a link? Then its target takes the name's place in the path. */
static inline int beneath_link(struct beneath *walk, int code) {
  char target[BENEATH_PATH_MAX];
  ssize_t size = readlinkat(walk->dirfd, walk->name, target, sizeof target);
  if (size < 0) return errno == EINVAL ? code : -errno; /* EINVAL: it is no link */
  if (size == (ssize_t)sizeof target) return -ENAMETOOLONG;
  if (size == 0) return -ENOENT;
  if (target[0] == '/') return -EXDEV;
  if (++walk->links > BENEATH_LINKS_MAX) return -ELOOP;
  return beneath_splice(walk, walk->end - strlen(walk->name), walk->end, target, (size_t)size);
}

/* What came of opening `name`: an fd, or a negative errno. Returns 0: go on with beneath_next(); the fd of the file; or a
 * negative errno: the walk has ended. */
static inline int beneath_opened(struct beneath *walk, int result) {
  if (result >= 0 && walk->last) {
    beneath_stop(walk);
    /* 0 says something else here: where a program has closed its standard input, the file gets another number. */
    if (result > 0) return result;
    int fd = fcntl(result, F_DUPFD_CLOEXEC, 1);
    close(result);
    return fd > 0 ? fd : -EMFILE;
  }
  if (result >= 0) {
    beneath_go_to(walk, result);
    walk->done = walk->end;
    return 0;
  }
  int code = result;
  if (code == -ELOOP || code == -ENOTDIR || code == -EMLINK) /* EMLINK: FreeBSD's word for a link not followed */
    code = beneath_link(walk, result);
  if (code < 0) beneath_stop(walk);
  return code;
}

/* The whole walk at once, with openat(2). Returns the fd or a negative errno. */
static inline int beneath_walk(struct beneath *walk, int root, const char *path, size_t size) {
  int code = beneath_start(walk, root, path, size);
  while (code == 0) {
    code = beneath_next(walk);
    if (code < 0) break;
    int fd = openat(walk->dirfd, walk->name, walk->flags);
    code = beneath_opened(walk, fd >= 0 ? fd : -errno);
  }
  return code;
}

#endif
