/* misuse: every mistake that becket can see gets its code, changes nothing and leaves the outputs as they were.
 *
 * Calls are listed in tables, so that "every function" means every function: with NULL, with a handle that names
 * nothing, on the wrong kind of source, on a closed loop, in a forked child. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SOURCES 12
#define POSTS 4
#define UNTOUCHED UINT64_C(0xA5A5A5A5A5A5A5A5)

static BECKET_MEMORY(memory, SOURCES, POSTS, 0);
static BECKET_MEMORY(second_memory, SOURCES, POSTS, 0);
static becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_POLL, .flags = 0, .budget = 0};

static void on_nothing(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)event, (void)user;
}

static becket_loop *open_loop(void) {
  becket_loop *loop = NULL;
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(loop != NULL);
  return loop;
}

static void open_pipe(int fds[2]) {
  CHECK(pipe(fds) == 0);
}

/* ------------------------------------------------------------------------------------------------ the tables */

#define HOOKS (BECKET_KIND_IDLE | BECKET_KIND_BEFORE | BECKET_KIND_AFTER)

static void *got_user;
static uint64_t got_time;
static struct sockaddr_storage got_storage;
static struct sockaddr *const got_address = (struct sockaddr *)&got_storage;
static socklen_t got_length;
static char got_text[BECKET_ADDRESS_TEXT_BYTES];

/* Every function that takes a handle, and the kinds that it is for. */
#define WITH_HANDLE(X)                                                                       \
  X(BECKET_KIND_IO, becket_trigger(loop, handle, BECKET_READABLE))                           \
  X(BECKET_KIND_ALL, becket_post(loop, handle, 1))                                           \
  X(BECKET_KIND_ALL, becket_set_level(loop, handle, 1))                                      \
  X(BECKET_KIND_ALL, becket_level(loop, handle))                                             \
  X(BECKET_KIND_ALL, becket_set_keepalive(loop, handle, 1))                                  \
  X(BECKET_KIND_ALL, becket_keepalive(loop, handle))                                         \
  X(BECKET_KIND_ALL, becket_set_handler(loop, handle, on_nothing, NULL))                     \
  X(BECKET_KIND_ALL, becket_user(loop, handle, &got_user))                                   \
  X(BECKET_KIND_ALL, becket_kind(loop, handle))                                              \
  X(BECKET_KIND_ALL, becket_wake(loop, handle))                                              \
  X(BECKET_KIND_IO, becket_io_modify(loop, handle, BECKET_READABLE))                         \
  X(BECKET_KIND_IO, becket_io_change(loop, handle, BECKET_READABLE, BECKET_WRITABLE))        \
  X(BECKET_KIND_IO, becket_io_timeout(loop, handle, SECOND))                                 \
  X(BECKET_KIND_IO, becket_io_deadline(loop, handle, SECOND))                                \
  X(BECKET_KIND_IO, becket_io_deadline_at(loop, handle, SECOND))                             \
  X(BECKET_KIND_IO, becket_io_fd(loop, handle))                                              \
  X(BECKET_KIND_IO, becket_io_interest(loop, handle))                                        \
  X(BECKET_KIND_IO, becket_io_close(loop, handle))                                           \
  X(BECKET_KIND_TIMER, becket_timer_arm(loop, handle, SECOND, 0))                            \
  X(BECKET_KIND_TIMER, becket_timer_arm_at(loop, handle, SECOND, 0))                         \
  X(BECKET_KIND_TIMER, becket_timer_disarm(loop, handle))                                    \
  X(BECKET_KIND_TIMER, becket_timer_deadline(loop, handle, &got_time))                       \
  X(BECKET_KIND_DEFERRED, becket_defer(loop, handle))                                        \
  X(HOOKS, becket_hook_enable(loop, handle, 1))                                              \
  X(BECKET_KIND_LISTENER, becket_listener_pause(loop, handle))                               \
  X(BECKET_KIND_LISTENER, becket_listener_resume(loop, handle))                              \
  X(BECKET_KIND_LISTENER, becket_listener_paused(loop, handle))                              \
  X(BECKET_KIND_LISTENER, becket_listener_fd(loop, handle))                                  \
  X(BECKET_KIND_LISTENER, becket_listener_address(loop, handle, got_address, &got_length))   \
  X(BECKET_KIND_LISTENER, becket_listener_text(loop, handle, got_text, sizeof got_text))     \
  X(BECKET_KIND_LISTENER, becket_listener_close(loop, handle))                               \
  X(BECKET_KIND_ALL, becket_remove(loop, handle))

/* Every function that makes a source. */
static int add_fd = -1; /* what becket_io_add gets here */
static int add_pid = -1;
#define ADDS(X)                                                                              \
  X(becket_io_add(loop, add_fd, BECKET_READABLE, on_nothing, NULL, handle))                  \
  X(becket_timer_add(loop, SECOND, 0, on_nothing, NULL, handle))                             \
  X(becket_signal_add(loop, SIGUSR2, on_nothing, NULL, handle))                              \
  X(becket_child_add(loop, add_pid, on_nothing, NULL, handle))                               \
  X(becket_wake_add(loop, on_nothing, NULL, handle))                                         \
  X(becket_deferred_add(loop, on_nothing, NULL, handle))                                     \
  X(becket_idle_add(loop, on_nothing, NULL, handle))                                         \
  X(becket_before_add(loop, on_nothing, NULL, handle))                                       \
  X(becket_after_add(loop, on_nothing, NULL, handle))                                        \
  X(becket_listen(loop, "127.0.0.1:0", NULL, on_nothing, NULL, handle))

