/* api: what each function of becket.h is for, seen from C, on select and on poll.
 *
 * Order is tested by comparing a trace of names. Time is virtual wherever the test is about time, so nothing here
 * depends on how fast the machine is; real time occurs only as a guard against hanging. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SOURCES 16
#define POSTS 8
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static BECKET_MEMORY(memory, SOURCES, POSTS, 0);
static uint32_t backend;

static becket_loop *open_loop(uint32_t flags) {
  becket_config config = {.size = sizeof config, .backend = backend, .flags = flags, .budget = 0};
  becket_loop *loop = NULL;
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  return loop;
}

static void close_loop(becket_loop *loop) {
  EQUAL(becket_loop_close(loop), 0);
}

static void open_pipe(int fds[2]) {
  CHECK(pipe(fds) == 0);
  CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
}

static void close_pipe(const int fds[2]) {
  CHECK(close(fds[0]) == 0 && close(fds[1]) == 0);
}

/* The trace: a handler writes its user pointer, a name, and its event's value when there is one. */
static char trace[1024];

static void note(const char *format, ...) {
  size_t used = strlen(trace);
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(trace + used, sizeof trace - used, format, arguments);
  va_end(arguments);
  CHECK(length >= 0 && (size_t)length < sizeof trace - used);
}

static void on_event(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop;
  if (event->value != 0) note(" %s=%lld", (const char *)user, (long long)event->value);
  else note(" %s", (const char *)user);
}

static void check_trace(const char *file, int line, const char *expected) {
  if (strcmp(trace, expected) != 0) {
    fprintf(stderr, "%s:%d: the trace is \"%s\", not \"%s\" (%s)\n", file, line, trace, expected, check_context);
    exit(1);
  }
  trace[0] = '\0';
}
#define TRACE(expected) check_trace(__FILE__, __LINE__, expected)

/* ------------------------------------------------------------------------------------------------ without a loop */

static void version(void) {
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", (int)BECKET_VERSION_MAJOR, (int)BECKET_VERSION_MINOR, (int)BECKET_VERSION_PATCH);
  CHECK(strcmp(becket_version(), text) == 0);
}

static void error_texts(void) {
  const int codes[] = {-EINVAL,     -EBADF,         -ESTALE,        -EEXIST,      -ENOSPC,     -ENOBUFS,  -EAGAIN,
                       -EBUSY,      -EPERM,         -ECHILD,        -ENOTSUP,     -ENOENT,     -EINTR,    -EACCES,
                       -EADDRINUSE, -EADDRNOTAVAIL, -ENETUNREACH,   -EINPROGRESS, -ENOTCONN,   -ENOTSOCK, -EPIPE,
                       -ECANCELED,  -ETIMEDOUT,     -ECONNREFUSED,  -ECONNRESET,  -EDEADLK,    -ESRCH,    -EIO,
                       -ENOSYS,     -ENOMEM,        -EMFILE,        -ENOTRECOVERABLE, -4000 /* none */};
  for (size_t i = 0; i < COUNT(codes); i++) {
    CHECK(becket_strerror(codes[i]) != NULL && strlen(becket_strerror(codes[i])) > 3);
    for (size_t j = 0; j < i; j++) CHECK(strcmp(becket_strerror(codes[i]), becket_strerror(codes[j])) != 0);
  }
  for (int code = -5000; code < 5000; code++) CHECK(becket_strerror(code) != NULL && *becket_strerror(code) != '\0');
  CHECK(becket_strerror(INT32_MIN) != NULL && becket_strerror(INT32_MAX) != NULL);
}

/* The macro and the function agree, and a block of exactly that size holds what it says. */
static void memory_sizes(void) {
  static uint64_t block[BECKET_MEMORY_SIZE(5000, 300, 0) / 8];
  const uint32_t sources[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 64, 65, 600, 1000, 4095, 4096, 4097, 5000};
  const uint32_t posts[] = {0, 1, 2, 3, 5, 8, 64, 100, 300};
  for (size_t i = 0; i < COUNT(sources); i++) {
    for (size_t j = 0; j < COUNT(posts); j++) {
      size_t size = BECKET_MEMORY_SIZE(sources[i], posts[j], 0);
      EQUAL(becket_memory_size(sources[i], posts[j], 0), size);
      CHECK(size <= sizeof block && size % 8 == 0);
      memset(block, i % 2 == 0 ? 0 : 0xFF, sizeof block); /* zeroed memory is valid, and so is any other */
      const becket_memory described = {sizeof described, block, size, sources[i], posts[j], 0};
      becket_config config = {.size = sizeof config, .backend = backend, .flags = BECKET_VIRTUAL_CLOCK, .budget = 0};
      becket_loop *loop = NULL;
      becket_handle handle = 0, first = 0;
      EQUAL(becket_loop_init(&loop, &described, &config), 0);
      EQUAL(statistics_of(loop).sources_max, sources[i]);
      EQUAL(statistics_of(loop).posts_max, posts[j]);
      for (uint32_t k = 0; k < sources[i]; k++) { /* every place works, with a deadline each */
        EQUAL(becket_timer_add(loop, k + 1, 0, NULL, NULL, &handle), 0);
        if (k == 0) first = handle;
      }
      EQUAL(becket_timer_add(loop, 1, 0, NULL, NULL, &handle), -ENOSPC);
      for (uint32_t k = 0; k < posts[j]; k++) EQUAL(becket_post(loop, first, k), 0);
      EQUAL(becket_post(loop, first, 0), -ENOBUFS);
      EQUAL(becket_loop_close(loop), 0);
      const unsigned char *end = (const unsigned char *)block + size;
      for (size_t k = 0; k < 64 && end + k < (const unsigned char *)(block + COUNT(block)); k++)
        EQUAL(end[k], i % 2 == 0 ? 0 : 0xFF); /* not a byte beyond */
    }
  }
  EQUAL(becket_memory_size(UINT32_MAX, UINT32_MAX, 0), 0);

  for (uint32_t entries = 8; entries <= 16384; entries *= 2)
    EQUAL(becket_ring_size(entries), BECKET_RING_SIZE(entries));
  const uint32_t none[] = {0, 1, 4, 7, 9, 24, 16383, 16385, 32768, UINT32_MAX};
  for (size_t i = 0; i < COUNT(none); i++) EQUAL(becket_ring_size(none[i]), 0);
}

