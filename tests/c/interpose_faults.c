/* Makes calls of the C library fail that becket and the examples make: linked into a program, which then says what is to fail
 * (interpose_faults.h), or loaded by LD_PRELOAD, where the environment says it:
 *
 *   BECKET_FAULT=epoll_ctl.add:ENOMEM:3:1   the third of these calls fails, and one in all ("150ms": and all after it, for so long)
 *   BECKET_FAULT_LIST=file                  at exit appends a line for each call that was made: its number and its
 *                                           reasons, those that can last with a *; and a last line with the number of all calls,
 *                                           of faults, and of milliseconds on a processor
 *
 * What fails is what can fail, in the way in which it fails: a close that reports an error has closed, a connection that was
 * aborted is gone, and a wake's write to its eventfd, which does not block, is counted and goes well. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "interpose_faults.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* This one is not an error of the system's: the kernel takes half of what is submitted, and does not wait. */
#define ESHORT 4095

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* What can be watched, and why it can fail. */
enum call {
  ACCEPT, AIO_BEGIN, AIO_END, BIND, CLOSE, CONNECT, DUP3, EPOLL_CREATE, EPOLL_ADD, EPOLL_MOD, EPOLL_DEL, EPOLL_WAIT, EPOLL_PWAIT2, EVENTFD, FCNTL_SET, FDATASYNC,
  FSTAT, FSYNC, GETRLIMIT, GETSOCKNAME, GETSOCKOPT, LISTEN, MADVISE, MMAP, OPENAT, OPENAT2, PIDFD_OPEN, PIPE, POLL, PPOLL, READ,
  RECV, SELECT, SEND, SENDFILE, SETSOCKOPT, SIGACTION, SOCKET, STATX, URING_ENTER, URING_ENABLE, URING_PROBE, URING_SETUP,
  WAITPID, WRITE, NOTIFY, DRAIN, CALLS,
};

static const char *const names[CALLS] = {
    "accept", "aio.begin", "aio.end", "bind", "close", "connect", "dup3", "epoll_create1", "epoll_ctl.add", "epoll_ctl.mod", "epoll_ctl.del", "epoll_wait",
    "epoll_pwait2", "eventfd", "fcntl.set", "fdatasync", "fstat", "fsync", "getrlimit", "getsockname", "getsockopt", "listen",
    "madvise", "mmap", "openat", "openat2", "pidfd_open", "pipe", "poll", "ppoll", "read", "recv", "select", "send", "sendfile", "setsockopt",
    "sigaction", "socket", "statx", "io_uring_enter",
    "io_uring_register.enable", "io_uring_register.probe", "io_uring_setup", "waitpid", "write", "write.eventfd", "read.eventfd",
};

#define ONCE(call, error) {call, #error, error, 0}
#define LASTS(call, error) {call, #error, error, 1}