/* Every function that takes the loop alone, or the loop and values. becket_loop_close is last. */
static becket_event got_event;
static becket_watch got_watches[4];
static becket_statistics got_statistics = {.size = sizeof(becket_statistics)};
static becket_handle got_handle;
#define WITH_LOOP(X)                                                                         \
  X(becket_run(loop))                                                                        \
  X(becket_stop(loop))                                                                       \
  X(becket_turn(loop, 0))                                                                    \
  X(becket_poll(loop, 0))                                                                    \
  X(becket_next(loop, BECKET_KIND_ALL, &got_event))                                          \
  X(becket_dispatch(loop, &got_event))                                                       \
  X(becket_prepare(loop, 0))                                                                 \
  X(becket_timeout(loop))                                                                    \
  X(becket_wait(loop))                                                                       \
  X(becket_collect(loop))                                                                    \
  X(becket_fd(loop))                                                                         \
  X(becket_watches(loop, got_watches, 4))                                                    \
  X(becket_spend(loop, 1))                                                                   \
  X(becket_clock_advance(loop, 1))                                                           \
  X(becket_loop_statistics(loop, &got_statistics))                                           \
  X(becket_io_find(loop, 0, &got_handle))                                                    \
  X(becket_peer_address(loop, -1, got_address, &got_length))                                 \
  X(becket_peer_text(loop, -1, got_text, sizeof got_text))                                   \
  X(becket_loop_close(loop))

struct call {
  const char *name;
  uint32_t kinds;
};
#define NAME_OF_CALL(kinds, expression) {#expression, kinds},
#define NAME_OF_ADD(expression) {#expression, 0},
static const struct call handle_calls[] = {WITH_HANDLE(NAME_OF_CALL)};
static const struct call add_calls[] = {ADDS(NAME_OF_ADD)};
static const struct call loop_calls[] = {WITH_LOOP(NAME_OF_ADD)};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define RUN_CALL(kinds, expression) if (which == number++) { return expression; }
#define RUN_ADD(expression) if (which == number++) { return expression; }

static long long handle_call(size_t which, becket_loop *loop, becket_handle handle) {
  size_t number = 0;
  check_context = handle_calls[which].name;
  WITH_HANDLE(RUN_CALL)
  abort();
}

static long long add_call(size_t which, becket_loop *loop, becket_handle *handle) {
  size_t number = 0;
  check_context = add_calls[which].name;
  ADDS(RUN_ADD)
  abort();
}

static long long loop_call(size_t which, becket_loop *loop) {
  size_t number = 0;
  check_context = loop_calls[which].name;
  WITH_LOOP(RUN_ADD)
  abort();
}

/* The outputs that the tables write to: marked before, looked at after. */
static void mark_outputs(void) {
  got_user = &got_user;
  got_time = got_handle = UNTOUCHED;
  memset(&got_storage, 0x5A, sizeof got_storage);
  memset(got_text, 0x5A, sizeof got_text);
  got_length = sizeof got_storage;
  memset(&got_event, 0x5A, sizeof got_event);
  memset(got_watches, 0x5A, sizeof got_watches);
  memset(&got_statistics, 0x5A, sizeof got_statistics);
  got_statistics.size = sizeof got_statistics;
}

static int all_marks(const void *memory_of, size_t size) {
  const unsigned char *bytes = memory_of;
  for (size_t i = 0; i < size; i++)
    if (bytes[i] != 0x5A) return 0;
  return 1;
}

static void check_outputs(void) {
  CHECK(got_user == &got_user);
  CHECK(got_time == UNTOUCHED && got_handle == UNTOUCHED);
  CHECK(all_marks(&got_storage, sizeof got_storage) && all_marks(got_text, sizeof got_text));
  EQUAL(got_length, sizeof got_storage);
  CHECK(all_marks(&got_event, sizeof got_event));
  CHECK(all_marks(got_watches, sizeof got_watches));
  CHECK(got_statistics.turns == UINT64_C(0x5A5A5A5A5A5A5A5A) && got_statistics.posts_max == 0x5A5A5A5A);
  check_context = "";
}

/* All functions refuse with one code, whatever else they get. Only a forked child may close what is its parent's. */
static void all_refuse(becket_loop *loop, becket_handle handle, int code) {
  size_t closing = code == -ECHILD ? 1 : 0;
  for (size_t i = 0; i < COUNT(handle_calls); i++) {
    mark_outputs();
    EQUAL(handle_call(i, loop, handle), code);
    check_outputs();
  }
  for (size_t i = 0; i < COUNT(add_calls); i++) {
    becket_handle added = UNTOUCHED;
    EQUAL(add_call(i, loop, &added), code);
    CHECK(added == UNTOUCHED);
  }
  for (size_t i = 0; i < COUNT(loop_calls) - closing; i++) {
    mark_outputs();
    EQUAL(loop_call(i, loop), code);
    check_outputs();
  }
}

/* ------------------------------------------------------------------------------------------------ the loop's memory */