/* ------------------------------------------------------------------------------------------------ getters */

static void getters(void) {
  becket_loop *loop = open_loop(0);
  becket_handle io = 0, timer = 0, found = 0;
  int fds[2];
  char name[] = "io", other[] = "other";
  void *user = NULL;
  open_pipe(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE | BECKET_ONESHOT, on_event, name, &io), 0);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_event, NULL, &timer), 0);
  CHECK(io != 0 && timer != 0 && io != timer);
  EQUAL(becket_kind(loop, io), BECKET_KIND_IO);
  EQUAL(becket_kind(loop, timer), BECKET_KIND_TIMER);
  EQUAL(becket_io_fd(loop, io), fds[0]);
  EQUAL(becket_io_interest(loop, io), BECKET_READABLE | BECKET_ONESHOT);
  EQUAL(becket_io_find(loop, fds[0], &found), 0);
  CHECK(found == io);
  EQUAL(becket_user(loop, io, &user), 0);
  CHECK(user == name);

  int level = becket_level(loop, io);
  CHECK(level >= 0 && level < BECKET_LEVELS);
  for (uint32_t i = 0; i < BECKET_LEVELS; i++) {
    EQUAL(becket_set_level(loop, io, i), 0);
    EQUAL(becket_level(loop, io), i);
    EQUAL(becket_level(loop, timer), level); /* of this one only */
  }
  EQUAL(becket_keepalive(loop, io), 1);
  EQUAL(becket_set_keepalive(loop, io, 0), 0);
  EQUAL(becket_keepalive(loop, io), 0);
  EQUAL(becket_set_keepalive(loop, io, 1), 0);
  EQUAL(becket_keepalive(loop, io), 1);

  EQUAL(becket_io_modify(loop, io, BECKET_WRITABLE), 0);
  EQUAL(becket_io_interest(loop, io), BECKET_WRITABLE);
  EQUAL(becket_io_change(loop, io, BECKET_READABLE | BECKET_PRIORITY, BECKET_WRITABLE), 0);
  EQUAL(becket_io_interest(loop, io), BECKET_READABLE | BECKET_PRIORITY);
  EQUAL(becket_io_modify(loop, io, 0), 0);
  EQUAL(becket_io_interest(loop, io), 0);

  EQUAL(becket_io_modify(loop, io, BECKET_READABLE), 0);
  EQUAL(becket_set_handler(loop, io, on_event, other), 0);
  EQUAL(becket_user(loop, io, &user), 0);
  CHECK(user == other);
  CHECK(write(fds[1], "x", 1) == 1);
  EQUAL(becket_turn(loop, GUARD), 1);
  TRACE(" other");

  CHECK(strcmp(becket_backend_name(loop), backend_name(backend)) == 0);
  CHECK(strcmp(becket_backend_note(loop), "") == 0); /* it was asked for */
  if (backend == BECKET_BACKEND_EPOLL) {
    CHECK(becket_fd(loop) >= 0);
  } else {
    EQUAL(becket_fd(loop), -ENOTSUP);
  }
  close_loop(loop);

  EQUAL(becket_loop_init(&loop, &memory, NULL), 0);
  CHECK(strcmp(becket_backend_note(loop), "") != 0); /* it was chosen, and says why */
  close_loop(loop);
  close_pipe(fds);
}

/* What only sources of one kind have; of every other it is -EINVAL, and nothing is written. */
static void getters_of_one_kind(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle io = 0, timer = 0, idle = 0, deferred = 0, terminated = 0, child = 0;
  uint64_t value = 1;
  int fds[2], gate[2];
  open_pipe(fds);
  CHECK(pipe(gate) == 0);
  int pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    char byte;
    close(gate[1]);
    _exit(read(gate[0], &byte, 1) == 0 ? 0 : 99);
  }
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, NULL, NULL, &io), 0);
  EQUAL(becket_timer_add(loop, 5 * SECOND, 3 * SECOND, NULL, NULL, &timer), 0);
  EQUAL(becket_idle_add(loop, NULL, NULL, &idle), 0);
  EQUAL(becket_deferred_add(loop, NULL, NULL, &deferred), 0);
  EQUAL(becket_signal_add(loop, SIGTERM, NULL, NULL, &terminated), 0);
  EQUAL(becket_child_add(loop, pid, NULL, NULL, &child), 0);

  EQUAL(becket_timer_period(loop, timer, &value), 0);
  EQUAL(value, 3 * SECOND);
  EQUAL(becket_timer_arm(loop, timer, SECOND, 0), 0);
  EQUAL(becket_timer_period(loop, timer, &value), 0);
  EQUAL(value, 0);
  EQUAL(becket_timer_deadline(loop, timer, &value), 0);
  EQUAL(value, becket_now(loop) + SECOND);
  EQUAL(becket_timer_disarm(loop, timer), 0);
  EQUAL(becket_timer_deadline(loop, timer, &value), 0);
  CHECK(value == BECKET_NEVER);

  EQUAL(becket_io_get_timeout(loop, io, &value), 0);
  CHECK(value == BECKET_NEVER);
  EQUAL(becket_io_timeout(loop, io, 4 * SECOND), 0);
  EQUAL(becket_io_get_timeout(loop, io, &value), 0);
  CHECK(value >= 4 * SECOND && value <= 4 * SECOND + 4 * SECOND / 67000000 + 1);
  EQUAL(becket_io_get_deadline(loop, io, &value), 0);
  CHECK(value == BECKET_NEVER);
  EQUAL(becket_io_deadline(loop, io, 7 * SECOND), 0);
  EQUAL(becket_io_get_deadline(loop, io, &value), 0);
  EQUAL(value, becket_now(loop) + 7 * SECOND);
  EQUAL(becket_io_deadline(loop, io, BECKET_NEVER), 0);

  EQUAL(becket_hook_enabled(loop, idle), 1);
  EQUAL(becket_hook_enable(loop, idle, 0), 0);
  EQUAL(becket_hook_enabled(loop, idle), 0);
  EQUAL(becket_hook_enabled(loop, deferred), 0);
  EQUAL(becket_defer(loop, deferred), 0);
  EQUAL(becket_hook_enabled(loop, deferred), 1);

  EQUAL(becket_signal_number(loop, terminated), SIGTERM);
  EQUAL(becket_child_pid(loop, child), pid);

  const becket_handle all[] = {io, timer, idle, deferred, terminated, child};
  for (size_t i = 0; i < COUNT(all); i++) {
    value = 1;
    if (all[i] != timer) EQUAL(becket_timer_period(loop, all[i], &value), -EINVAL);
    if (all[i] != timer) EQUAL(becket_timer_deadline(loop, all[i], &value), -EINVAL);
    if (all[i] != io) EQUAL(becket_io_get_timeout(loop, all[i], &value), -EINVAL);
    if (all[i] != io) EQUAL(becket_io_get_deadline(loop, all[i], &value), -EINVAL);
    if (all[i] != idle && all[i] != deferred) EQUAL(becket_hook_enabled(loop, all[i]), -EINVAL);
    if (all[i] != terminated) EQUAL(becket_signal_number(loop, all[i]), -EINVAL);
    if (all[i] != child) EQUAL(becket_child_pid(loop, all[i]), -EINVAL);
    if (all[i] != io && all[i] != timer) EQUAL(value, 1);
    EQUAL(becket_remove(loop, all[i]), 0);
    EQUAL(becket_timer_period(loop, all[i], &value), -ESTALE);
    EQUAL(becket_hook_enabled(loop, all[i]), -ESTALE);
    EQUAL(becket_child_pid(loop, all[i]), -ESTALE);
  }
  close_loop(loop);
  close(gate[1]);
  close(gate[0]);
  CHECK(waitpid(pid, NULL, 0) == pid); /* a child that is no source any more is not reaped */
  close_pipe(fds);
}

