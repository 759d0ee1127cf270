/* Every call that becket makes fails, for every reason that it can have, now or later, once or for long: in the midst of a loop's
 * life on every backend. Errors come back and change nothing, no turn spins, and when the fault is gone the loop works: every
 * source tells what is ready, every slot can be had, and no descriptor is left behind.
 *
 * Linked with interpose_faults.c. What the test does for itself goes by calls that are not watched there: socketpair, wait4, and
 * by syscall(2). */
#define _GNU_SOURCE
#define TURN_CALLS 200
#define TELLS_EINTR 0
#include "faulty.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define PAIRS 14
#define SOURCES (PAIRS + 8)
#define SHORT (INT64_C(100000)) /* of a wait */

static BECKET_MEMORY(memory, SOURCES, 4, 0);
enum { OPERATIONS = 40 };
static BECKET_MEMORY(memory_of_files, 4, 0, OPERATIONS);
static BECKET_RING(ring, 8); /* so small that it is full before all is told */

/* ------------------------------------------------------------------------------------------------ the test's own calls */

/* Mappings of a kernel's rings. */
static int mapped_rings(void) {
  static char text[65536];
  int fd = open("/proc/self/maps", O_RDONLY), count = 0;
  if (fd < 0) return 0;
  ssize_t length;
  while ((length = syscall(SYS_read, fd, text, sizeof text - 1, 0, 0, 0)) > 0) {
    text[length] = '\0';
    for (const char *at = text; (at = strstr(at, "[io_uring]")) != NULL; at++) count++;
  }
  CHECK(syscall(SYS_close, fd, 0, 0, 0, 0, 0) == 0);
  return count;
}

static void put(int fd) { CHECK(syscall(SYS_write, fd, "x", (size_t)1, 0, 0, 0) == 1); }

/* What there is to read: bytes, 0 at the end, -1: nothing. */
static ssize_t get(int fd) {
  char bytes[64];
  ssize_t count = syscall(SYS_read, fd, bytes, sizeof bytes, 0, 0, 0);
  CHECK(count >= 0 || errno == EAGAIN || errno == ECONNRESET);
  return count < 0 && errno == ECONNRESET ? 0 : count; /* a reset: something was left unread */
}

/* ------------------------------------------------------------------------------------------------ a loop's life */

struct pair {
  int ours, theirs; /* ours is -1 when it is closed */
  becket_handle source; /* 0: none */
  unsigned bytes; /* that the handler has read */
};

static struct pair pairs[PAIRS];
static becket_handle timer, signal_source, child_source, waker;
static pid_t child;
static int with_others; /* a child and a thread, which take time */
static unsigned ticks, signals, exits, wakes;

static void on_ready(becket_loop *same, const becket_event *event, void *user) {
  struct pair *pair = user;
  CHECK(same == loop && event->handle == pair->source && event->fd == pair->ours);
  CHECK((event->flags & (BECKET_READABLE | BECKET_ERROR)) != 0); /* an error says: try and see */
  ssize_t count = get(pair->ours);
  if (count > 0) pair->bytes += (unsigned)count;
}

static void on_other(becket_loop *same, const becket_event *event, void *user) {
  CHECK(same == loop);
  if (event->kind == BECKET_KIND_SIGNAL) CHECK(event->value > 0);
  if (event->kind == BECKET_KIND_CHILD) EQUAL(event->value, 7 << 8);
  *(unsigned *)user += 1;
}

/* Whether a call that adds a source went well. */
static int added(int code, int fds, unsigned sources, const becket_handle *handle) {
  if (good(code)) return 1;
  EQUAL(open_fds(), fds);
  EQUAL(statistics_of(loop).sources, sources);
  EQUAL(*handle, 0);
  return 0;
}

static int add_pair(struct pair *pair) {
  unsigned sources = statistics_of(loop).sources;
  int fds = open_fds();
  pair->source = 0;
  return added(becket_io_add(loop, pair->ours, BECKET_READABLE, on_ready, pair, &pair->source), fds, sources, &pair->source);
}