static const struct fault_reason reasons[] = {
    ONCE("accept", EAGAIN), ONCE("accept", EINTR), ONCE("accept", ECONNABORTED), LASTS("accept", EMFILE),
    LASTS("accept", ENFILE), LASTS("accept", ENOBUFS), LASTS("accept", ENOMEM),
    LASTS("aio.begin", EAGAIN), ONCE("aio.end", EAGAIN), LASTS("aio.end", EIO), LASTS("aio.end", ENOSPC),
    LASTS("bind", EADDRINUSE), LASTS("bind", EACCES),
    ONCE("close", EINTR), LASTS("close", EIO), LASTS("close", ENOSPC),
    ONCE("connect", EAGAIN), ONCE("connect", EINTR), ONCE("connect", ECONNREFUSED), LASTS("connect", ENETUNREACH),
    LASTS("connect", ENOBUFS),
    LASTS("dup3", EBUSY), ONCE("dup3", EINTR), LASTS("dup3", EMFILE),
    LASTS("epoll_create1", EMFILE), LASTS("epoll_create1", ENFILE), LASTS("epoll_create1", ENOMEM),
    LASTS("epoll_create1", ENOSYS), LASTS("epoll_create1", EPERM),
    LASTS("epoll_ctl.add", ENOMEM), LASTS("epoll_ctl.add", ENOSPC),
    LASTS("epoll_ctl.mod", ENOMEM), /* the manual lists it */
    ONCE("epoll_ctl.del", ENOENT),
    ONCE("epoll_wait", EINTR),
    ONCE("epoll_pwait2", EINTR), LASTS("epoll_pwait2", ENOSYS), LASTS("epoll_pwait2", EPERM),
    LASTS("eventfd", EMFILE), LASTS("eventfd", ENFILE), LASTS("eventfd", ENODEV), LASTS("eventfd", ENOMEM),
    ONCE("fcntl.set", EINTR), LASTS("fcntl.set", EPERM),
    ONCE("fdatasync", EINTR), LASTS("fdatasync", EIO), LASTS("fdatasync", ENOSPC),
    ONCE("fsync", EINTR), LASTS("fsync", EIO), LASTS("fsync", ENOSPC),
    LASTS("fstat", EIO), LASTS("fstat", ENOMEM), LASTS("fstat", EOVERFLOW),
    LASTS("getrlimit", EPERM),
    LASTS("getsockname", ENOBUFS), LASTS("getsockopt", ENOBUFS),
    LASTS("listen", EADDRINUSE),
    LASTS("madvise", EAGAIN), LASTS("madvise", EINVAL), LASTS("madvise", ENOMEM),
    LASTS("mmap", EAGAIN), LASTS("mmap", ENOMEM), LASTS("mmap", EPERM),
    ONCE("openat", EINTR), LASTS("openat", EACCES), LASTS("openat", EIO), LASTS("openat", EMFILE), LASTS("openat", ENFILE),
    LASTS("openat", ENOMEM),
    ONCE("openat2", EAGAIN), ONCE("openat2", EINTR), LASTS("openat2", EMFILE), LASTS("openat2", ENFILE), LASTS("openat2", ENOSYS),
    LASTS("openat2", EPERM),
    LASTS("pidfd_open", EMFILE), LASTS("pidfd_open", ENFILE), LASTS("pidfd_open", ENODEV),
    LASTS("pidfd_open", ENOMEM), LASTS("pidfd_open", ENOSYS), LASTS("pidfd_open", EPERM),
    LASTS("pipe", EMFILE), LASTS("pipe", ENFILE),
    ONCE("poll", EINTR), LASTS("poll", ENOMEM),
    ONCE("ppoll", EINTR), LASTS("ppoll", ENOMEM), LASTS("ppoll", EINVAL),
    ONCE("read", EAGAIN), ONCE("read", EINTR), ONCE("read", ECONNRESET), LASTS("read", EIO),
    ONCE("read.eventfd", EINTR),
    ONCE("recv", EAGAIN), ONCE("recv", EINTR), ONCE("recv", ECONNRESET), ONCE("recv", ENOMEM),
    ONCE("select", EINTR), ONCE("select", EBADF), LASTS("select", ENOMEM),
    ONCE("send", EAGAIN), ONCE("send", EINTR), LASTS("send", ECONNRESET), LASTS("send", EPIPE),
    LASTS("send", ENOBUFS), LASTS("send", ENOMEM),
    ONCE("sendfile", EAGAIN), ONCE("sendfile", EINTR), LASTS("sendfile", EINVAL), LASTS("sendfile", EIO), LASTS("sendfile", ENOMEM),
    LASTS("setsockopt", ENOMEM), LASTS("setsockopt", EPERM),
    LASTS("sigaction", EINVAL),
    LASTS("socket", EACCES), LASTS("socket", EMFILE), LASTS("socket", ENFILE), LASTS("socket", ENOMEM),
    ONCE("io_uring_enter", EINTR), LASTS("io_uring_enter", EAGAIN), LASTS("io_uring_enter", EBUSY),
    LASTS("io_uring_enter", ENOMEM), ONCE("io_uring_enter", ESHORT),
    LASTS("io_uring_register.enable", ENOMEM), LASTS("io_uring_register.enable", EPERM),
    LASTS("io_uring_register.probe", EINVAL), LASTS("io_uring_register.probe", ENOMEM),
    LASTS("io_uring_register.probe", EPERM),
    LASTS("io_uring_setup", EINVAL), LASTS("io_uring_setup", EMFILE), LASTS("io_uring_setup", ENFILE),
    LASTS("io_uring_setup", ENOMEM), LASTS("io_uring_setup", ENOSYS), LASTS("io_uring_setup", EPERM),
    LASTS("statx", EACCES), LASTS("statx", EIO), LASTS("statx", ENOMEM),
    ONCE("waitpid", EINTR),
    ONCE("write", EAGAIN), ONCE("write", EINTR), LASTS("write", EIO), LASTS("write", EPIPE),
};

