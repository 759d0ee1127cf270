/* System calls: how many becket makes, and what it does with what they answer. The ones that it may make are this program's
 * own functions here, which count, now and then answer with an error, and else ask the system. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static BECKET_MEMORY(memory, 64, 0, 0);
static BECKET_RING(ring, 64);
static becket_config config = {.size = sizeof config};
static becket_loop *loop;

/* ---- The system, between becket and the kernel ---- */

static struct {
  int waits; /* epoll_wait, epoll_pwait2, io_uring_enter, ppoll, select */
  int changes, creations, stats, polls, others;
} calls;

static int control_error;           /* what epoll_ctl(2) answers to additions and changes; 0: it works */
static int no_shared_rings;         /* a kernel that cannot take rings from the program */
static uint32_t without_feature;    /* a kernel without one of io_uring's features */

static long real(long number, long a, long b, long c, long d, long e, long f) {
  static long (*next)(long, ...);
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "syscall");
  return next(number, a, b, c, d, e, f);
}

/* A wait. One that is interrupted, as by a stop of the whole machine, is made again, and counts once. */
static long waited(long result) {
  if (result >= 0 || errno != EINTR) calls.waits++;
  return result;
}

static int failed(int error) {
  errno = error;
  return -1;
}

long syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (size_t i = 0; i < COUNT(a); i++) a[i] = va_arg(list, long);
  va_end(list);
  switch (number) {
#ifdef SYS_epoll_pwait2
  case SYS_epoll_pwait2:
#endif
  case SYS_io_uring_enter: return waited(real(number, a[0], a[1], a[2], a[3], a[4], a[5]));
  case SYS_io_uring_setup: {
    struct io_uring_params *params = (struct io_uring_params *)a[1];
    if (no_shared_rings && (params->flags & (1u << 14 /* NO_MMAP */)) != 0) return failed(EINVAL);
    long fd = real(number, a[0], a[1], 0, 0, 0, 0);
    params->features &= ~without_feature;
    return fd;
  }
  default: calls.others++; break;
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int epoll_wait(int set, struct epoll_event *events, int count, int timeout) {
  return (int)waited(epoll_pwait(set, events, count, timeout, NULL));
}

int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
  calls.changes++;
  if (control_error != 0 && operation != EPOLL_CTL_DEL) return failed(control_error);
  return (int)real(SYS_epoll_ctl, set, operation, fd, (long)event, 0, 0);
}

int epoll_create1(int flags) {
  calls.creations++;
  return (int)real(SYS_epoll_create1, flags, 0, 0, 0, 0, 0);
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
  CHECK(mask == NULL);
  struct timespec copy; /* the system call writes to it */
  if (timeout != NULL) copy = *timeout;
  return (int)waited(real(SYS_ppoll, (long)fds, (long)count, timeout != NULL ? (long)&copy : 0, 0, 8, 0));
}

int poll(struct pollfd *fds, nfds_t count, int milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  calls.polls++;
  return (int)real(SYS_ppoll, (long)fds, (long)count, milliseconds < 0 ? 0 : (long)&time, 0, 8, 0);
}

int select(int count, fd_set *readable, fd_set *writable, fd_set *priority, struct timeval *timeout) {
  struct timespec time = {0, 0};
  if (timeout != NULL) time = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
  return (int)waited(pselect(count, readable, writable, priority, timeout != NULL ? &time : NULL, NULL));
}

static int transfers; /* recv(2), send(2) and sendmsg(2) */

ssize_t recv(int fd, void *buffer, size_t length, int flags) {
  transfers++;
  return real(SYS_recvfrom, fd, (long)buffer, (long)length, flags, 0, 0);
}