/* ------------------------------------------------------------------------------------------------ run and stop */

static void on_stop(becket_loop *loop, const becket_event *event, void *user) {
  on_event(loop, event, user);
  EQUAL(becket_stop(loop), 0);
}

static void on_remove(becket_loop *loop, const becket_event *event, void *user) {
  on_event(loop, event, user);
  EQUAL(becket_remove(loop, event->handle), 0);
}

static void run_and_stop(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle first = 0, second = 0;
  EQUAL(becket_run(loop), 0); /* nothing there */

  EQUAL(becket_timer_add(loop, SECOND, 0, on_stop, "stop", &first), 0);
  EQUAL(becket_run(loop), 1);
  TRACE(" stop=1");
  EQUAL(becket_remove(loop, first), 0);

  EQUAL(becket_timer_add(loop, SECOND, SECOND, on_event, "tick", &first), 0);
  EQUAL(becket_stop(loop), 0); /* before the run: kept for it */
  EQUAL(becket_run(loop), 1);
  EQUAL(becket_timer_add(loop, 2 * SECOND + 1, 0, on_stop, "stop", &second), 0); /* and used up by it */
  EQUAL(becket_run(loop), 1);
  TRACE(" tick=1 tick=1 stop=1");
  EQUAL(becket_remove(loop, second), 0);

  /* What does not keep the loop alive still works while something else does. */
  EQUAL(becket_set_keepalive(loop, first, 0), 0);
  EQUAL(becket_run(loop), 0);
  TRACE("");
  EQUAL(becket_timer_add(loop, 2 * SECOND - 1, 0, on_remove, "last", &second), 0);
  EQUAL(becket_run(loop), 0);
  EQUAL(becket_kind(loop, second), -ESTALE);
  CHECK(strstr(trace, " tick=1") != NULL && strstr(trace, " last=1") != NULL);
  trace[0] = '\0';
  close_loop(loop);
}

/* ------------------------------------------------------------------------------------------------ the pull form */

static void pull_form(void) {
  becket_loop *loop = open_loop(0);
  becket_handle io = 0, wake = 0, timer = 0;
  becket_event event;
  int fds[2];
  open_pipe(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, "io", &io), 0);
  EQUAL(becket_wake_add(loop, on_event, "wake", &wake), 0);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_event, "timer", &timer), 0);
  EQUAL(becket_poll(loop, 0), 0);
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 0);

  CHECK(write(fds[1], "x", 1) == 1);
  EQUAL(becket_post(loop, timer, -77), 0);
  EQUAL(becket_wake(loop, wake), 0);
  EQUAL(becket_wake(loop, wake), 0); /* coalesced */
  EQUAL(becket_poll(loop, GUARD), 3);
  EQUAL(statistics_of(loop).queued, 3);

  /* One kind at a time, whatever came first. */
  EQUAL(becket_next(loop, BECKET_KIND_TIMER | BECKET_KIND_SIGNAL, &event), 0);
  EQUAL(becket_next(loop, BECKET_KIND_POST, &event), 1);
  EQUAL(event.kind, BECKET_KIND_POST);
  EQUAL(event.value, -77);
  CHECK(event.handle == timer && strcmp(event.user, "timer") == 0 && event.fd == -1);
  EQUAL(becket_dispatch(loop, &event), 0);
  TRACE(" timer=-77");
  EQUAL(becket_next(loop, BECKET_KIND_POST, &event), 0);

  EQUAL(becket_next(loop, BECKET_KIND_WAKE, &event), 1);
  EQUAL(event.kind, BECKET_KIND_WAKE);
  CHECK(event.handle == wake && (event.flags & BECKET_TRIGGERED) && event.value == 0);
  EQUAL(becket_dispatch(loop, &event), 0);
  TRACE(" wake");

  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
  EQUAL(event.kind, BECKET_KIND_IO);
  EQUAL(event.flags, BECKET_READABLE);
  EQUAL(event.fd, fds[0]);
  EQUAL(event.level, becket_level(loop, io));
  CHECK(event.handle == io);
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 0);

  /* Taken out, then removed: nobody is called any more. */
  EQUAL(becket_poll(loop, GUARD), 1); /* level-triggered: the byte is still there */
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
  EQUAL(becket_remove(loop, io), 0);
  EQUAL(becket_dispatch(loop, &event), -ESTALE);
  TRACE("");

  /* The four phases one by one. */
  EQUAL(becket_timer_arm(loop, timer, 0, 0), 0);
  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  CHECK(becket_timeout(loop) >= 0 && becket_timeout(loop) <= (int64_t)SECOND);
  EQUAL(becket_wait(loop), 0);
  EQUAL(becket_collect(loop), 1);
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
  EQUAL(event.kind, BECKET_KIND_TIMER);
  EQUAL(event.value, 1);
  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  EQUAL(becket_timeout(loop), BECKET_FOREVER);
  EQUAL(becket_prepare(loop, 12345), 0); /* prepared anew, for a shorter wait */
  CHECK(becket_timeout(loop) >= 0 && becket_timeout(loop) <= 12345);
  EQUAL(becket_wait(loop), 0);
  EQUAL(becket_collect(loop), 0);
  close_loop(loop);
  close_pipe(fds);
}