static void null_pointers(void) {
  all_refuse(NULL, 1, -EINVAL);

  becket_loop *loop = open_loop();
  becket_handle timer = 0, io = 0;
  int fds[2];
  open_pipe(fds);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_nothing, NULL, &timer), 0);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_nothing, NULL, &io), 0);
  add_fd = fds[1];
  for (size_t i = 0; i < COUNT(add_calls); i++) EQUAL(add_call(i, loop, NULL), -EINVAL);
  check_context = "";
  EQUAL(becket_user(loop, timer, NULL), -EINVAL);
  EQUAL(becket_timer_deadline(loop, timer, NULL), -EINVAL);
  EQUAL(becket_io_find(loop, fds[0], NULL), -EINVAL);
  EQUAL(becket_next(loop, BECKET_KIND_ALL, NULL), -EINVAL);
  EQUAL(becket_dispatch(loop, NULL), -EINVAL);
  EQUAL(becket_loop_statistics(loop, NULL), -EINVAL);
  EQUAL(becket_watches(loop, NULL, 1), -EINVAL);
  EQUAL(statistics_of(loop).sources, 2);

  /* What answers no code answers something that cannot be mistaken. */
  EQUAL(becket_now(NULL), 0);
  CHECK(becket_backend_name(NULL) == NULL && becket_backend_note(NULL) == NULL);

  EQUAL(becket_loop_close(loop), 0);
  close(fds[0]);
  close(fds[1]);
}

static void bad_memory(void) {
  static uint64_t block[BECKET_MEMORY_SIZE(4, 2, 0) / 8 + 1];
  const becket_memory good = {sizeof good, block, BECKET_MEMORY_SIZE(4, 2, 0), 4, 2, 0};
  becket_loop *const mark = (becket_loop *)(void *)&config;
  becket_loop *loop = mark;
  becket_memory bad;
  memset(block, 0, sizeof block);

  EQUAL(becket_loop_init(NULL, &good, &config), -EINVAL);
  EQUAL(becket_loop_init(&loop, NULL, &config), -EINVAL);
#define REFUSED(change, code)                              \
  do {                                                     \
    bad = good;                                            \
    change;                                                \
    check_context = #change;                               \
    EQUAL(becket_loop_init(&loop, &bad, &config), code);   \
    CHECK(loop == mark);                                   \
    check_context = "";                                    \
  } while (0)
  REFUSED(bad.size = 0, -EINVAL);
  REFUSED(bad.size = sizeof good - 1, -EINVAL);
  REFUSED(bad.size = sizeof good + 8, -EINVAL);
  REFUSED(bad.block = NULL, -EINVAL);
  REFUSED(bad.block = (char *)block + 1, -EINVAL);
  REFUSED(bad.block = (char *)block + 4, -EINVAL);
  REFUSED(bad.block_size -= 1, -ENOBUFS);
  REFUSED(bad.block_size = 0, -ENOBUFS);
  REFUSED(bad.sources += 1, -ENOBUFS);
  REFUSED(bad.posts += 1, -ENOBUFS);
  REFUSED(bad.sources = UINT32_MAX, -EINVAL);
  REFUSED(bad.posts = UINT32_MAX, -EINVAL);
  REFUSED(bad.operations = 1, -ENOBUFS);
#undef REFUSED
  for (size_t i = 0; i < COUNT(block); i++) EQUAL(block[i], 0); /* nothing was written */

  EQUAL(becket_loop_init(&loop, &good, &config), 0);
  CHECK(loop != mark);
  becket_loop *again = mark;
  EQUAL(becket_loop_init(&again, &good, &config), -EBUSY); /* the one in there lives */
  CHECK(again == mark);
  EQUAL(becket_turn(loop, 0), 0); /* and is unharmed */
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(becket_loop_init(&again, &good, &config), 0); /* free again */
  EQUAL(becket_loop_close(again), 0);
}

static void bad_config(void) {
  becket_loop *const mark = (becket_loop *)(void *)&config;
  becket_loop *loop = mark;
  becket_config bad;
#define REFUSED(change, code)                              \
  do {                                                     \
    bad = config;                                          \
    change;                                                \
    check_context = #change;                               \
    EQUAL(becket_loop_init(&loop, &memory, &bad), code);   \
    CHECK(loop == mark);                                   \
    check_context = "";                                    \
  } while (0)
  REFUSED(bad.size = 0, -EINVAL);
  REFUSED(bad.size = sizeof bad - 1, -EINVAL);
  REFUSED(bad.size = sizeof bad + 8, -EINVAL);
  REFUSED(bad.backend = BECKET_BACKEND_IO_URING + 1, -EINVAL);
  REFUSED(bad.backend = UINT32_MAX, -EINVAL);
  REFUSED(bad.flags = 8, -EINVAL);
  REFUSED(bad.flags = UINT32_C(1) << 31, -EINVAL);
#undef REFUSED
  EQUAL(becket_loop_init(&loop, &memory, NULL), 0); /* no configuration is the default one */
  EQUAL(becket_loop_close(loop), 0);
}

static void use_after_close(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = 0;
  EQUAL(becket_wake_add(loop, on_nothing, NULL, &handle), 0);
  EQUAL(becket_loop_close(loop), 0);
  all_refuse(loop, handle, -EBADF);
  EQUAL(becket_now(loop), 0);
  CHECK(becket_backend_name(loop) == NULL && becket_backend_note(loop) == NULL);
}