static void add_others(void) {
  struct sigaction before, after;
  int fds = open_fds();
  timer = signal_source = child_source = waker = 0;
  EQUAL(becket_timer_add(loop, SHORT, 0, on_other, &ticks, &timer), 0);
  EQUAL(becket_wake_add(loop, on_other, &wakes, &waker), 0);
  CHECK(sigaction(SIGUSR1, NULL, &before) == 0 && before.sa_handler == SIG_IGN);
  unsigned sources = statistics_of(loop).sources;
  if (!added(becket_signal_add(loop, SIGUSR1, on_other, &signals, &signal_source), fds, sources, &signal_source)) {
    CHECK(sigaction(SIGUSR1, NULL, &after) == 0 && after.sa_handler == SIG_IGN);
  }
  if (!with_others) return;
  child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(7);
  sources = statistics_of(loop).sources;
  added(becket_child_add(loop, child, on_other, &exits, &child_source), fds, sources, &child_source);
  siginfo_t info; /* it had copies of all descriptors */
  CHECK(syscall(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, NULL, 0) == 0);
}

/* A source is removed after its fd was closed, while its file lives on: to epoll's set it is nobody's. */
static void close_first(struct pair *pair) {
  int other = dup(pair->ours);
  CHECK(other >= 0);
  close_own(pair->ours);
  if (pair->source != 0) EQUAL(becket_remove(loop, pair->source), 0);
  pair->source = 0;
  put(pair->theirs);
  turns(3, 0);
  close_own(other);
  pair->ours = -1;
}

/* Everything that a loop does, while something fails. */
static void live(void) {
  for (int i = 0; i < PAIRS; i++) add_pair(&pairs[i]);
  for (int i = 0; i < PAIRS; i++) put(pairs[i].theirs);
  add_others();
  raise(SIGUSR1);
  EQUAL(becket_wake(loop, waker), 0);
  turns(3, 0);
  for (int round = 0; round < 2; round++) {
    for (int i = round; i < PAIRS; i += 2)
      if (pairs[i].source != 0) EQUAL(becket_io_modify(loop, pairs[i].source, 0), 0);
    turns(1, 0);
    for (int i = 0; i < PAIRS; i++)
      if (pairs[i].source != 0) EQUAL(becket_io_modify(loop, pairs[i].source, i % 3 == 0 ? BECKET_READABLE | BECKET_PRIORITY : BECKET_READABLE), 0);
    for (int i = 0; i < PAIRS; i++) put(pairs[i].theirs);
    turns(2, 0);
  }
  close_first(&pairs[0]);
  if (pairs[1].source != 0) {
    good(becket_io_close(loop, pairs[1].source));
    pairs[1].ours = -1;
    pairs[1].source = 0;
  }
  if (pairs[2].source != 0) {
    EQUAL(becket_remove(loop, pairs[2].source), 0);
    add_pair(&pairs[2]);
  }
  turns(2, SHORT);
}

static void *wake(void *unused) {
  EQUAL(becket_wake(loop, waker), 0);
  return unused;
}

