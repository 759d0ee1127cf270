/* What the tests share that make calls fail: the test's own calls, which are not watched, and what may be said of a loop's calls
 * and turns while something fails. Before it: TURN_CALLS, how many calls of the library a turn may make in less than no time, and
 * TELLS_EINTR, whether that may be an answer. */
#ifndef FAULTY_H
#define FAULTY_H

#include "check.h"
#include "interpose_faults.h"
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static becket_loop *loop;
static const struct fault_reason *reason; /* NULL: nothing fails */

static int open_fds(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static void close_own(int fd) { CHECK(syscall(SYS_close, fd, 0, 0, 0, 0, 0) == 0); }

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* Whether a call went well. If not, it says why: the reason, or what it became. */
static int good(int code) {
  if (code >= 0) return 1;
  CHECK(reason != NULL);
  const char *call = reason->call;
  int expected = -reason->error;
  if (strcmp(call, "io_uring_setup") == 0 && reason->error == EINVAL) expected = -ENOTSUP; /* an old kernel */
  if (strcmp(call, "io_uring_register.probe") == 0) expected = -ENOTSUP;
  if (strcmp(call, "io_uring_register.enable") == 0) expected = -EBADFD; /* the rings are not to be used */
  if (strcmp(call, "getrlimit") == 0) expected = -ENOSPC;               /* nobody knows how many would be too many */
  EQUAL(code, expected);
  CHECK((TELLS_EINTR || code != -EINTR) && reason->error != 4095);
  if (strcmp(call, "io_uring_enter") == 0) EQUAL(code, -ENOMEM); /* with EAGAIN and EBUSY it is tried again */
  return 0;
}

/* It did not spin: it slept, or something kept it awake that a few calls deal with. */
static void check_calls(unsigned long before, uint64_t since) {
  CHECK(fault_calls(NULL) - before <= TURN_CALLS + 20 * ((now() - since) / MILLISECOND));
}

/* Turns that neither spin nor hang. */
static void turns(unsigned count, int64_t timeout) {
  while (count-- > 0) {
    uint64_t begin = now();
    unsigned long calls = fault_calls(NULL);
    good(becket_turn(loop, timeout));
    check_calls(calls, begin);
  }
}

/* Something goes on failing: it sleeps, for the most part. Where the wait itself fails it is the caller who knows what to do. */
static void rest(void) {
  uint64_t begin = now();
  unsigned long calls = fault_calls(NULL);
  do {
    if (!good(becket_turn(loop, 10 * (int64_t)MILLISECOND))) return;
  } while (now() - begin < 10 * MILLISECOND);
  check_calls(calls, begin);
}

#endif