/* What a foreign loop watches becomes readable for everything that must end its sleep. */
static int foreign_ready(becket_loop *loop, int timeout_ms) {
  becket_watch watches[SOURCES + 4];
  struct pollfd fds[SOURCES + 4];
  int count = becket_watches(loop, watches, COUNT(watches));
  CHECK(count >= 0 && count <= (int)COUNT(watches));
  EQUAL(becket_watches(loop, NULL, 0), count); /* the number alone */
  for (int i = 0; i < count; i++) {
    CHECK(watches[i].fd >= 0);
    fds[i].fd = watches[i].fd;
    fds[i].events = (short)((watches[i].interest & BECKET_READABLE ? POLLIN : 0) | (watches[i].interest & BECKET_WRITABLE ? POLLOUT : 0));
  }
  int ready;
  do ready = poll(fds, (nfds_t)count, timeout_ms);
  while (ready < 0 && errno == EINTR); /* the signal was sent before, but it may be delivered here */
  return ready;
}

static void foreign_loop(void) {
  becket_loop *loop = open_loop(0);
  becket_handle io = 0, paused = 0, wake = 0, user_signal = 0;
  int fds[2], silent[2];
  open_pipe(fds);
  open_pipe(silent);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, "io", &io), 0);
  EQUAL(becket_io_add(loop, silent[0], 0, on_event, "paused", &paused), 0);
  EQUAL(becket_wake_add(loop, on_event, "wake", &wake), 0);
  EQUAL(becket_signal_add(loop, SIGUSR1, on_event, "signal", &user_signal), 0);
  CHECK(write(silent[1], "x", 1) == 1); /* paused: not to be watched */

  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  EQUAL(becket_timeout(loop), BECKET_FOREVER);
  EQUAL(foreign_ready(loop, 0), 0);

  CHECK(write(fds[1], "x", 1) == 1);
  EQUAL(foreign_ready(loop, 20000), 1);
  EQUAL(becket_poll(loop, 0), 1);
  EQUAL(becket_turn(loop, 0), 1);
  char byte;
  CHECK(read(fds[0], &byte, 1) == 1);
  TRACE(" io");

  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  EQUAL(foreign_ready(loop, 0), 0);
  EQUAL(becket_wake(loop, wake), 0); /* while the foreign loop sleeps */
  EQUAL(foreign_ready(loop, 20000), 1);
  EQUAL(becket_turn(loop, 0), 1);
  TRACE(" wake");

  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  EQUAL(foreign_ready(loop, 0), 0);
  CHECK(raise(SIGUSR1) == 0);
  EQUAL(foreign_ready(loop, 20000), 1);
  EQUAL(becket_turn(loop, 0), 1);
  TRACE(" signal=1");

  /* What is wanted between turns, with no fd at all, is in the timeout. */
  EQUAL(becket_trigger(loop, io, BECKET_READABLE), 0);
  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  EQUAL(becket_timeout(loop), 0);
  EQUAL(becket_turn(loop, 0), 1);
  TRACE(" io");
  close_loop(loop);
  close_pipe(fds);
  close_pipe(silent);
}

/* ------------------------------------------------------------------------------------------------ order */

static void on_spends(becket_loop *loop, const becket_event *event, void *user) {
  on_event(loop, event, user);
  EQUAL(becket_spend(loop, (uint32_t)event->value), 0);
}

static void levels_and_budget(void) {
  becket_loop *loop = open_loop(0);
  becket_handle handles[BECKET_LEVELS];
  const char *const names[BECKET_LEVELS] = {"zero", "one", "two", "three"};
  for (uint32_t i = 0; i < BECKET_LEVELS; i++) {
    EQUAL(becket_wake_add(loop, on_event, (void *)(uintptr_t)names[i], &handles[i]), 0);
    EQUAL(becket_set_level(loop, handles[i], i), 0);
  }
  for (int i = BECKET_LEVELS - 1; i >= 0; i--) EQUAL(becket_post(loop, handles[i], 1), 0);
  EQUAL(becket_post(loop, handles[1], 2), 0);
  EQUAL(becket_post(loop, handles[1], 3), 0);
  EQUAL(becket_turn(loop, 0), 6);
  TRACE(" zero=1 one=1 one=2 one=3 two=1 three=1"); /* level by level, first in first out in each */
  close_loop(loop);

  becket_config config = {.size = sizeof config, .backend = backend, .flags = 0, .budget = 2};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  EQUAL(becket_wake_add(loop, on_event, "post", &handles[0]), 0);
  for (int i = 1; i <= 5; i++) EQUAL(becket_post(loop, handles[0], i), 0);
  EQUAL(becket_turn(loop, GUARD), 2);
  EQUAL(becket_turn(loop, GUARD), 2);
  EQUAL(becket_turn(loop, GUARD), 1);
  TRACE(" post=1 post=2 post=3 post=4 post=5");
  close_loop(loop);

  /* What a handler spends is the turn's; 1024 is the budget. */
  loop = open_loop(BECKET_VIRTUAL_CLOCK);
  EQUAL(becket_spend(loop, 1), 0); /* of no turn */
  EQUAL(becket_wake_add(loop, on_spends, (void *)(uintptr_t)"post", &handles[0]), 0);
  EQUAL(becket_timer_add(loop, SECOND, 0, on_event, "timer", &handles[1]), 0);
  EQUAL(becket_post(loop, handles[0], 0), 0);
  EQUAL(becket_post(loop, handles[0], 1023), 0);
  EQUAL(becket_post(loop, handles[0], 1022), 0);
  EQUAL(becket_post(loop, handles[0], 1), 0);
  EQUAL(becket_post(loop, handles[0], UINT32_MAX), 0);
  EQUAL(becket_turn(loop, GUARD), 2);
  EQUAL(becket_clock_advance(loop, SECOND), 0);
  EQUAL(becket_turn(loop, GUARD), 2);
  EQUAL(becket_turn(loop, GUARD), 1);
  EQUAL(becket_turn(loop, GUARD), 1);
  TRACE(" post post=1023 post=1022 post=1 post=4294967295 timer=1");
  close_loop(loop);
}