/* Nothing fails any more: all that was put down is delivered, and all that is. */
static void work(void) {
  becket_handle filled[SOURCES];
  unsigned count = 0;
  for (int i = 0; i < PAIRS; i++) {
    if (pairs[i].ours < 0) continue;
    if (pairs[i].source == 0) CHECK(add_pair(&pairs[i]));
    pairs[i].bytes = 0;
    put(pairs[i].theirs);
  }
  for (int i = 0; i < PAIRS; i++)
    while (pairs[i].ours >= 0 && pairs[i].bytes == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  for (int i = 0; i < PAIRS; i++)
    if (pairs[i].ours < 0) EQUAL(get(pairs[i].theirs), 0); /* what was closed is closed */
  unsigned before = wakes;
  pthread_t thread;
  if (waker == 0) EQUAL(becket_wake_add(loop, on_other, &wakes, &waker), 0);
  if (with_others) EQUAL(pthread_create(&thread, NULL, wake, NULL), 0);
  else wake(NULL);
  while (wakes == before) CHECK(becket_turn(loop, GUARD) >= 0);
  if (with_others) EQUAL(pthread_join(thread, NULL), 0);
  if (signal_source == 0) EQUAL(becket_signal_add(loop, SIGUSR1, on_other, &signals, &signal_source), 0);
  before = signals;
  raise(SIGUSR1);
  while (signals == before) CHECK(becket_turn(loop, GUARD) >= 0);
  while (child_source != 0 && exits == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  if (timer != 0) CHECK(becket_timer_arm(loop, timer, SHORT, 0) == 0);
  before = ticks;
  while (timer != 0 && ticks == before) CHECK(becket_turn(loop, GUARD) >= 0);
  for (unsigned used = statistics_of(loop).sources; used + count < SOURCES; count++)
    EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, NULL, NULL, &filled[count]), 0);
  becket_handle more;
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, NULL, NULL, &more), -ENOSPC);
  /* At rest it sleeps. */
  while (becket_turn(loop, 0) > 0) continue;
  turns(1, 5 * SHORT);
}

/* One life, with the n-th call failing, and the next ones too. Whether anything failed. */
static int try(const becket_config *config, unsigned long first, unsigned long times) {
  int before = open_fds();
  struct sigaction disposition;
  loop = NULL;
  timer = signal_source = child_source = waker = 0;
  child = 0;
  with_others = first < 3;
  ticks = signals = exits = wakes = 0;
  for (int i = 0; i < PAIRS; i++) {
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    pairs[i] = (struct pair){fds[0], fds[1], 0, 0};
  }
  int opened = open_fds();
  if (times > 0) fault_set(reason, first, times);
  int code = becket_loop_init(&loop, &memory, config);
  if (good(code)) {
    live();
    if (times == FAULT_ALWAYS && (first < 4 || first == 18)) rest();
  } else {
    CHECK(loop == NULL);
    EQUAL(open_fds(), opened);
  }
  int struck = fault_clear() > 0;
  if (loop == NULL) EQUAL(becket_loop_init(&loop, &memory, config), 0);
  work();
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(becket_turn(loop, 0), -EBADF);
  CHECK(sigaction(SIGUSR1, NULL, &disposition) == 0 && disposition.sa_handler == SIG_IGN);
  CHECK(sigaction(SIGCHLD, NULL, &disposition) == 0 && disposition.sa_handler == SIG_DFL);
  for (int i = 0; i < PAIRS; i++) {
    if (pairs[i].ours >= 0) close_own(pairs[i].ours);
    close_own(pairs[i].theirs);
  }
  EQUAL(open_fds(), before);
  EQUAL(mapped_rings(), 0);
  if (child != 0 && child_source == 0) EQUAL(wait4(child, NULL, 0, NULL), child);
  EQUAL(wait4(-1, NULL, WNOHANG, NULL), -1); /* every child was reaped */
  return struck;
}

/* A life in which nothing fails; by their places, the reasons whose call occurs in it. */
static void try_without(const becket_config *config, int *occurs) {
  unsigned long before[FAULT_REASONS];
  reason = NULL;
  check_context = "nothing fails";
  for (unsigned at = 0; fault_reason(at) != NULL; at++) before[at] = fault_calls(fault_reason(at)->call);
  CHECK(!try(config, 1, 0));
  for (unsigned at = 0; fault_reason(at) != NULL; at++) occurs[at] = fault_calls(fault_reason(at)->call) > before[at];
}