ssize_t send(int fd, const void *buffer, size_t length, int flags) {
  transfers++;
  return real(SYS_sendto, fd, (long)buffer, (long)length, flags, 0, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  transfers++;
  return real(SYS_sendmsg, fd, (long)message, flags, 0, 0, 0);
}

int fstat(int fd, struct stat *stat) {
  calls.stats++;
  return fstatat(fd, "", stat, AT_EMPTY_PATH);
}

/* All that were made since the last look, by kind. */
static void made(int waits, int changes, int stats) {
  EQUAL(calls.waits, waits);
  EQUAL(calls.changes, changes);
  EQUAL(calls.stats, stats);
  EQUAL(calls.creations + calls.polls + calls.others, 0);
  memset(&calls, 0, sizeof calls);
}

static void forget(void) { memset(&calls, 0, sizeof calls); }

/* ---- A loop, and pairs of sockets ---- */

static int events;
static uint32_t told;

static void on_event(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)user;
  events += 1;
  told = event->flags;
}

static void reads(becket_loop *same, const becket_event *event, void *user) {
  char byte;
  on_event(same, event, user);
  if ((event->flags & BECKET_READABLE) != 0) EQUAL(read(event->fd, &byte, 1), 1);
}

static void open_loop(void) {
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(strcmp(becket_backend_name(loop), backend_name(config.backend)) == 0);
  EQUAL(becket_turn(loop, 0), 0);
  forget();
}

static void close_loop(void) { EQUAL(becket_loop_close(loop), 0); }

static void open_pair(int fds[2]) { EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0); }

static int epoll(void) { return config.backend == BECKET_BACKEND_EPOLL; }
static int uring(void) { return config.backend == BECKET_BACKEND_IO_URING; }

/* What is told the kernel at once, and what with the next wait. */
static void additions_and_removals(void) {
  int fds[2], unchecked = epoll() ? 0 : 1; /* the addition to the set says itself what the fd is */
  becket_handle handle;
  open_loop();
  open_pair(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, NULL, &handle), 0);
  made(0, epoll(), unchecked);
  EQUAL(becket_turn(loop, 0), 0);
  made(1, 0, 0);
  EQUAL(becket_remove(loop, handle), 0);
  made(uring(), epoll(), 0); /* io_uring: the poll is cancelled at once */
  EQUAL(becket_turn(loop, 0), 0);
  made(1, 0, 0);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE | BECKET_TRUSTED, on_event, NULL, &handle), 0);
  made(0, epoll(), 0);
  EQUAL(becket_io_close(loop, handle), 0);
  made(0, 0, 0); /* nothing but close(2): epoll forgets a closed file, and no poll was armed */
  EQUAL(becket_turn(loop, 0), 0);
  made(1, 0, 0);
  EQUAL(close(fds[1]), 0);
  close_loop();
}