static becket_handle later;

static void on_defers(becket_loop *loop, const becket_event *event, void *user) {
  on_event(loop, event, user);
  EQUAL(becket_defer(loop, later), 0);
  EQUAL(becket_defer(loop, later), 0); /* once is enough */
}

/* In a deferred handler, after the next turn's events: not in this turn again, and not never. */
static void on_defers_itself(becket_loop *loop, const becket_event *event, void *user) {
  on_event(loop, event, user);
  EQUAL(becket_defer(loop, event->handle), 0);
}

static void deferred_again(void) {
  becket_loop *loop = open_loop(0);
  becket_handle again = 0, post = 0;
  EQUAL(becket_deferred_add(loop, on_defers_itself, "deferred", &again), 0);
  EQUAL(becket_wake_add(loop, on_event, "post", &post), 0);
  EQUAL(becket_defer(loop, again), 0);
  for (int i = 1; i <= 3; i++) {
    EQUAL(becket_post(loop, post, i), 0);
    EQUAL(becket_turn(loop, BECKET_FOREVER), 2);
  }
  TRACE(" post=1 deferred post=2 deferred post=3 deferred");
  close_loop(loop);
}

static void around_the_turn(void) {
  becket_loop *loop = open_loop(0);
  becket_handle before = 0, after = 0, idle = 0, post = 0;
  EQUAL(becket_before_add(loop, on_event, "before", &before), 0);
  EQUAL(becket_after_add(loop, on_event, "after", &after), 0);
  EQUAL(becket_idle_add(loop, on_event, "idle", &idle), 0);
  EQUAL(becket_deferred_add(loop, on_event, "deferred", &later), 0);
  EQUAL(becket_wake_add(loop, on_defers, "post", &post), 0);

  EQUAL(becket_post(loop, post, 1), 0);
  EQUAL(becket_post(loop, post, 2), 0);
  CHECK(becket_turn(loop, GUARD) > 0);
  /* The after-wait event is queued with the others of its level, the deferred one comes after all, idle not at all. */
  const char *deferred = strstr(trace, " deferred"), *second = strstr(trace, " post=2");
  CHECK(strncmp(trace, " before", 7) == 0);
  CHECK(deferred != NULL && second != NULL && deferred > second && strstr(deferred + 1, " deferred") == NULL);
  CHECK(strstr(trace, " after") != NULL && strstr(trace, " idle") == NULL);
  trace[0] = '\0';

  EQUAL(becket_hook_enable(loop, before, 0), 0);
  EQUAL(becket_hook_enable(loop, after, 0), 0);
  CHECK(becket_turn(loop, BECKET_FOREVER) > 0); /* an active idle source: the loop does not sleep */
  TRACE(" idle");
  EQUAL(becket_hook_enable(loop, idle, 0), 0);
  EQUAL(becket_turn(loop, 0), 0);
  TRACE("");
  EQUAL(becket_hook_enable(loop, before, 1), 0);
  CHECK(becket_turn(loop, 0) >= 0);
  TRACE(" before");
  close_loop(loop);
}

static void on_sleeps(becket_loop *loop, const becket_event *event, void *user) {
  uint64_t before = becket_now(loop);
  on_event(loop, event, user);
  CHECK(becket_turn(loop, (int64_t)SECOND) >= 0);
  EQUAL(becket_now(loop) - before, SECOND);
}

/* A handler that is the last thing a run goes on for may wait for as long as it likes. */
static void turn_in_the_last_handler(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle before = 0, post = 0;
  EQUAL(becket_before_add(loop, on_event, "before", &before), 0);
  EQUAL(becket_wake_add(loop, on_sleeps, "post", &post), 0);
  EQUAL(becket_set_keepalive(loop, post, 0), 0);
  EQUAL(becket_post(loop, post, 1), 0);
  EQUAL(becket_run(loop), 0);
  TRACE(" before post=1 before");
  close_loop(loop);
}

/* ------------------------------------------------------------------------------------------------ time */

static void virtual_clock(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle one = 0, two = 0, three = 0;
  uint64_t at = 0;
  EQUAL(becket_now(loop), SECOND);
  EQUAL(becket_turn(loop, (int64_t)SECOND), 0); /* sleeps a second of its own time */
  EQUAL(becket_now(loop), 2 * SECOND);

  EQUAL(becket_timer_add(loop, 3600 * SECOND, 0, on_event, "hour", &one), 0);
  EQUAL(becket_timer_deadline(loop, one, &at), 0);
  EQUAL(at, 3602 * SECOND);
  EQUAL(becket_turn(loop, BECKET_FOREVER), 1);
  EQUAL(becket_now(loop), 3602 * SECOND);
  TRACE(" hour=1");
  EQUAL(becket_timer_deadline(loop, one, &at), 0);
  EQUAL(at, BECKET_NEVER); /* a one-shot timer is disarmed, not gone */

  /* Never early: a nanosecond before, nothing. */
  EQUAL(becket_timer_arm_at(loop, one, 4000 * SECOND, 0), 0);
  EQUAL(becket_clock_advance(loop, 398 * SECOND - 1), 0);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_clock_advance(loop, 1), 0);
  EQUAL(becket_turn(loop, 0), 1);
  TRACE(" hour=1");

  /* Missed periods: one event with their number, and no drift. */
  EQUAL(becket_timer_arm(loop, one, 10, 10), 0);
  EQUAL(becket_clock_advance(loop, 35), 0);
  EQUAL(becket_turn(loop, 0), 1);
  TRACE(" hour=3");
  EQUAL(becket_timer_deadline(loop, one, &at), 0);
  EQUAL(at, 4000 * SECOND + 40);

  /* Equal deadlines come in arming order, whatever the order of adding. */
  EQUAL(becket_timer_disarm(loop, one), 0);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_event, "two", &two), 0);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_event, "three", &three), 0);
  EQUAL(becket_timer_arm_at(loop, three, 5000 * SECOND, 0), 0);
  EQUAL(becket_timer_arm_at(loop, one, 5000 * SECOND, 0), 0);
  EQUAL(becket_timer_arm_at(loop, two, 5000 * SECOND, 0), 0);
  EQUAL(becket_turn(loop, BECKET_FOREVER), 3);
  TRACE(" three=1 hour=1 two=1");

  EQUAL(becket_timer_arm(loop, one, 5, 0), 0); /* due, and disarmed before it is collected */
  EQUAL(becket_clock_advance(loop, 10), 0);
  EQUAL(becket_timer_disarm(loop, one), 0);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_timer_arm_at(loop, one, 0, 0), 0); /* long past: now */
  EQUAL(becket_turn(loop, 0), 1);
  TRACE(" hour=1");
  close_loop(loop);
}