_Static_assert(sizeof reasons / sizeof *reasons <= FAULT_REASONS, "");

const struct fault_reason *fault_reason(unsigned index) {
  return index < sizeof reasons / sizeof *reasons ? &reasons[index] : NULL;
}

/* ------------------------------------------------------------------------------------------------ what is to fail */

static atomic_ulong counts[CALLS];
static atomic_int failing = CALLS, failing_error;
static atomic_ulong before, left, struck; /* calls before the first that fails, and how many do */
static atomic_ulong span, until;          /* or for how long, in milliseconds, and until when */
static atomic_ulong delay;                /* of a write to an eventfd, in microseconds */

static unsigned long milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000;
}

static enum call call_of(const char *name) {
  enum call call = 0;
  while (call < CALLS && strcmp(names[call], name) != 0) call++;
  return call;
}

void fault_set(const struct fault_reason *reason, unsigned long first, unsigned long times) {
  atomic_store(&failing, CALLS);
  atomic_store(&failing_error, reason->error);
  atomic_store(&before, first - 1);
  atomic_store(&left, times);
  atomic_store(&struck, 0);
  atomic_store(&failing, (int)call_of(reason->call));
}

void fault_slow_wakes(unsigned long microseconds) { atomic_store(&delay, microseconds); }

unsigned long fault_clear(void) {
  atomic_store(&failing, CALLS);
  return atomic_load(&struck);
}

unsigned long fault_calls(const char *name) {
  unsigned long sum = 0;
  if (name != NULL) return atomic_load(&counts[call_of(name)]);
  for (enum call call = 0; call < CALLS; call++) sum += atomic_load(&counts[call]);
  return sum;
}

/* Takes one from a number, unless it is 0 or without end; whether it was not 0. */
static int take(atomic_ulong *number) {
  unsigned long now = atomic_load(number);
  while (now != 0 && now != FAULT_ALWAYS && !atomic_compare_exchange_weak(number, &now, now - 1)) continue;
  return now != 0;
}

/* Counts a call; the error with which it is to fail, or 0. */
static int strikes(enum call call) {
  atomic_fetch_add_explicit(&counts[call], 1, memory_order_relaxed);
  if (atomic_load(&failing) != (int)call || take(&before) || !take(&left)) return 0;
  unsigned long lasts = atomic_load(&span), end = 0;
  if (lasts != 0) {
    unsigned long now = milliseconds();
    if (atomic_compare_exchange_strong(&until, &end, now + lasts)) end = now + lasts;
    if (now >= end) return 0;
  }
  atomic_fetch_add(&struck, 1);
  return atomic_load(&failing_error);
}

/* ------------------------------------------------------------------------------------------------ the real ones */

/* What stands behind this file: the C library's, or a sanitizer's. */
static void *behind(_Atomic(void *) *found, const char *name) {
  void *function = atomic_load(found);
  if (function == NULL) {
    function = dlsym(RTLD_NEXT, name);
    if (function == NULL) abort();
    atomic_store(found, function);
  }
  return function;
}

/* Declares real_NAME(), which finds and calls it. (A function pointer cannot be cast from a void * in pure C11; POSIX has it.) */
#define REAL(result, name, parameters, arguments)                                                             \
  static _Atomic(void *) found_##name;                                                                        \
  static result real_##name parameters {                                                                      \
    result(*function) parameters;                                                                             \
    void *found = behind(&found_##name, #name);                                                             \
    memcpy(&function, &found, sizeof function);                                                             \
    return function arguments;                                                                                \
  }

/* A call that fails without having been made. */
#define WATCH(call, result, name, parameters, arguments)                                                      \
  REAL(result, name, parameters, arguments)                                                                   \
  result name parameters {                                                                                    \
    int error = strikes(call);                                                                                \
    if (error == 0) return real_##name arguments;                                                             \
    errno = error;                                                                                            \
    return -1;                                                                                                \
  }

struct iovec;
struct pollfd;
struct stat;
struct rlimit;