/* What is no loop is not taken for one: zeros, a copy of a live loop, an odd address. */
static void no_loop_there(void) {
  static uint64_t zeros[BECKET_MEMORY_SIZE(1, 0, 0) / 8], copy[sizeof memory_block / 8];
  becket_loop *loop = open_loop();
  becket_handle handle = 0;
  EQUAL(becket_wake_add(loop, on_nothing, NULL, &handle), 0);
  memcpy(copy, memory_block, sizeof copy);
  all_refuse((becket_loop *)(void *)zeros, handle, -EBADF);
  all_refuse((becket_loop *)(void *)copy, handle, -EBADF);
  all_refuse((becket_loop *)(void *)((char *)memory_block + 1), handle, -EINVAL);
  EQUAL(becket_kind(loop, handle), BECKET_KIND_WAKE);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ handles */

/* One source of every kind. */
static size_t one_of_each(becket_loop *loop, int fd, int pid, becket_handle *handles) {
  add_fd = fd;
  add_pid = pid;
  for (size_t i = 0; i < COUNT(add_calls); i++) {
    EQUAL(add_call(i, loop, &handles[i]), 0);
    CHECK(handles[i] != 0);
  }
  check_context = "";
  return COUNT(add_calls);
}

static int start_child(void) {
  int pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    pause();
    _exit(0);
  }
  return pid;
}

static void end_child(int pid) {
  CHECK(kill(pid, SIGKILL) == 0);
  CHECK(waitpid(pid, NULL, 0) == pid);
}

static void wrong_kinds(void) {
  becket_loop *loop = open_loop();
  becket_handle handles[COUNT(add_calls)];
  int fds[2], pid = start_child();
  open_pipe(fds);
  size_t count = one_of_each(loop, fds[0], pid, handles);
  for (size_t i = 0; i < count; i++) {
    uint32_t kind = (uint32_t)becket_kind(loop, handles[i]);
    CHECK(kind != 0 && (kind & (kind - 1)) == 0 && (kind & BECKET_KIND_ALL) == kind);
    for (size_t j = 0; j < COUNT(handle_calls); j++) {
      if (handle_calls[j].kinds & kind) continue;
      mark_outputs();
      EQUAL(handle_call(j, loop, handles[i]), -EINVAL);
      check_outputs();
    }
  }
  EQUAL(statistics_of(loop).sources, count);
  EQUAL(becket_loop_close(loop), 0);
  close(fds[0]);
  close(fds[1]);
  end_child(pid);
}

static void stale(becket_loop *loop, becket_handle handle) {
  uint32_t sources = statistics_of(loop).sources;
  for (size_t i = 0; i < COUNT(handle_calls); i++) {
    mark_outputs();
    EQUAL(handle_call(i, loop, handle), -ESTALE);
    check_outputs();
  }
  becket_event event = {.handle = handle, .fd = -1, .kind = BECKET_KIND_TIMER};
  EQUAL(becket_dispatch(loop, &event), -ESTALE);
  EQUAL(statistics_of(loop).sources, sources);
}

static void stale_handles(void) {
  becket_loop *loop = open_loop();
  becket_handle first = 0, second = 0, all[SOURCES];
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_nothing, NULL, &first), 0);
  stale(loop, 0);
  stale(loop, UINT64_MAX);
  stale(loop, UINT64_MAX >> 1);
  stale(loop, UNTOUCHED);
  for (int bit = 0; bit < 64; bit++) stale(loop, first ^ (UINT64_C(1) << bit));
  EQUAL(becket_kind(loop, first), BECKET_KIND_TIMER); /* it took no harm */

  EQUAL(becket_remove(loop, first), 0);
  stale(loop, first);

  /* After reuse of every slot: none of the new sources answers to the old name. */
  for (int i = 0; i < SOURCES; i++) EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_nothing, NULL, &all[i]), 0);
  stale(loop, first);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_nothing, NULL, &second), -ENOSPC);
  for (int i = 0; i < SOURCES; i++) {
    CHECK(all[i] != first);
    EQUAL(becket_remove(loop, all[i]), 0);
    stale(loop, all[i]);
  }
  for (int i = 0; i < 100000; i++) { /* a generation does not come back soon */
    EQUAL(becket_wake_add(loop, on_nothing, NULL, &second), 0);
    CHECK(second != first && second != 0);
    EQUAL(becket_remove(loop, second), 0);
  }
  stale(loop, first);

  /* Nor is there a source by the name that the next one in a free slot gets: and that has no wake then. */
  EQUAL(becket_wake_add(loop, on_nothing, NULL, &first), 0);
  becket_handle next = first + (first - second);
  EQUAL(becket_remove(loop, first), 0);
  stale(loop, next);
  EQUAL(becket_wake_add(loop, on_nothing, NULL, &second), 0);
  CHECK(second == next);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_wake(loop, next), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ arguments */