static void on_flags(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop;
  note(" %s:%s%s%s%s", (const char *)user, event->flags & BECKET_READABLE ? "r" : "", event->flags & BECKET_WRITABLE ? "w" : "",
       event->flags & BECKET_TIMEOUT ? "timeout" : "", event->flags & BECKET_DEADLINE ? "deadline" : "");
}

/* An idle timeout that was extended is looked at when it was due at first: then a turn ends with nothing to deliver. */
static void turn_to_next_event(becket_loop *loop) {
  int count = 0;
  for (int i = 0; i < 3 && count == 0; i++) count = becket_turn(loop, BECKET_FOREVER);
  EQUAL(count, 1);
}

static void io_timeouts(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle io = 0;
  int fds[2];
  char byte;
  open_pipe(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_flags, "io", &io), 0);
  EQUAL(becket_io_timeout(loop, io, 10 * SECOND), 0);
  turn_to_next_event(loop);
  EQUAL(becket_now(loop), 11 * SECOND);
  TRACE(" io:timeout");
  turn_to_next_event(loop); /* it repeats */
  EQUAL(becket_now(loop), 21 * SECOND);
  TRACE(" io:timeout");

  EQUAL(becket_clock_advance(loop, 9 * SECOND), 0);
  CHECK(write(fds[1], "x", 1) == 1);
  EQUAL(becket_turn(loop, 0), 1); /* activity extends it */
  CHECK(read(fds[0], &byte, 1) == 1);
  TRACE(" io:r");
  turn_to_next_event(loop);
  EQUAL(becket_now(loop), 40 * SECOND);
  TRACE(" io:timeout");

  EQUAL(becket_io_timeout(loop, io, BECKET_NEVER), 0);
  EQUAL(becket_io_deadline(loop, io, 5 * SECOND), 0);
  CHECK(write(fds[1], "x", 1) == 1);
  EQUAL(becket_clock_advance(loop, 4 * SECOND), 0);
  EQUAL(becket_turn(loop, 0), 1); /* a fixed deadline is not extended */
  CHECK(read(fds[0], &byte, 1) == 1);
  TRACE(" io:r");
  turn_to_next_event(loop);
  EQUAL(becket_now(loop), 45 * SECOND);
  TRACE(" io:deadline");
  EQUAL(becket_io_deadline_at(loop, io, 50 * SECOND), 0);
  EQUAL(becket_io_deadline(loop, io, BECKET_NEVER), 0); /* taken back */
  EQUAL(becket_turn(loop, (int64_t)(20 * SECOND)), 0);
  EQUAL(becket_now(loop), 65 * SECOND);
  close_loop(loop);
  close_pipe(fds);
}

/* ------------------------------------------------------------------------------------------------ I/O */

static void io_readiness(void) {
  becket_loop *loop = open_loop(0);
  becket_handle reader = 0, writer = 0;
  int fds[2];
  char byte;
  open_pipe(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE | BECKET_TRUSTED, on_flags, "in", &reader), 0);
  EQUAL(becket_turn(loop, 0), 0);
  CHECK(write(fds[1], "x", 1) == 1);
  for (int i = 0; i < 3; i++) EQUAL(becket_turn(loop, GUARD), 1); /* level-triggered */
  TRACE(" in:r in:r in:r");
  EQUAL(becket_io_modify(loop, reader, 0), 0); /* paused */
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_io_modify(loop, reader, BECKET_READABLE | BECKET_ONESHOT), 0);
  EQUAL(becket_turn(loop, GUARD), 1);
  EQUAL(becket_turn(loop, 0), 0);
  TRACE(" in:r");
  EQUAL((uint32_t)becket_io_interest(loop, reader) & (BECKET_READABLE | BECKET_WRITABLE | BECKET_PRIORITY), 0);
  CHECK(read(fds[0], &byte, 1) == 1);

  EQUAL(becket_io_add(loop, fds[1], BECKET_WRITABLE, on_flags, "out", &writer), 0);
  EQUAL(becket_turn(loop, GUARD), 1);
  TRACE(" out:w");
  EQUAL(becket_io_change(loop, writer, 0, BECKET_WRITABLE), 0);
  EQUAL(becket_turn(loop, 0), 0);

  EQUAL(becket_io_modify(loop, reader, BECKET_READABLE), 0);
  EQUAL(becket_trigger(loop, reader, BECKET_READABLE), 0); /* by the program itself */
  becket_event event;
  EQUAL(becket_poll(loop, GUARD), 1);
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
  EQUAL(event.flags, BECKET_READABLE | BECKET_TRIGGERED);

  /* remove leaves the fd open, io_close does not, and the loop's close closes nothing of ours. */
  EQUAL(becket_remove(loop, writer), 0);
  CHECK(fcntl(fds[1], F_GETFD) >= 0);
  EQUAL(becket_io_close(loop, reader), 0);
  CHECK(fcntl(fds[0], F_GETFD) < 0 && errno == EBADF);
  EQUAL(becket_kind(loop, reader), -ESTALE);
  EQUAL(becket_io_add(loop, fds[1], BECKET_WRITABLE, on_flags, "out", &writer), 0);
  close_loop(loop);
  CHECK(fcntl(fds[1], F_GETFD) >= 0);
  close(fds[1]);
}

/* ------------------------------------------------------------------------------------------------ processes, threads */

static volatile sig_atomic_t old_handler_calls;

static void old_handler(int number) {
  (void)number;
  old_handler_calls += 1;
}