WATCH(BIND, int, bind, (int fd, const void *address, unsigned size), (fd, address, size))
WATCH(DUP3, int, dup3, (int fd, int target, int flags), (fd, target, flags))
WATCH(EPOLL_CREATE, int, epoll_create1, (int flags), (flags))
WATCH(EPOLL_WAIT, int, epoll_wait, (int set, struct epoll_event *events, int room, int timeout), (set, events, room, timeout))
WATCH(FDATASYNC, int, fdatasync, (int fd), (fd))
WATCH(FSTAT, int, fstat, (int fd, struct stat *status), (fd, status))
WATCH(FSYNC, int, fsync, (int fd), (fd))
WATCH(GETRLIMIT, int, getrlimit, (int resource, struct rlimit *limit), (resource, limit))
WATCH(GETSOCKNAME, int, getsockname, (int fd, void *address, unsigned *size), (fd, address, size))
WATCH(GETSOCKOPT, int, getsockopt, (int fd, int level, int name, void *value, unsigned *size), (fd, level, name, value, size))
WATCH(LISTEN, int, listen, (int fd, int backlog), (fd, backlog))
WATCH(MADVISE, int, madvise, (void *start, size_t size, int advice), (start, size, advice))
WATCH(PIPE, int, pipe, (int fds[2]), (fds))
WATCH(PIPE, int, pipe2, (int fds[2], int flags), (fds, flags))
WATCH(POLL, int, poll, (struct pollfd *fds, unsigned long count, int timeout), (fds, count, timeout))
WATCH(PPOLL, int, ppoll, (struct pollfd *fds, unsigned long count, const struct timespec *timeout, const sigset_t *mask),
      (fds, count, timeout, mask))
WATCH(READ, ssize_t, readv, (int fd, const struct iovec *vectors, int count), (fd, vectors, count))
WATCH(RECV, ssize_t, recv, (int fd, void *buffer, size_t size, int flags), (fd, buffer, size, flags))
WATCH(RECV, ssize_t, recvfrom, (int fd, void *buffer, size_t size, int flags, void *from, unsigned *length),
      (fd, buffer, size, flags, from, length))
WATCH(RECV, ssize_t, recvmsg, (int fd, void *message, int flags), (fd, message, flags))
WATCH(SELECT, int, select, (int limit, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout),
      (limit, in, out, except, timeout))
WATCH(SEND, ssize_t, send, (int fd, const void *buffer, size_t size, int flags), (fd, buffer, size, flags))
WATCH(SEND, ssize_t, sendto, (int fd, const void *buffer, size_t size, int flags, const void *to, unsigned length),
      (fd, buffer, size, flags, to, length))
WATCH(SEND, ssize_t, sendmsg, (int fd, const void *message, int flags), (fd, message, flags))
WATCH(SETSOCKOPT, int, setsockopt, (int fd, int level, int name, const void *value, unsigned size), (fd, level, name, value, size))
WATCH(SOCKET, int, socket, (int domain, int type, int protocol), (domain, type, protocol))
WATCH(WAITPID, pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options))
WATCH(WRITE, ssize_t, writev, (int fd, const struct iovec *vectors, int count), (fd, vectors, count))

/* Which fds are eventfds. */
static atomic_ulong eventfds[16]; /* 1024 fds; what is above counts as a file */
static void note_eventfd(int fd, int is_one) {
  const unsigned bits = 8 * sizeof(unsigned long);
  if (fd < 0 || (unsigned)fd / bits >= sizeof eventfds / sizeof *eventfds) return;
  if (is_one) atomic_fetch_or(&eventfds[(unsigned)fd / bits], 1ul << (unsigned)fd % bits);
  else atomic_fetch_and(&eventfds[(unsigned)fd / bits], ~(1ul << (unsigned)fd % bits));
}
static int is_eventfd(int fd) {
  const unsigned bits = 8 * sizeof(unsigned long);
  return fd >= 0 && (unsigned)fd / bits < sizeof eventfds / sizeof *eventfds &&
         (atomic_load(&eventfds[(unsigned)fd / bits]) >> (unsigned)fd % bits & 1) != 0;
}

/* It has closed. */
REAL(int, close, (int fd), (fd))
int close(int fd) {
  int error = strikes(CLOSE), result;
  note_eventfd(fd, 0);
  result = real_close(fd);
  if (error == 0 || result < 0) return result;
  errno = error;
  return -1;
}