/* Its closing does as well: nothing is left behind. */
static void close_in_faults(const becket_config *config, unsigned long first, unsigned long times) {
  int before = open_fds(), fds[2];
  becket_handle handle;
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
  EQUAL(becket_loop_init(&loop, &memory, config), 0);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_other, &wakes, &handle), 0);
  EQUAL(becket_signal_add(loop, SIGUSR1, on_other, &signals, &handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  fault_set(reason, first, times);
  EQUAL(becket_loop_close(loop), 0);
  fault_clear();
  close_own(fds[0]);
  /* A kernel that could not be told ends its polls by itself, some time after. */
  int flags = fcntl(fds[1], F_GETFL);
  CHECK(fcntl(fds[1], F_SETFL, flags & ~O_NONBLOCK) == 0);
  EQUAL(get(fds[1]), 0);
  close_own(fds[1]);
  EQUAL(open_fds(), before);
}

/* ------------------------------------------------------------------------------------------------ what has to meet for it */

static const struct fault_reason *reason_of(const char *call, const char *name) {
  for (unsigned at = 0; fault_reason(at) != NULL; at++)
    if (strcmp(fault_reason(at)->call, call) == 0 && strcmp(fault_reason(at)->name, name) == 0) return fault_reason(at);
  CHECK(!"there is no such reason");
  return NULL;
}

static void open_loop(const becket_config *config, int count) {
  check_context = backend_name(config->backend);
  EQUAL(becket_loop_init(&loop, &memory, config), 0);
  for (int i = 0; i < count; i++) {
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    pairs[i] = (struct pair){fds[0], fds[1], 0, 0};
    EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_ready, &pairs[i], &pairs[i].source), 0);
  }
}

static void close_loop(int count) {
  for (int i = 0; i < count; i++) {
    if (pairs[i].ours >= 0) close_own(pairs[i].ours);
    if (pairs[i].theirs >= 0) close_own(pairs[i].theirs);
  }
  EQUAL(becket_loop_close(loop), 0);
}

/* The ring was full, and could not be submitted just then: who found no room in it is not left out of a wait without end. */
static void left_out_of_the_ring(void) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_IO_URING, .ring = &ring};
  reason = reason_of("io_uring_enter", "EAGAIN");
  for (int last = 0; last < 2 * PAIRS; last++) {
    struct pair *pair = &pairs[last % PAIRS];
    unsigned long times = 1 + 2 * ((unsigned long)last / PAIRS);
    open_loop(&config, PAIRS);
    fault_set(reason, 1, times);
    put(pair->theirs); /* this one alone */
    while (pair->bytes == 0) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
    EQUAL(fault_clear(), times);
    close_loop(PAIRS);
  }
}

/* Nothing can be submitted, and so nothing is told: but a wake and a stop get through. */
static void woken_without_memory(void) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_IO_URING};
  const char *const names[] = {"EAGAIN", "EBUSY"};
  for (int i = 0; i < 2; i++) {
    pthread_t thread;
    open_loop(&config, 1);
    EQUAL(becket_wake_add(loop, on_other, &wakes, &waker), 0);
    fault_set(reason_of("io_uring_enter", names[i]), 1, FAULT_ALWAYS);
    EQUAL(becket_prepare(loop, BECKET_FOREVER), 0); /* from here on a wake has to end the wait */
    EQUAL(pthread_create(&thread, NULL, wake, NULL), 0);
    EQUAL(becket_wait(loop), 0);
    EQUAL(becket_collect(loop), 1);
    EQUAL(pthread_join(thread, NULL), 0);
    CHECK(fault_clear() > 0);
    close_loop(1);
  }
}

static int completed;

static void on_complete(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)user;
  EQUAL(event->kind, BECKET_KIND_OPERATION);
  CHECK(event->value == 1 || event->value == -ECANCELED);
  completed += 1;
}

/* The kernel takes no requests of files, for a while, and the ring is full: they are handed over again without anybody's doing,
 * and each has its one completion; a drain comes to its end too. */
