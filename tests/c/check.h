/* What the C tests share: a check that says where it failed and what it saw, and a loop to check. */
#ifndef CHECK_H
#define CHECK_H

#include <becket.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *check_context = ""; /* which backend, which call: printed with a failure */

#define CHECK(condition)                                                                                    \
  do {                                                                                                      \
    if (!(condition)) {                                                                                     \
      fprintf(stderr, "%s:%d: %s failed (%s)\n", __FILE__, __LINE__, #condition, check_context);            \
      exit(1);                                                                                              \
    }                                                                                                       \
  } while (0)

/* Compares two numbers and shows both. A negative one is named, for most are error codes. */
#define EQUAL(actual, expected) check_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))

static inline const char *check_name(long long code) {
  return code < 0 && code > -4096 ? becket_strerror((int)code) : "";
}

static inline void check_equal(const char *file, int line, const char *what, long long actual, long long expected) {
  if (actual == expected) return;
  fprintf(stderr, "%s:%d: %s is %lld %s, not %lld %s (%s)\n", file, line, what, actual, check_name(actual), expected,
          check_name(expected), check_context);
  exit(1);
}

#define MILLISECOND UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define GUARD (20 * (int64_t)SECOND) /* no wait of a test is longer, and none takes that long */

static inline becket_statistics statistics_of(const becket_loop *loop) {
  becket_statistics statistics;
  memset(&statistics, 0, sizeof statistics);
  statistics.size = sizeof statistics;
  EQUAL(becket_loop_statistics(loop, &statistics), 0);
  return statistics;
}

/* What becket_backend_name() says of BECKET_BACKEND_… */
static inline const char *backend_name(uint32_t backend) {
  static const char *const names[] = {"", "select", "poll", "epoll", "io_uring"};
  return backend < sizeof names / sizeof *names ? names[backend] : "?";
}

/* Whether io_uring can be tested. Not under valgrind, in which no signal arrives and no other thread runs during
 * io_uring_enter(2); nor where the system has none or forbids it, as qemu-user and some containers do. */
static inline int have_io_uring(void) {
  static int answer = -1;
  if (answer >= 0) return answer;
  answer = 0;
  if (getenv("TEST_UNDER_VALGRIND") != NULL) return 0;
  static BECKET_MEMORY(memory, 1, 0, 0);
  const becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_IO_URING};
  becket_loop *loop;
  int rc = becket_loop_init(&loop, &memory, &config);
  if (rc == 0) EQUAL(becket_loop_close(loop), 0);
  answer = rc != -ENOSYS && rc != -EPERM;
  if (!answer) fprintf(stderr, "skipped: tests of io_uring (this system has none, or forbids it)\n");
  return answer;
}

/* The next backend to test, from BECKET_BACKEND_SELECT on; 0 after the last. */
static inline uint32_t next_backend(uint32_t backend) {
  const uint32_t last = have_io_uring() ? BECKET_BACKEND_IO_URING : BECKET_BACKEND_EPOLL;
  return backend == last ? 0 : backend + 1;
}

#endif