/* However often an interest changes, it is told once, before the wait; and not at all when it is what it was. */
static void modifications(void) {
  int fds[2];
  becket_handle handle;
  open_loop();
  open_pair(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, NULL, &handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  forget();
  for (int i = 0; i < 10; i++) {
    EQUAL(becket_io_modify(loop, handle, BECKET_WRITABLE), 0);
    EQUAL(becket_io_modify(loop, handle, i % 2 == 0 ? 0 : BECKET_READABLE | BECKET_WRITABLE), 0);
    EQUAL(becket_io_modify(loop, handle, BECKET_READABLE), 0);
  }
  made(0, 0, 0);
  EQUAL(becket_turn(loop, 0), 0);
  made(1, 0, 0); /* read, write, read: the wait alone */
  EQUAL(becket_io_modify(loop, handle, 0), 0);
  EQUAL(becket_io_modify(loop, handle, BECKET_WRITABLE), 0);
  EQUAL(becket_io_modify(loop, handle, BECKET_READABLE | BECKET_WRITABLE), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(told, BECKET_WRITABLE);
  made(1, epoll(), 0);
  EQUAL(becket_turn(loop, 0), 1);
  made(1, 0, 0);
  EQUAL(becket_io_modify(loop, handle, 0), 0);
  EQUAL(becket_turn(loop, 0), 0);
  made(1, epoll(), 0);
  EQUAL(becket_turn(loop, 0), 0);
  made(1, 0, 0); /* a pause costs nothing */
  EQUAL(becket_io_modify(loop, handle, BECKET_READABLE), 0);
  EQUAL(becket_io_modify(loop, handle, 0), 0);
  EQUAL(becket_turn(loop, 0), 0);
  made(1, 0, 0);
  EQUAL(becket_remove(loop, handle), 0);
  made(0, 0, 0); /* the kernel knows nothing of who is paused */
  EQUAL(close(fds[0]) + close(fds[1]), 0);
  close_loop();
}

/* One call a turn, whatever happens in it: on io_uring changes and additions ride in the enter that waits. */
static void a_busy_turn(void) {
  int pairs[20][2];
  becket_handle handles[20];
  open_loop();
  for (int i = 0; i < 20; i++) open_pair(pairs[i]);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 20; i++) {
      EQUAL(becket_io_add(loop, pairs[i][0], BECKET_READABLE | BECKET_TRUSTED, reads, NULL, &handles[i]), 0);
      EQUAL(write(pairs[i][1], "x", 1), 1);
    }
    made(0, epoll() ? 20 : 0, 0);
    EQUAL(becket_turn(loop, 0), 20);
    made(1, 0, 0);
    EQUAL(becket_turn(loop, 0), 0);
    made(1, 0, 0);
    for (int i = 0; i < 20; i++) EQUAL(becket_io_modify(loop, handles[i], BECKET_WRITABLE | BECKET_ONESHOT), 0);
    EQUAL(becket_turn(loop, 0), 20);
    made(1, epoll() ? 20 : 0, 0);
    EQUAL(becket_turn(loop, 0), 0);
    made(1, epoll() ? 20 : 0, 0);
    for (int i = 0; i < 20; i++) EQUAL(becket_remove(loop, handles[i]), 0);
    made(0, 0, 0);
  }
  for (int i = 0; i < 20; i++) EQUAL(close(pairs[i][0]) + close(pairs[i][1]), 0);
  close_loop();
}

/* A hang-up during a pause: told by nobody, and no cost. */
static void a_paused_hang_up(void) {
  int fds[2];
  becket_handle handle;
  open_loop();
  open_pair(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, NULL, &handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_io_modify(loop, handle, 0), 0);
  EQUAL(becket_turn(loop, 0), 0);
  forget();
  EQUAL(close(fds[1]), 0);
  uint64_t start = becket_now(loop);
  EQUAL(becket_turn(loop, 20 * MILLISECOND), 0);
  CHECK(becket_now(loop) - start >= 20 * MILLISECOND);
  made(1, 0, 0);
  EQUAL(becket_io_modify(loop, handle, BECKET_READABLE), 0);
  EQUAL(becket_turn(loop, 0), 1);
  CHECK((told & BECKET_READABLE) != 0);
  made(1, epoll(), 0);
  EQUAL(becket_io_close(loop, handle), 0);
  close_loop();
}

/* A set that is full, or a system without memory: the caller learns of it, and nothing has changed. */
static void additions_that_are_refused(void) {
  const int errors[] = {ENOSPC, ENOMEM};
  int fds[2];
  becket_handle handle = 77;
  if (!epoll()) return;
  open_loop();
  open_pair(fds);
  for (size_t i = 0; i < COUNT(errors); i++) {
    control_error = errors[i];
    EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, NULL, &handle), -errors[i]);
    EQUAL(handle, 77);
    EQUAL(becket_io_find(loop, fds[0], &handle), -ENOENT);
    EQUAL(statistics_of(loop).sources, 0);
    control_error = 0;
  }
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, reads, NULL, &handle), 0);
  EQUAL(write(fds[1], "xy", 2), 2);
  EQUAL(becket_turn(loop, 0), 1);
  /* A change that is refused is an ERROR of that source, as long as it is refused; then it is made. */
  EQUAL(becket_io_modify(loop, handle, 0), 0);
  EQUAL(becket_turn(loop, 0), 0);
  control_error = ENOMEM;
  EQUAL(becket_io_modify(loop, handle, BECKET_READABLE), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(told, BECKET_READABLE | BECKET_ERROR);
  control_error = 0;
  EQUAL(write(fds[1], "z", 1), 1);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(told, BECKET_READABLE);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_io_close(loop, handle), 0);
  EQUAL(close(fds[1]), 0);
  close_loop();
}