/* A connection that was aborted is out of the queue; whatever else is wrong, it stays there. */
REAL(int, accept, (int fd, void *address, unsigned *size), (fd, address, size))
REAL(int, accept4, (int fd, void *address, unsigned *size, int flags), (fd, address, size, flags))
static int failed_accept(int fd, int error) {
  int lost = error == ECONNABORTED ? real_accept4(fd, NULL, NULL, 0) : -1;
  if (lost >= 0) real_close(lost);
  if (lost >= 0 || error != ECONNABORTED) errno = error;
  return -1;
}
int accept(int fd, void *address, unsigned *size) {
  int error = strikes(ACCEPT);
  return error == 0 ? real_accept(fd, address, size) : failed_accept(fd, error);
}
int accept4(int fd, void *address, unsigned *size, int flags) {
  int error = strikes(ACCEPT);
  return error == 0 ? real_accept4(fd, address, size, flags) : failed_accept(fd, error);
}

/* One that a signal has interrupted goes on by itself. */
REAL(int, connect, (int fd, const void *address, unsigned size), (fd, address, size))
int connect(int fd, const void *address, unsigned size) {
  int error = strikes(CONNECT), result = error == 0 || error == EINTR ? real_connect(fd, address, size) : -1;
  if (error == 0 || (error == EINTR && result < 0 && errno != EINPROGRESS)) return result;
  errno = error;
  return -1;
}

REAL(int, openat, (int folder, const char *path, int flags, unsigned mode), (folder, path, flags, mode))
int openat(int folder, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, unsigned) : 0;
  va_end(arguments);
  int error = strikes(OPENAT);
  if (error == 0) return real_openat(folder, path, flags, mode);
  errno = error;
  return -1;
}

/* What is deleted is not there any more. */
REAL(int, epoll_ctl, (int set, int operation, int fd, struct epoll_event *event), (set, operation, fd, event))
int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
  int error = strikes(operation == EPOLL_CTL_ADD ? EPOLL_ADD : operation == EPOLL_CTL_MOD ? EPOLL_MOD : EPOLL_DEL);
  int result = error == 0 || operation == EPOLL_CTL_DEL ? real_epoll_ctl(set, operation, fd, event) : -1;
  if (error == 0) return result;
  errno = error;
  return -1;
}

REAL(int, eventfd, (unsigned initial, int flags), (initial, flags))
int eventfd(unsigned initial, int flags) {
  int error = strikes(EVENTFD);
  if (error != 0) {
    errno = error;
    return -1;
  }
  int fd = real_eventfd(initial, flags);
  note_eventfd(fd, 1);
  return fd;
}
REAL(ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size))
ssize_t read(int fd, void *buffer, size_t size) {
  int error = strikes(is_eventfd(fd) ? DRAIN : READ);
  if (error == 0) return real_read(fd, buffer, size);
  errno = error;
  return -1;
}
REAL(ssize_t, write, (int fd, const void *buffer, size_t size), (fd, buffer, size))
ssize_t write(int fd, const void *buffer, size_t size) {
  int notifies = is_eventfd(fd), error = strikes(notifies ? NOTIFY : WRITE);
  unsigned long wait = notifies ? atomic_load(&delay) : 0;
  if (wait != 0) nanosleep(&(struct timespec){(time_t)(wait / 1000000), (long)(wait % 1000000 * 1000)}, NULL);
  if (error == 0) return real_write(fd, buffer, size);
  errno = error;
  return -1;
}

/* Requests that go on by themselves: what came of one is told once it has ended, and taken by aio_return. */
struct aiocb;
WATCH(AIO_BEGIN, int, aio_read, (struct aiocb *control), (control))
WATCH(AIO_BEGIN, int, aio_write, (struct aiocb *control), (control))
WATCH(AIO_BEGIN, int, aio_fsync, (int kind, struct aiocb *control), (kind, control))
REAL(int, aio_error, (const struct aiocb *control), (control))
int aio_error(const struct aiocb *control) {
  int result = real_aio_error(control), error = result == EINPROGRESS ? 0 : strikes(AIO_END);
  return error == 0 ? result : error;
}

/* What only looks cannot fail. */
REAL(int, fcntl, (int fd, int command, void *argument), (fd, command, argument))
int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  int error = command == F_SETFL || command == F_SETFD ? strikes(FCNTL_SET) : 0;
  if (error == 0) return real_fcntl(fd, command, argument);
  errno = error;
  return -1;
}

/* What puts back or looks is of a signal that there is. */
REAL(int, sigaction, (int signal, const struct sigaction *action, struct sigaction *old), (signal, action, old))
int sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
  int error = action != NULL && old != NULL ? strikes(SIGACTION) : 0;
  if (error == 0) return real_sigaction(signal, action, old);
  errno = error;
  return -1;
}