static void files_are_taken_later(uint32_t backend, const char *name) {
  static char bytes[OPERATIONS];
  becket_config config = {.size = sizeof config, .backend = backend, .ring = &ring, .files = BECKET_FILES_IO_URING};
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  CHECK(file >= 0);
  reason = reason_of("io_uring_enter", name);
  for (unsigned long times = 1; times <= 9; times += 4) {
    for (int drained = 0; drained < 2; drained++) {
      check_context = backend_name(backend);
      EQUAL(becket_loop_init(&loop, &memory_of_files, &config), 0);
      completed = 0;
      for (int i = 0; i < OPERATIONS; i++)
        EQUAL(becket_op_read(loop, file, &bytes[i], 1, i, on_complete, NULL, NULL), 0);
      fault_set(reason, 1, times);
      if (drained) {
        CHECK(becket_turn(loop, 0) >= 0); /* some are handed over, and some are not */
        EQUAL(becket_loop_drain(loop, BECKET_FOREVER), 0);
      }
      while (completed < OPERATIONS) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
      CHECK(fault_clear() > 0);
      EQUAL(becket_turn(loop, 0), 0);
      EQUAL(completed, OPERATIONS);
      CHECK(drained || memcmp(bytes, "\177ELF", 4) == 0);
      EQUAL(becket_loop_close(loop), 0);
    }
  }
  close(file);
}

/* Event of a file that lives on under another number: epoll's set is to be built anew. */
static int make_stale(struct pair *pair) {
  int other = dup(pair->ours);
  CHECK(other >= 0);
  close_own(pair->ours);
  EQUAL(becket_remove(loop, pair->source), 0);
  pair->ours = -1;
  EQUAL(becket_turn(loop, 0), 0);
  put(pair->theirs);
  EQUAL(becket_turn(loop, GUARD), 0); /* it is noticed, and its set is rebuilt in the next turn */
  return other;
}

/* That fails, for a while: there is a stale event in every turn, but no turn spins. */
static void never_rebuilt(const char *call, const char *name) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_EPOLL};
  open_loop(&config, 3);
  fault_set(reason = reason_of(call, name), 1, FAULT_ALWAYS);
  int other = make_stale(&pairs[0]);
  rest();
  CHECK(fault_clear() > 0);
  put(pairs[1].theirs);
  while (pairs[1].bytes == 0) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
  close_own(other);
  close_loop(3);
}

static void on_writable(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)user;
  CHECK((event->flags & BECKET_WRITABLE) != 0);
  ticks += 1;
}

/* In the same turn interests change, and one fd is paused: rebuilt or not, what is told is what was asked for last, and a paused
 * fd that hangs up keeps nobody awake. */
static void rebuilt_in_a_change(const char *call, const char *name, unsigned long times) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_EPOLL};
  open_loop(&config, 4);
  int other = make_stale(&pairs[0]);
  ticks = 0;
  EQUAL(becket_set_handler(loop, pairs[1].source, on_writable, NULL), 0);
  EQUAL(becket_io_modify(loop, pairs[1].source, BECKET_WRITABLE), 0);
  EQUAL(becket_io_modify(loop, pairs[2].source, 0), 0);
  fault_set(reason = reason_of(call, name), 1, times);
  while (ticks < 3) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
  unsigned long struck = fault_clear();
  CHECK(struck == times || (struck > 0 && times == FAULT_ALWAYS));
  EQUAL(becket_io_modify(loop, pairs[1].source, BECKET_READABLE), 0);
  close_own(other); /* and with it that file, and its event */
  close_own(pairs[2].theirs);
  pairs[2].theirs = -1;
  becket_turn(loop, 0);
  unsigned long turns_before = (unsigned long)statistics_of(loop).turns;
  rest();
  CHECK(statistics_of(loop).turns - turns_before < 100);
  put(pairs[3].theirs);
  while (pairs[3].bytes == 0) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
  EQUAL(becket_set_handler(loop, pairs[2].source, on_ready, &pairs[2]), 0);
  close_loop(4);
}