/* A file whose entry lives on, for it was closed before its removal and is open elsewhere: while it is ready the kernel tells
 * of it in every wait. The set is built anew, once; and where there is no descriptor for that, the loop naps. */
static void an_entry_that_lives_on(void) {
  int fds[2], others[62][2], elsewhere;
  struct rlimit limit, none;
  becket_handle handle, kept;
  if (!epoll()) return;
  for (int refused = 0; refused < 2; refused++) {
    open_loop();
    /* Enough others that a new set is not worth it every time. */
    for (int i = 0; i < 62; i++) {
      open_pair(others[i]);
      EQUAL(becket_io_add(loop, others[i][0], BECKET_READABLE, on_event, NULL, &kept), 0);
    }
    open_pair(fds);
    elsewhere = dup(fds[0]);
    CHECK(elsewhere >= 0);
    EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, NULL, &handle), 0);
    EQUAL(becket_turn(loop, 0), 0);
    EQUAL(close(fds[0]), 0);
    EQUAL(becket_remove(loop, handle), 0);
    EQUAL(write(fds[1], "x", 1), 1);
    EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    if (refused) EQUAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    forget();
    events = 0;
    uint64_t turns = statistics_of(loop).turns, start = becket_now(loop);
    while (becket_now(loop) - start < 100 * MILLISECOND) EQUAL(becket_turn(loop, (int64_t)(100 * MILLISECOND)), 0);
    EQUAL(events, 0);
    turns = statistics_of(loop).turns - turns;
    if (refused) {
      CHECK(turns <= 102); /* a millisecond each */
      EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    } else {
      CHECK(turns <= 4 && calls.creations == 1 && calls.changes == 62 + 1); /* and its own descriptor */
    }
    EQUAL(becket_turn(loop, 0), 0);
    EQUAL(becket_turn(loop, 0), 0);
    /* The others are in the new set, by the same number. */
    for (int i = 0; i < 62; i += 20) EQUAL(write(others[i][1], "x", 1), 1);
    EQUAL(becket_turn(loop, 0), 4);
    for (int i = 0; i < 62; i++) EQUAL(close(others[i][1]), 0);
    close_loop();
    for (int i = 0; i < 62; i++) EQUAL(close(others[i][0]), 0);
    EQUAL(close(elsewhere) + close(fds[1]), 0);
  }
}

/* The same number gets the file back that it had: the kernel still has the old entry (EEXIST), which nobody may hear of. */
static void a_file_that_comes_back(void) {
  int fds[2], elsewhere;
  becket_handle handle;
  open_loop();
  open_pair(fds);
  elsewhere = dup(fds[0]);
  CHECK(elsewhere >= 0);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE | BECKET_WRITABLE, on_event, NULL, &handle), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(close(fds[0]), 0);
  EQUAL(becket_remove(loop, handle), 0);
  EQUAL(dup2(elsewhere, fds[0]), fds[0]);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, NULL, &handle), 0);
  EQUAL(becket_turn(loop, 0), 0); /* and not writable, as the old entry was */
  EQUAL(write(fds[1], "x", 1), 1);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(told, BECKET_READABLE);
  EQUAL(becket_io_close(loop, handle), 0);
  EQUAL(close(elsewhere) + close(fds[1]), 0);
  close_loop();
}

/* What streams receive and send on: with the wait on io_uring, for all of them together. */
static BECKET_STREAMS(streams, 20, 41, 1024);