static void bad_arguments(void) {
  becket_loop *loop = open_loop();
  becket_handle io = 0, timer = 0, out = UNTOUCHED;
  int fds[2];
  open_pipe(fds);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_nothing, NULL, &io), 0);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, on_nothing, NULL, &timer), 0);

  /* Timeouts: only -1 is forever. */
  EQUAL(becket_turn(loop, -2), -EINVAL);
  EQUAL(becket_turn(loop, INT64_MIN), -EINVAL);
  EQUAL(becket_poll(loop, -2), -EINVAL);
  EQUAL(becket_prepare(loop, -2), -EINVAL);

  /* Levels. */
  EQUAL(becket_set_level(loop, timer, BECKET_LEVELS), -EINVAL);
  EQUAL(becket_set_level(loop, timer, UINT32_MAX), -EINVAL);
  EQUAL(becket_level(loop, timer), becket_level(loop, io));

  /* Interest: readiness that is only ever reported cannot be asked for. */
  const uint32_t reported[] = {BECKET_ERROR, BECKET_HANGUP, BECKET_PEER_CLOSED, BECKET_TIMEOUT, BECKET_DEADLINE,
                               BECKET_TRIGGERED, UINT32_C(1) << 20, UINT32_C(1) << 31};
  for (size_t i = 0; i < COUNT(reported); i++) {
    EQUAL(becket_io_add(loop, fds[1], BECKET_WRITABLE | reported[i], on_nothing, NULL, &out), -EINVAL);
    EQUAL(becket_io_modify(loop, io, BECKET_READABLE | reported[i]), -EINVAL);
    EQUAL(becket_io_change(loop, io, reported[i], 0), -EINVAL);
    EQUAL(becket_io_change(loop, io, 0, reported[i]), -EINVAL);
  }
  EQUAL(becket_io_modify(loop, io, BECKET_READABLE | BECKET_TRUSTED), -EINVAL); /* add only */
  EQUAL(becket_io_interest(loop, io), BECKET_READABLE);
  EQUAL(becket_trigger(loop, io, UINT32_C(1) << 20), -EINVAL);

  /* Kinds. */
  becket_event event;
  memset(&event, 0x5A, sizeof event);
  EQUAL(becket_next(loop, BECKET_KIND_ALL + 1, &event), -EINVAL);
  EQUAL(becket_next(loop, 0, &event), -EINVAL);
  CHECK(all_marks(&event, sizeof event));

  /* Not on this backend, not on this clock. */
  if (config.backend != BECKET_BACKEND_EPOLL) EQUAL(becket_fd(loop), -ENOTSUP);
  EQUAL(becket_clock_advance(loop, SECOND), -ENOTSUP);

  becket_statistics statistics = {.size = 0, .turns = UNTOUCHED};
  EQUAL(becket_loop_statistics(loop, &statistics), -EINVAL);
  statistics.size = sizeof statistics + 8;
  EQUAL(becket_loop_statistics(loop, &statistics), -EINVAL);
  EQUAL(statistics.turns, UNTOUCHED);

  EQUAL(out, UNTOUCHED);
  EQUAL(statistics_of(loop).sources, 2);
  EQUAL(becket_loop_close(loop), 0);
  close(fds[0]);
  close(fds[1]);
}

/* ------------------------------------------------------------------------------------------------ descriptors */

static void bad_fds(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = UNTOUCHED, found = UNTOUCHED;
  int fds[2];
  open_pipe(fds);
  close(fds[1]);
  EQUAL(becket_io_add(loop, -1, BECKET_READABLE, on_nothing, NULL, &handle), -EBADF);
  EQUAL(becket_io_add(loop, INT_MIN, BECKET_READABLE, on_nothing, NULL, &handle), -EBADF);
  EQUAL(becket_io_add(loop, fds[1], BECKET_READABLE, on_nothing, NULL, &handle), -EBADF);

  /* What the kernel cannot poll: files and directories are for operations. */
  char name[] = "/tmp/becket-misuse-XXXXXX";
  int file = mkstemp(name), directory = open("/", O_RDONLY | O_DIRECTORY);
  CHECK(file >= 0 && directory >= 0 && unlink(name) == 0);
  EQUAL(becket_io_add(loop, file, BECKET_READABLE, on_nothing, NULL, &handle), -EPERM);
  EQUAL(becket_io_add(loop, file, BECKET_WRITABLE, on_nothing, NULL, &handle), -EPERM);
  EQUAL(becket_io_add(loop, directory, BECKET_READABLE, on_nothing, NULL, &handle), -EPERM);
  close(file);
  close(directory);
  EQUAL(handle, UNTOUCHED);

  EQUAL(becket_io_find(loop, fds[0], &found), -ENOENT);
  EQUAL(becket_io_find(loop, -1, &found), -ENOENT);
  EQUAL(becket_io_find(loop, INT_MAX, &found), -ENOENT);
  EQUAL(found, UNTOUCHED);
  EQUAL(statistics_of(loop).sources, 0);

  /* One source an fd. */
  becket_handle first = 0;
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_nothing, NULL, &first), 0);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_nothing, NULL, &handle), -EEXIST);
  EQUAL(becket_io_add(loop, fds[0], 0, on_nothing, NULL, &handle), -EEXIST);
  EQUAL(handle, UNTOUCHED);
  EQUAL(statistics_of(loop).sources, 1);

  /* Closed before it is removed: the removal is legal, and io_close tells of the second close. */
  int other = dup(fds[0]), third = dup(fds[0]);
  CHECK(other >= 0 && third >= 0);
  EQUAL(becket_io_add(loop, other, BECKET_READABLE, on_nothing, NULL, &found), 0);
  EQUAL(becket_io_add(loop, third, BECKET_READABLE, on_nothing, NULL, &handle), 0);
  close(other);
  close(third);
  EQUAL(becket_remove(loop, found), 0);
  EQUAL(becket_io_close(loop, handle), -EBADF);
  EQUAL(becket_kind(loop, handle), -ESTALE); /* gone all the same */
  EQUAL(statistics_of(loop).sources, 1);
  EQUAL(becket_remove(loop, first), 0);

  /* /dev/null cannot be polled for, but never blocks: always ready. */
  int null = open("/dev/null", O_RDWR);
  CHECK(null >= 0);
  EQUAL(becket_io_add(loop, null, BECKET_READABLE | BECKET_WRITABLE, on_nothing, NULL, &first), 0);
  for (int i = 0; i < 3; i++) {
    becket_event event;
    EQUAL(becket_poll(loop, GUARD), 1);
    EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
    EQUAL(event.handle, first);
    EQUAL(event.flags & (BECKET_READABLE | BECKET_WRITABLE), BECKET_READABLE | BECKET_WRITABLE);
  }
  EQUAL(becket_io_close(loop, first), 0);
  CHECK(fcntl(null, F_GETFD) < 0 && errno == EBADF);
  EQUAL(becket_loop_close(loop), 0);
  close(fds[0]);
}