static void signals(void) {
  struct sigaction old = {.sa_handler = old_handler}, now;
  old_handler_calls = 0;
  CHECK(sigaction(SIGUSR1, &old, NULL) == 0);
  becket_loop *loop = open_loop(0);
  becket_handle handle = 0;
  becket_event event;
  EQUAL(becket_signal_add(loop, SIGUSR1, on_event, "signal", &handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  CHECK(raise(SIGUSR1) == 0 && raise(SIGUSR1) == 0 && raise(SIGUSR1) == 0);
  EQUAL(becket_poll(loop, GUARD), 1);
  EQUAL(becket_next(loop, BECKET_KIND_SIGNAL, &event), 1);
  EQUAL(event.value, 3); /* counted */
  EQUAL(event.fd, SIGUSR1);
  EQUAL(old_handler_calls, 0);
  EQUAL(becket_remove(loop, handle), 0);
  CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == old_handler); /* as it was */
  CHECK(raise(SIGUSR1) == 0);
  EQUAL(old_handler_calls, 1);
  close_loop(loop);
  CHECK(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
}

/* A signal that is nobody's source: the sleep goes on, unless the program asked to be told. */
static void interrupted(void) {
  struct sigaction action = {.sa_handler = old_handler};
  struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  becket_loop *loop = open_loop(BECKET_RETURN_EINTR);
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  EQUAL(becket_turn(loop, GUARD), -EINTR);
  close_loop(loop);

  loop = open_loop(0);
  becket_handle handle = 0;
  uint64_t due = 0;
  EQUAL(becket_timer_add(loop, 50 * MILLISECOND, 0, on_remove, "timer", &handle), 0);
  EQUAL(becket_timer_deadline(loop, handle, &due), 0);
  EQUAL(becket_turn(loop, GUARD), 1);
  TRACE(" timer=1");
  CHECK(becket_now(loop) >= due);
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  close_loop(loop);
}

static void children(void) {
  const uint32_t flags[] = {0, BECKET_NO_PIDFD};
  for (size_t i = 0; i < COUNT(flags); i++) {
    becket_loop *loop = open_loop(flags[i]);
    becket_handle handle = 0;
    becket_event event;
    int gate[2];
    CHECK(pipe(gate) == 0);
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      char byte;
      close(gate[1]);
      if (read(gate[0], &byte, 1) != 0) _exit(99);
      _exit(5);
    }
    EQUAL(becket_child_add(loop, pid, on_event, "child", &handle), 0);
    EQUAL(becket_turn(loop, 0), 0); /* it lives */
    close(gate[1]);
    close(gate[0]);
    int count = 0;
    while (count == 0) {
      count = becket_poll(loop, GUARD);
      CHECK(count >= 0);
    }
    EQUAL(becket_next(loop, BECKET_KIND_CHILD, &event), 1);
    EQUAL(event.fd, pid);
    CHECK(WIFEXITED((int)event.value) && WEXITSTATUS((int)event.value) == 5);
    CHECK(waitpid(pid, NULL, WNOHANG) == -1 && errno == ECHILD); /* reaped */
    close_loop(loop);
  }
}

static void *wake_thread(void *argument) {
  struct {
    becket_loop *loop;
    becket_handle handle;
  } *target = argument;
  for (int i = 0; i < 1000; i++) EQUAL(becket_wake(target->loop, target->handle), 0);
  return NULL;
}

static void *stop_thread(void *loop) {
  struct timespec moment = {0, 20000000};
  nanosleep(&moment, NULL);
  EQUAL(becket_stop(loop), 0);
  return NULL;
}

static void wakes_from_a_thread(void) {
  becket_loop *loop = open_loop(0);
  struct {
    becket_loop *loop;
    becket_handle handle;
  } target = {loop, 0};
  pthread_t thread;
  EQUAL(becket_wake_add(loop, on_event, "wake", &target.handle), 0);
  CHECK(pthread_create(&thread, NULL, wake_thread, &target) == 0);
  EQUAL(becket_turn(loop, GUARD), 1);
  CHECK(strncmp(trace, " wake", 5) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(becket_turn(loop, 0) <= 1); /* what came after the first turn is one more event, not a thousand */
  EQUAL(becket_turn(loop, 0), 0);
  trace[0] = '\0';

  EQUAL(becket_remove(loop, target.handle), 0);
  EQUAL(becket_wake_add(loop, on_event, "keeps the loop alive", &target.handle), 0);
  CHECK(pthread_create(&thread, NULL, stop_thread, loop) == 0);
  EQUAL(becket_run(loop), 1);
  CHECK(pthread_join(thread, NULL) == 0);
  close_loop(loop);
}

/* A lock released around the wait, and another thread that adds a timer meanwhile: that wakes the wait. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int waiting;

static void *add_thread(void *loop) {
  for (int ready = 0; !ready;) { /* until the other thread is in its wait, or about to be */
    struct timespec moment = {0, 1000000};
    nanosleep(&moment, NULL);
    CHECK(pthread_mutex_lock(&lock) == 0);
    ready = waiting;
    CHECK(pthread_mutex_unlock(&lock) == 0);
  }
  struct timespec moment = {0, 50000000};
  nanosleep(&moment, NULL);
  becket_handle handle = 0;
  CHECK(pthread_mutex_lock(&lock) == 0);
  EQUAL(becket_timer_add(loop, MILLISECOND, 0, on_remove, "added", &handle), 0);
  CHECK(pthread_mutex_unlock(&lock) == 0);
  return NULL;
}