static void echoes(becket_loop *same, const becket_event *event, void *user) {
  on_event(same, event, user);
  if ((event->flags & BECKET_STREAM_DATA) != 0) EQUAL(becket_stream_forward(loop, event->handle, event->data, (size_t)event->value), BECKET_SEND_DONE);
}

static void echo(void) {
  enum { PEERS = 20, ROUNDS = 50 };
  int fds[PEERS][2];
  config.streams = &streams;
  open_loop();
  for (int count = 1; count <= PEERS; count += PEERS - 1) {
    becket_handle handles[PEERS];
    for (int i = 0; i < count; i++) {
      open_pair(fds[i]);
      EQUAL(becket_stream_add(loop, fds[i][0], BECKET_TRUSTED, echoes, NULL, &handles[i]), 0);
    }
    EQUAL(becket_turn(loop, 0), 0);
    forget();
    transfers = 0;
    for (int round = 0; round < ROUNDS; round++) {
      char text[4];
      for (int i = 0; i < count; i++) EQUAL(write(fds[i][1], "echo", 4), 4);
      EQUAL(becket_turn(loop, -1), count);
      if (uring()) EQUAL(becket_turn(loop, 0), 0); /* else the next round's wait would carry them */
      for (int i = 0; i < count; i++) CHECK(read(fds[i][1], text, 4) == 4 && memcmp(text, "echo", 4) == 0);
      if (uring()) {
        EQUAL(transfers, 0);
        made(2, 0, 0);
      } else {
        EQUAL(transfers, 2 * count);
        made(1, 0, 0);
      }
      transfers = 0;
      EQUAL(becket_stream_buffers(loop), 41);
    }
    for (int i = 0; i < count; i++) {
      EQUAL(becket_stream_close(loop, handles[i]), 0);
      EQUAL(close(fds[i][1]), 0);
    }
    events = 0;
    while (statistics_of(loop).sources > 0) CHECK(becket_turn(loop, 0) >= 0);
    forget();
  }
  close_loop();
  config.streams = NULL;
}

/* What is gathered: so many answers of each stream in one call; and one alone on io_uring with the wait, for all streams together. */
enum { ANSWERS = 5 };
static becket_send_request requests[20][ANSWERS];
static int answers, told_sent;

static void gathers(becket_loop *same, const becket_event *event, void *user) {
  becket_send_request *request = user;
  (void)same;
  told_sent += (event->flags & BECKET_STREAM_SENT) != 0;
  if ((event->flags & BECKET_STREAM_DATA) == 0) return;
  for (int i = 0; i < answers; i++) EQUAL(becket_stream_send(loop, event->handle, &request[i], "echo", 4), BECKET_SEND_QUEUED);
}