/* The program closes descriptors that are not its own: the loop says so, and does not go round for ever. */
static void closed_under_it(void) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_EPOLL};
  int before = open_fds();
  check_context = "epoll's own descriptor";
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  EQUAL(becket_wake_add(loop, on_other, &wakes, &waker), 0);
  close_own(becket_fd(loop));
  EQUAL(becket_turn(loop, GUARD), -EBADF);
  EQUAL(becket_run(loop), -EBADF);
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(open_fds(), before);
  /* The one by which a loop is woken. It was found ready again and again. */
  for (uint32_t backend = BECKET_BACKEND_SELECT; backend <= BECKET_BACKEND_POLL; backend++) {
    config.backend = backend;
    int own = dup(0), fds[2]; /* the lowest number that is free */
    close_own(own);
    EQUAL(becket_loop_init(&loop, &memory, &config), 0);
    check_context = backend_name(backend);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    pairs[0] = (struct pair){fds[0], fds[1], 0, 0};
    EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_ready, &pairs[0], &pairs[0].source), 0);
    close_own(own);
    EQUAL(becket_turn(loop, GUARD), -EBADF);
    EQUAL(becket_run(loop), -EBADF);
    put(fds[1]); /* what else there is is told all the same */
    for (int turn = 0; turn < 3 && pairs[0].bytes == 0; turn++) becket_turn(loop, 0);
    EQUAL(pairs[0].bytes, 1);
    close_own(fds[0]);
    close_own(fds[1]);
    EQUAL(becket_loop_close(loop), 0);
    EQUAL(open_fds(), before);
  }
}

int main(void) {
  const becket_config configs[] = {
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_SELECT},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_POLL, .flags = BECKET_NO_PIDFD},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_EPOLL},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_IO_URING, .flags = BECKET_NO_PIDFD},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_IO_URING, .ring = &ring},
  };
  static const unsigned long firsts[] = {1, 2, 5, 18};
  int under_valgrind = getenv("TEST_UNDER_VALGRIND") != NULL;
  alarm(300); /* a hang is a failure */
  CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
  unsigned long lives = 0, struck = 0, calls = fault_calls(NULL);
  for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
    if (!have_io_uring() && (configs[i].backend == BECKET_BACKEND_IO_URING || configs[i].ring != NULL)) continue;
    int occurs[FAULT_REASONS];
    try_without(&configs[i], occurs);
    for (unsigned at = 0; (reason = fault_reason(at)) != NULL; at++) {
      char context[128];
      if (!occurs[at]) continue;
      check_context = context;
      for (size_t n = 0; n < (under_valgrind ? 1 : sizeof firsts / sizeof *firsts); n++) {
        unsigned long more = reason->lasting ? FAULT_ALWAYS : 3;
        snprintf(context, sizeof context, "backend %s %zu, %s %s, once from %lu on", backend_name(configs[i].backend), i,
                 reason->call, reason->name, firsts[n]);
        lives += 1;
        if (!try(&configs[i], firsts[n], 1)) break;
        snprintf(context, sizeof context, "backend %s %zu, %s %s, often from %lu on", backend_name(configs[i].backend), i,
                 reason->call, reason->name, firsts[n]);
        struck += 1 + (unsigned long)try(&configs[i], firsts[n], more);
        lives += 1;
        close_in_faults(&configs[i], firsts[n], more);
      }
    }
  }
  CHECK(struck > (under_valgrind ? 40 : 200));
  closed_under_it();
  never_rebuilt("epoll_create1", "EMFILE");
  never_rebuilt("dup3", "EBUSY");
  rebuilt_in_a_change("dup3", "EBUSY", 0);
  rebuilt_in_a_change("dup3", "EBUSY", 1);
  rebuilt_in_a_change("dup3", "EBUSY", FAULT_ALWAYS);
  rebuilt_in_a_change("epoll_create1", "ENFILE", 1);
  rebuilt_in_a_change("epoll_ctl.add", "ENOMEM", 1);
  if (have_io_uring()) {
    left_out_of_the_ring();
    woken_without_memory();
    for (uint32_t backend = BECKET_BACKEND_SELECT; backend <= BECKET_BACKEND_IO_URING; backend++) {
      files_are_taken_later(backend, "EAGAIN");
      files_are_taken_later(backend, "EBUSY");
    }
  }
  printf("%lu lives, %lu with faults, %lu calls\n", lives, struck, fault_calls(NULL) - calls);
  return 0;
}