static void lock_around_the_wait(void) {
  becket_loop *loop = open_loop(0);
  becket_event event;
  pthread_t thread;
  waiting = 0;
  alarm(60); /* without the wake this would sleep for ever */
  CHECK(signal(SIGALRM, SIG_DFL) != SIG_ERR);
  CHECK(pthread_mutex_lock(&lock) == 0);
  CHECK(pthread_create(&thread, NULL, add_thread, loop) == 0);
  while (trace[0] == '\0') {
    EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
    waiting = 1;
    CHECK(pthread_mutex_unlock(&lock) == 0);
    EQUAL(becket_wait(loop), 0);
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK(becket_collect(loop) >= 0);
    while (becket_next(loop, BECKET_KIND_ALL, &event) == 1) EQUAL(becket_dispatch(loop, &event), 0);
  }
  TRACE(" added=1");
  CHECK(pthread_mutex_unlock(&lock) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  alarm(0);
  close_loop(loop);
}

static void *run_thread(void *loop) {
  EQUAL(becket_run(loop), 0);
  EQUAL(becket_turn(loop, 0), 0);
  return NULL;
}

static void built_here_run_there(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle timer = 0;
  pthread_t thread;
  EQUAL(becket_timer_add(loop, SECOND, 0, on_remove, "timer", &timer), 0);
  CHECK(pthread_create(&thread, NULL, run_thread, loop) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  TRACE(" timer=1");
  EQUAL(becket_turn(loop, 0), -EPERM); /* it is the other thread's now, */
  close_loop(loop);                    /* but anybody may end it */
}

/* ------------------------------------------------------------------------------------------------ statistics */

static void statistics(void) {
  becket_loop *loop = open_loop(BECKET_VIRTUAL_CLOCK);
  becket_handle io = 0, timer = 0, wake = 0, deferred = 0, idle = 0, before = 0, after = 0, user_signal = 0;
  int fds[2];
  open_pipe(fds);
  becket_statistics empty = statistics_of(loop);
  EQUAL(empty.turns + empty.queued + empty.queued_max + empty.sources + empty.posts + empty.posts_refused, 0);
  EQUAL(empty.sources_max, SOURCES);
  EQUAL(empty.posts_max, POSTS);

  EQUAL(becket_io_add(loop, fds[1], BECKET_WRITABLE | BECKET_ONESHOT, on_event, "io", &io), 0);
  EQUAL(becket_timer_add(loop, 0, 0, on_event, "timer", &timer), 0);
  EQUAL(becket_wake_add(loop, on_event, "wake", &wake), 0);
  EQUAL(becket_signal_add(loop, SIGUSR2, on_event, "signal", &user_signal), 0);
  EQUAL(becket_wake(loop, wake), 0);
  EQUAL(becket_post(loop, wake, 1), 0);
  EQUAL(becket_post(loop, wake, 2), 0);
  CHECK(raise(SIGUSR2) == 0);
  EQUAL(statistics_of(loop).posts, 2);
  int dispatched = 0, turns = 0;
  while (dispatched < 6) {
    int count = becket_turn(loop, 0);
    CHECK(count >= 0 && ++turns < 1000);
    dispatched += count;
  }
  EQUAL(dispatched, 6);

  EQUAL(becket_deferred_add(loop, on_event, "deferred", &deferred), 0);
  EQUAL(becket_before_add(loop, on_event, "before", &before), 0);
  EQUAL(becket_after_add(loop, on_event, "after", &after), 0);
  EQUAL(becket_defer(loop, deferred), 0);
  EQUAL(becket_turn(loop, 0), 3);
  EQUAL(becket_hook_enable(loop, before, 0), 0);
  EQUAL(becket_hook_enable(loop, after, 0), 0);
  EQUAL(becket_idle_add(loop, on_event, "idle", &idle), 0);
  EQUAL(becket_turn(loop, 0), 1);
  turns += 2;

  becket_statistics now = statistics_of(loop);
  EQUAL(now.turns, turns);
  EQUAL(now.events_io, 1);
  EQUAL(now.events_timer, 1);
  EQUAL(now.events_wake, 1);
  EQUAL(now.events_post, 2);
  EQUAL(now.events_signal, 1);
  EQUAL(now.events_deferred, 1);
  EQUAL(now.events_before, 1);
  EQUAL(now.events_after, 1);
  EQUAL(now.events_idle, 1);
  EQUAL(now.events_child, 0);
  EQUAL(now.sources, 8);
  EQUAL(now.queued, 0);
  EQUAL(now.posts, 0);
  CHECK(now.queued_max >= 1 && now.queued_max <= SOURCES + POSTS);

  /* Queued, then removed: dropped, and counted as that. */
  EQUAL(becket_hook_enable(loop, idle, 0), 0);
  EQUAL(becket_trigger(loop, timer, 0), 0);
  EQUAL(becket_post(loop, timer, 9), 0);
  EQUAL(becket_remove(loop, timer), 0);
  EQUAL(becket_turn(loop, 0), 0);
  CHECK(statistics_of(loop).stale_dropped >= 1);
  EQUAL(statistics_of(loop).sources, 7);
  EQUAL(statistics_of(loop).posts, 0);
  trace[0] = '\0';
  close_loop(loop);
  close_pipe(fds);

  /* Time, on the real clock: what was slept is waiting, the rest working. */
  loop = open_loop(0);
  EQUAL(becket_turn(loop, 20 * (int64_t)MILLISECOND), 0);
  now = statistics_of(loop);
  CHECK(now.waiting_ns >= 20 * MILLISECOND && now.waiting_ns < (uint64_t)GUARD);
  CHECK(now.working_ns < (uint64_t)GUARD);
  close_loop(loop);
}

int main(void) {
  static const struct {
    const char *name;
    void (*test)(void);
  } tests[] = {
      {"version", version},
      {"error_texts", error_texts},
      {"memory_sizes", memory_sizes},
      {"getters", getters},
      {"getters_of_one_kind", getters_of_one_kind},
      {"run_and_stop", run_and_stop},
      {"pull_form", pull_form},
      {"foreign_loop", foreign_loop},
      {"levels_and_budget", levels_and_budget},
      {"around_the_turn", around_the_turn},
      {"deferred_again", deferred_again},
      {"turn_in_the_last_handler", turn_in_the_last_handler},
      {"virtual_clock", virtual_clock},
      {"io_timeouts", io_timeouts},
      {"io_readiness", io_readiness},
      {"signals", signals},
      {"interrupted", interrupted},
      {"children", children},
      {"wakes_from_a_thread", wakes_from_a_thread},
      {"lock_around_the_wait", lock_around_the_wait},
      {"built_here_run_there", built_here_run_there},
      {"statistics", statistics},
  };
  for (backend = next_backend(0); backend != 0; backend = next_backend(backend)) {
    for (size_t j = 0; j < COUNT(tests); j++) {
      static char context[64];
      snprintf(context, sizeof context, "%s on %s", tests[j].name, backend_name(backend));
      check_context = context;
      printf("%s\n", context);
      fflush(stdout); /* or a forked child would print it again */
      tests[j].test();
    }
  }
  return 0;
}