static void gathered(void) {
  enum { PEERS = 20, ROUNDS = 50 };
  int fds[PEERS][2];
  becket_handle handles[PEERS];
  config.streams = &streams;
  open_loop();
  for (int i = 0; i < PEERS; i++) {
    open_pair(fds[i]);
    EQUAL(becket_stream_add(loop, fds[i][0], BECKET_TRUSTED, gathers, requests[i], &handles[i]), 0);
    EQUAL(becket_stream_batch(loop, handles[i], 1), 0);
  }
  EQUAL(becket_turn(loop, 0), 0);
  for (answers = 1; answers <= ANSWERS; answers += ANSWERS - 1) {
    for (int round = 0; round < ROUNDS; round++) {
      const int rides = uring() && answers == 1;
      char text[4 * ANSWERS + 1];
      forget();
      transfers = told_sent = 0;
      for (int i = 0; i < PEERS; i++) EQUAL(write(fds[i][1], "?", 1), 1);
      CHECK(becket_turn(loop, -1) >= PEERS);
      if (rides) EQUAL(becket_turn(loop, -1), PEERS); /* which does not sleep: it has requests to tell of */
      EQUAL(told_sent, PEERS * answers);
      for (int i = 0; i < PEERS; i++) EQUAL(read(fds[i][1], text, sizeof text), 4 * answers);
      EQUAL(transfers, uring() ? (rides ? 0 : PEERS) : 2 * PEERS);
      made(rides ? 2 : 1, 0, 0);
    }
  }
  /* More than the kernel sends for one request goes by itself, and so it is known what has gone. */
  const size_t most = (size_t)1 << 30;
  const char *zeros = mmap(NULL, most + 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(zeros != MAP_FAILED);
  for (int i = 0; i < 2; i++) {
    EQUAL(becket_stream_send(loop, handles[i], requests[i], zeros, most + (size_t)i), BECKET_SEND_FULL);
    transfers = 0;
    CHECK(becket_turn(loop, 0) >= 0);
    EQUAL(transfers, uring() && i == 0 ? 0 : 1);
    CHECK(becket_turn(loop, 0) >= 0); /* what rode has not all gone, and the rest waits for room */
  }
  /* Behind what waits for room nothing is tried. */
  EQUAL(becket_stream_send(loop, handles[1], &requests[1][1], "echo", 4), BECKET_SEND_FULL);
  transfers = 0;
  for (int i = 0; i < 2; i++) CHECK(becket_turn(loop, 0) >= 0);
  EQUAL(transfers, 0);
  for (int i = 0; i < PEERS; i++) EQUAL(close(fds[i][1]), 0);
  close_loop();
  EQUAL(munmap((void *)(uintptr_t)zeros, most + 1), 0);
  config.streams = NULL;
}

/* Rings in the program's memory, else mapped; and a kernel without one of the features that are needed is too old. */
static void rings(void) {
  const uint32_t needed[] = {IORING_FEAT_NODROP, IORING_FEAT_EXT_ARG, IORING_FEAT_SINGLE_MMAP};
  becket_config with_ring = config;
  if (!uring()) return;
  with_ring.ring = &ring;
  no_shared_rings = 1;
  EQUAL(becket_loop_init(&loop, &memory, &with_ring), 0);
  CHECK(strcmp(becket_backend_name(loop), "io_uring") == 0);
  CHECK(strstr(becket_backend_note(loop), "cannot use the ring memory") != NULL);
  int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
  becket_handle handle;
  CHECK(fd >= 0);
  EQUAL(becket_io_add(loop, fd, BECKET_READABLE, on_event, NULL, &handle), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_io_close(loop, handle), 0);
  close_loop();
  no_shared_rings = 0;
  for (size_t i = 0; i < COUNT(needed); i++) {
    without_feature = needed[i];
    EQUAL(becket_loop_init(&loop, &memory, &with_ring), -ENOTSUP);
    with_ring.backend = BECKET_BACKEND_AUTO;
    EQUAL(becket_loop_init(&loop, &memory, &with_ring), 0);
    CHECK(strcmp(becket_backend_name(loop), "epoll") == 0 && strstr(becket_backend_note(loop), "too old") != NULL);
    close_loop();
    with_ring.backend = BECKET_BACKEND_IO_URING;
  }
  without_feature = 0;
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } cases[] = {
      {"additions_and_removals", additions_and_removals},
      {"modifications", modifications},
      {"a_busy_turn", a_busy_turn},
      {"a_paused_hang_up", a_paused_hang_up},
      {"additions_that_are_refused", additions_that_are_refused},
      {"an_entry_that_lives_on", an_entry_that_lives_on},
      {"a_file_that_comes_back", a_file_that_comes_back},
      {"echo", echo},
      {"gathered", gathered},
      {"rings", rings},
  };
  alarm(120); /* a hang is a failure */
  for (config.backend = next_backend(0); config.backend != 0; config.backend = next_backend(config.backend)) {
    for (size_t i = 0; i < COUNT(cases); i++) {
      static char context[64];
      snprintf(context, sizeof context, "%s on %s", cases[i].name, backend_name(config.backend));
      check_context = context;
      cases[i].run();
    }
  }
  return 0;
}