static void fds_above_fd_setsize(void) {
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  if (limit.rlim_cur <= FD_SETSIZE + 1) {
    if (limit.rlim_max <= FD_SETSIZE + 1) {
      fprintf(stderr, "skipped: fds above FD_SETSIZE (install a higher hard limit of open files: ulimit -Hn)\n");
      return;
    }
    limit.rlim_cur = FD_SETSIZE + 2;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  }
  becket_loop *loop = open_loop();
  becket_handle handle = UNTOUCHED;
  int fds[2];
  open_pipe(fds);
  int high = dup2(fds[0], FD_SETSIZE);
  CHECK(high == FD_SETSIZE);
  CHECK(write(fds[1], "x", 1) == 1);
  if (config.backend == BECKET_BACKEND_SELECT) {
    EQUAL(becket_io_add(loop, high, BECKET_READABLE, on_nothing, NULL, &handle), -EINVAL);
    EQUAL(becket_io_add(loop, high, BECKET_READABLE | BECKET_TRUSTED, on_nothing, NULL, &handle), -EINVAL);
    EQUAL(handle, UNTOUCHED);
    EQUAL(statistics_of(loop).sources, 0);
    EQUAL(becket_turn(loop, 0), 0);
    CHECK(dup2(fds[0], FD_SETSIZE - 1) == FD_SETSIZE - 1); /* the last one that fits */
    EQUAL(becket_io_add(loop, FD_SETSIZE - 1, BECKET_READABLE, on_nothing, NULL, &handle), 0);
    EQUAL(becket_turn(loop, GUARD), 1);
    close(FD_SETSIZE - 1);
  } else {
    EQUAL(becket_io_add(loop, high, BECKET_READABLE, on_nothing, NULL, &handle), 0);
    EQUAL(becket_turn(loop, GUARD), 1);
  }
  EQUAL(becket_loop_close(loop), 0);
  close(high);
  close(fds[0]);
  close(fds[1]);
}

/* ------------------------------------------------------------------------------------------------ being full */

static void full_table(void) {
  becket_loop *loop = open_loop();
  becket_handle handles[SOURCES], handle = UNTOUCHED;
  int fds[2], pid = start_child();
  open_pipe(fds);
  for (int i = 0; i < SOURCES; i++) EQUAL(becket_deferred_add(loop, on_nothing, NULL, &handles[i]), 0);
  add_fd = fds[0];
  add_pid = pid;
  for (size_t i = 0; i < COUNT(add_calls); i++) {
    EQUAL(add_call(i, loop, &handle), -ENOSPC);
    CHECK(handle == UNTOUCHED);
    EQUAL(statistics_of(loop).sources, SOURCES);
  }
  check_context = "";
  EQUAL(becket_remove(loop, handles[SOURCES / 2]), 0); /* one place is enough */
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_nothing, NULL, &handle), 0);
  EQUAL(becket_loop_close(loop), 0);
  close(fds[0]);
  close(fds[1]);
  end_child(pid);
}