REAL(void *, mmap, (void *start, size_t size, int access, int flags, int fd, off_t offset), (start, size, access, flags, fd, offset))
void *mmap(void *start, size_t size, int access, int flags, int fd, off_t offset) {
  int error = fd >= 0 ? strikes(MMAP) : 0; /* not what the program's own C library or a sanitizer wants */
  if (error == 0) return real_mmap(start, size, access, flags, fd, offset);
  errno = error;
  return (void *)-1;
}

REAL(long, syscall, (long number, long a, long b, long c, long d, long e, long f), (number, a, b, c, d, e, f))
long syscall(long number, ...) {
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  int error = 0;
  if (number == SYS_epoll_pwait2) error = strikes(EPOLL_PWAIT2);
  else if (number == SYS_openat2) error = strikes(OPENAT2);
  else if (number == SYS_sendfile) error = strikes(SENDFILE);
  else if (number == SYS_statx) error = strikes(STATX);
  else if (number == SYS_pidfd_open) error = strikes(PIDFD_OPEN);
  else if (number == SYS_io_uring_setup) error = strikes(URING_SETUP);
  else if (number == SYS_io_uring_enter) error = strikes(URING_ENTER);
  else if (number == SYS_io_uring_register)
    error = strikes((unsigned)a[1] == IORING_REGISTER_ENABLE_RINGS ? URING_ENABLE : URING_PROBE);
  if (error == ESHORT && (unsigned)a[1] > 0) /* fd, to_submit, min_complete, flags, … */
    return real_syscall(number, a[0], (long)((unsigned)a[1] / 2), 0, a[3] & ~(long)IORING_ENTER_GETEVENTS, 0, 0);
  if (error == 0 || error == ESHORT) return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  errno = error;
  return -1;
}

/* ------------------------------------------------------------------------------------------------ by the environment */

__attribute__((constructor)) static void begin(void) {
  char text[128], *part[4], *rest = text;
  const char *fault = getenv("BECKET_FAULT");
  if (fault == NULL || strlen(fault) >= sizeof text) return;
  strcpy(text, fault);
  for (int i = 0; i < 4; i++) {
    part[i] = rest;
    rest = strchr(rest, ':');
    if (rest == NULL && i < 3) abort();
    if (rest != NULL) *rest++ = '\0';
  }
  for (unsigned i = 0; fault_reason(i) != NULL; i++)
    if (strcmp(reasons[i].call, part[0]) == 0 && strcmp(reasons[i].name, part[1]) == 0) {
      char *unit;
      unsigned long number = strtoul(part[3], &unit, 10);
      if (strcmp(unit, "ms") == 0) atomic_store(&span, number);
      fault_set(&reasons[i], strtoul(part[2], NULL, 10), *unit == '\0' ? number : FAULT_ALWAYS);
      return;
    }
  abort(); /* no such reason: the test that asks for it is wrong */
}

static size_t append_number(char *at, unsigned long number) {
  char digits[24];
  size_t count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  for (size_t i = 0; i < count; i++) at[i] = digits[count - 1 - i];
  return count;
}

static pid_t counter;

__attribute__((constructor)) static void begin_to_count(void) { counter = getpid(); }

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("BECKET_FAULT_LIST");
  /* (What a forked child has counted, its parent has for the most part.) */
  if (path == NULL || getpid() != counter) return;
  char text[8192];
  size_t used = 0;
  for (enum call call = 0; call < CALLS; call++) {
    unsigned long count = atomic_load(&counts[call]);
    if (count == 0) continue;
    used += (size_t)(stpcpy(text + used, names[call]) - (text + used));
    text[used++] = ' ';
    used += append_number(text + used, count);
    for (unsigned i = 0; fault_reason(i) != NULL; i++) {
      if (strcmp(reasons[i].call, names[call]) != 0) continue;
      text[used++] = ' ';
      used += (size_t)(stpcpy(text + used, reasons[i].name) - (text + used));
      if (reasons[i].lasting) text[used++] = '*';
    }
    text[used++] = '\n';
  }
  used += (size_t)(stpcpy(text + used, "all ") - (text + used));
  const unsigned long last[] = {fault_calls(NULL), fault_clear(), (unsigned long)(clock() / (CLOCKS_PER_SEC / 1000))};
  for (int i = 0; i < 3; i++) {
    used += append_number(text + used, last[i]);
    text[used++] = i < 2 ? ' ' : '\n';
  }
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0 || real_write(fd, text, used) != (ssize_t)used) abort();
  real_close(fd);
}