static void full_posts(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = 0;
  becket_event event;
  EQUAL(becket_wake_add(loop, on_nothing, NULL, &handle), 0);
  for (int64_t value = 1; value <= POSTS; value++) EQUAL(becket_post(loop, handle, value), 0);
  EQUAL(becket_post(loop, handle, 5), -ENOBUFS);
  EQUAL(becket_post(loop, handle, 6), -ENOBUFS);
  EQUAL(statistics_of(loop).posts, POSTS);
  EQUAL(statistics_of(loop).posts_refused, 2);
  /* What was taken arrives in order; then there is room for the value that the poster kept. */
  EQUAL(becket_poll(loop, 0), POSTS);
  for (int64_t value = 1; value <= POSTS; value++) {
    EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
    EQUAL(event.kind, BECKET_KIND_POST);
    EQUAL(event.value, value);
  }
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 0);
  EQUAL(becket_post(loop, handle, 5), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ states */

static void on_nested(becket_loop *loop, const becket_event *event, void *user) {
  int *calls = user;
  EQUAL(becket_run(loop), -EBUSY);
  EQUAL(becket_loop_close(loop), -EBUSY);
  EQUAL(becket_kind(loop, event->handle), BECKET_KIND_TIMER); /* neither did anything */
  *calls += 1;
  EQUAL(becket_remove(loop, event->handle), 0);
}

static void on_close_in_turn(becket_loop *loop, const becket_event *event, void *user) {
  int *calls = user;
  EQUAL(becket_loop_close(loop), -EBUSY);
  EQUAL(becket_remove(loop, event->handle), 0);
  *calls += 1;
}

static void nested(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = 0;
  int calls = 0;
  EQUAL(becket_timer_add(loop, 0, 0, on_nested, &calls, &handle), 0);
  EQUAL(becket_run(loop), 0);
  EQUAL(calls, 1);
  EQUAL(becket_timer_add(loop, 0, 0, on_close_in_turn, &calls, &handle), 0);
  while (calls == 1) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(becket_run(loop), 0); /* the guard against nesting is off again */
  EQUAL(becket_loop_close(loop), 0);
}

static void *from_another_thread(void *loop) {
  EQUAL(becket_wait(loop), -EPERM);
  EQUAL(becket_turn(loop, 0), -EPERM);
  EQUAL(becket_poll(loop, 0), -EPERM);
  EQUAL(becket_run(loop), -EPERM);
  return NULL;
}

static void wrong_thread(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = 0;
  pthread_t thread;
  EQUAL(becket_turn(loop, 0), 0); /* from its first wait on, the loop belongs to this thread */
  EQUAL(becket_timer_add(loop, 0, 0, on_nothing, NULL, &handle), 0);
  CHECK(pthread_create(&thread, NULL, from_another_thread, loop) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  EQUAL(statistics_of(loop).events_timer, 0);
  EQUAL(becket_turn(loop, GUARD), 1); /* it still does its work for its owner */
  EQUAL(becket_loop_close(loop), 0);
}

static void on_stop(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  EQUAL(becket_stop(loop), 0);
}

static void *run_until_stopped(void *loop) {
  EQUAL(becket_run(loop), 1);
  return NULL;
}

/* A thread that mistakes a sleeping loop for its own is refused, and the owner still wakes up. */
static void wrong_thread_while_the_owner_sleeps(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = 0;
  pthread_t owner;
  EQUAL(becket_wake_add(loop, on_stop, NULL, &handle), 0);
  CHECK(pthread_create(&owner, NULL, run_until_stopped, loop) == 0);
  struct timespec moment = {0, 100000000}; /* by then it sleeps; if not, the test only checks less */
  nanosleep(&moment, NULL);
  EQUAL(becket_turn(loop, 0), -EPERM);
  EQUAL(becket_poll(loop, 0), -EPERM);
  alarm(20); /* a wake that is lost would be waited for without end */
  EQUAL(becket_wake(loop, handle), 0);
  CHECK(pthread_join(owner, NULL) == 0);
  alarm(0);
  EQUAL(becket_loop_close(loop), 0);
}

static void signals(void) {
  becket_loop *loop = open_loop(), *other = NULL;
  becket_handle handle = UNTOUCHED, first = 0;
  const int impossible[] = {0, -1, INT_MIN, INT_MAX, 65, 1000, SIGKILL, SIGSTOP};
  for (size_t i = 0; i < COUNT(impossible); i++)
    EQUAL(becket_signal_add(loop, impossible[i], on_nothing, NULL, &handle), -EINVAL);
  EQUAL(becket_loop_init(&other, &second_memory, &config), 0);
  EQUAL(becket_signal_add(loop, SIGUSR1, on_nothing, NULL, &first), 0);
  EQUAL(becket_signal_add(loop, SIGUSR1, on_nothing, NULL, &handle), -EEXIST);
  EQUAL(becket_signal_add(other, SIGUSR1, on_nothing, NULL, &handle), -EBUSY);
  EQUAL(handle, UNTOUCHED);
  EQUAL(statistics_of(loop).sources, 1);
  EQUAL(statistics_of(other).sources, 0);

  CHECK(raise(SIGUSR1) == 0); /* still the first loop's */
  EQUAL(becket_turn(other, 0), 0);
  EQUAL(becket_turn(loop, GUARD), 1);

  EQUAL(becket_remove(loop, first), 0); /* and now anybody's */
  EQUAL(becket_signal_add(other, SIGUSR1, on_nothing, NULL, &handle), 0);
  EQUAL(becket_loop_close(other), 0);
  EQUAL(becket_signal_add(loop, SIGUSR1, on_nothing, NULL, &first), 0);
  EQUAL(becket_loop_close(loop), 0);
}

static void children(void) {
  becket_loop *loop = open_loop();
  becket_handle handle = UNTOUCHED, first = 0;
  int pid = start_child();
  EQUAL(becket_child_add(loop, 0, on_nothing, NULL, &handle), -EINVAL);
  EQUAL(becket_child_add(loop, -1, on_nothing, NULL, &handle), -EINVAL);
  EQUAL(becket_child_add(loop, INT_MIN, on_nothing, NULL, &handle), -EINVAL);
  EQUAL(becket_child_add(loop, (int)getppid(), on_nothing, NULL, &handle), -ECHILD);
  EQUAL(becket_child_add(loop, (int)getpid(), on_nothing, NULL, &handle), -ECHILD);
  EQUAL(becket_child_add(loop, INT_MAX, on_nothing, NULL, &handle), -ECHILD);
  EQUAL(statistics_of(loop).sources, 0);
  EQUAL(handle, UNTOUCHED);
  EQUAL(becket_child_add(loop, pid, on_nothing, NULL, &first), 0);
  EQUAL(becket_turn(loop, 0), 0);
  end_child(pid); /* reaped behind the loop's back: it is told as that, once */
  becket_event event = {.handle = 0};
  EQUAL(becket_poll(loop, GUARD), 1);
  EQUAL(becket_next(loop, BECKET_KIND_CHILD, &event), 1);
  EQUAL(event.value, -ECHILD);
  EQUAL(event.fd, pid);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_child_add(loop, pid, on_nothing, NULL, &handle), -ECHILD);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ fork */

static void count_call(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)event;
  *(int *)user += 1;
}

/* The child refuses its parent's loop, closes it or not, and makes one of its own in the same memory. */
static void child_of(becket_loop *loop, becket_handle io, int closes, const int fds[2]) {
  becket_handle handle = 0;
  becket_loop *own = NULL;
  int calls = 0;
  add_fd = fds[1];
  add_pid = 1;
  CHECK(raise(SIGUSR1) == 0); /* the handler is inherited; it must not wake the parent's loop */
  all_refuse(loop, io, -ECHILD);
  if (closes) {
    EQUAL(becket_loop_close(loop), 0);
    all_refuse(loop, io, -EBADF);
  }
  EQUAL(becket_loop_init(&own, &memory, &config), 0);
  EQUAL(statistics_of(own).sources, 0);
  EQUAL(becket_kind(own, io), -ESTALE);
  EQUAL(becket_signal_add(own, SIGUSR1, count_call, &calls, &handle), 0);
  CHECK(raise(SIGUSR1) == 0);
  while (calls == 0) CHECK(becket_turn(own, GUARD) >= 0);
  EQUAL(becket_io_add(own, fds[0], BECKET_READABLE, count_call, &calls, &handle), 0);
  EQUAL(becket_remove(own, handle), 0);
  EQUAL(becket_loop_close(own), 0);
}

static void use_after_fork(void) {
  for (int closes = 0; closes <= 1; closes++) {
    becket_loop *loop = open_loop();
    becket_handle io = 0, signal_source = 0;
    int fds[2], calls = 0, status = 0;
    char byte;
    open_pipe(fds);
    EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, count_call, &calls, &io), 0);
    EQUAL(becket_signal_add(loop, SIGUSR1, count_call, &calls, &signal_source), 0);
    EQUAL(becket_turn(loop, 0), 0);
    EQUAL(becket_prepare(loop, BECKET_FOREVER), 0); /* now it counts as asleep: a signal would write to its notifier */

    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      child_of(loop, io, closes, fds);
      exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    EQUAL(status, 0);

    /* The parent's loop heard nothing of all that, and works as before. */
    becket_watch watches[4];
    int count = becket_watches(loop, watches, 4);
    CHECK(count > 0 && count <= 4);
    for (int i = 0; i < count; i++) {
      struct pollfd watched = {.fd = watches[i].fd, .events = POLLIN};
      EQUAL(poll(&watched, 1, 0), 0);
    }
    EQUAL(becket_turn(loop, 0), 0);
    EQUAL(calls, 0);
    CHECK(write(fds[1], "x", 1) == 1);
    EQUAL(becket_turn(loop, GUARD), 1);
    CHECK(read(fds[0], &byte, 1) == 1);
    CHECK(raise(SIGUSR1) == 0);
    EQUAL(becket_turn(loop, GUARD), 1);
    EQUAL(calls, 2);
    EQUAL(becket_loop_close(loop), 0);
    close(fds[0]);
    close(fds[1]);
  }
}

int main(void) {
  static const struct {
    const char *name;
    void (*test)(void);
  } tests[] = {
      {"null_pointers", null_pointers},
      {"bad_memory", bad_memory},
      {"bad_config", bad_config},
      {"use_after_close", use_after_close},
      {"no_loop_there", no_loop_there},
      {"wrong_kinds", wrong_kinds},
      {"stale_handles", stale_handles},
      {"bad_arguments", bad_arguments},
      {"bad_fds", bad_fds},
      {"fds_above_fd_setsize", fds_above_fd_setsize},
      {"full_table", full_table},
      {"full_posts", full_posts},
      {"nested", nested},
      {"wrong_thread", wrong_thread},
      {"wrong_thread_while_the_owner_sleeps", wrong_thread_while_the_owner_sleeps},
      {"signals", signals},
      {"children", children},
      {"use_after_fork", use_after_fork},
  };
  for (config.backend = next_backend(0); config.backend != 0; config.backend = next_backend(config.backend)) {
    for (size_t j = 0; j < COUNT(tests); j++) {
      printf("%s on %s\n", tests[j].name, backend_name(config.backend));
      fflush(stdout); /* or a forked child would print it again */
      tests[j].test();
    }
  }
  return 0;
}
