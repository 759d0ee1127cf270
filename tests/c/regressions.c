/* regressions: what was wrong once. Each case is a small program; most are about forks and threads, where a test in Rust
 * would drag a whole test harness along. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static BECKET_MEMORY(memory, 4, 0, 0);
static BECKET_MEMORY(other_memory, 4, 0, 0);
static int calls;

static void count(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)event, (void)user;
  calls += 1;
}

static becket_config config = {.size = sizeof config};

static becket_loop *new_loop(const becket_memory *block) {
  becket_loop *loop = NULL;
  EQUAL(becket_loop_init(&loop, block, &config), 0);
  return loop;
}

/* Runs `body` in a forked child, and expects it to end well. */
static void in_child(void (*body)(becket_loop *), becket_loop *loop) {
  int pid = fork(), status = -1;
  CHECK(pid >= 0);
  if (pid == 0) {
    body(loop);
    _exit(0);
  }
  EQUAL(waitpid(pid, &status, 0), pid);
  EQUAL(status, 0);
}

/* A handle of the parent's loop must not wake anything in the loop that the child makes in the same memory. */
static becket_handle handles[3];

static void wakes_its_parents_source(becket_loop *loop) {
  loop = new_loop(&memory);
  for (int i = 0; i < 3; i++) EQUAL(becket_wake(loop, handles[i]), -ESTALE);
  EQUAL(becket_turn(loop, 0), 0);
  becket_handle own;
  EQUAL(becket_wake_add(loop, count, NULL, &own), 0);
  for (int i = 0; i < 3; i++) EQUAL(becket_wake(loop, handles[i]), -ESTALE);
  EQUAL(becket_wake(loop, own), 0);
  EQUAL(becket_turn(loop, 0), 1);
}

static void wake_after_reinit(void) {
  becket_loop *loop = new_loop(&memory);
  for (int i = 0; i < 3; i++) EQUAL(becket_wake_add(loop, count, NULL, &handles[i]), 0);
  in_child(wakes_its_parents_source, loop);
  EQUAL(becket_loop_close(loop), 0);
}

/* The loop was made anew under a handler's caller, which then counted in it. */
static void fork_in_handler(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  int pid = fork(), status = -1;
  CHECK(pid >= 0);
  if (pid == 0) {
    becket_loop *again = NULL;
    EQUAL(becket_loop_init(&again, &memory, &config), -EBUSY);
    EQUAL(becket_loop_close(loop), -EBUSY);
    loop = new_loop(&other_memory);
    EQUAL(becket_run(loop), 0);
    EQUAL(becket_loop_close(loop), 0);
    return; /* into becket_run() of the parent's loop: that one says so */
  }
  EQUAL(waitpid(pid, &status, 0), pid);
  EQUAL(status, 0);
}

/* Whether becket knows a forked child without asking the system, as it does between two handlers: madvise(2) can empty a
 * page in the child, pages are of 4 KiB, and advice that is none is not taken. */
static int marks_children(void) {
  static _Alignas(4096) char page[4096];
  return sysconf(_SC_PAGESIZE) <= 4096 && madvise(page, sizeof page, -1) != 0 &&
         madvise(page, sizeof page, MADV_WIPEONFORK) == 0;
}

static void reinit_in_handler(void) {
  becket_loop *loop = new_loop(&memory);
  becket_handle timer;
  int here = getpid();
  becket_handle later;
  calls = 0;
  EQUAL(becket_timer_add(loop, 0, 0, fork_in_handler, NULL, &timer), 0);
  EQUAL(becket_timer_add(loop, 0, 0, count, NULL, &later), 0); /* of the same turn: the parent's alone */
  int rc = becket_run(loop);
  if (getpid() == here || marks_children()) EQUAL(calls, getpid() == here);
  if (getpid() != here) {
    EQUAL(rc, -ECHILD);
    EQUAL(becket_loop_close(loop), 0); /* outside of the handler it may go */
    loop = new_loop(&memory);
    EQUAL(becket_run(loop), 0);
    _exit(0);
  }
  EQUAL(rc, 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* After an init that failed, the next one closed the same numbers again, which were others' by then. */
static void fails_once(becket_loop *loop) {
  struct rlimit limit, none;
  EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
  none = limit;
  none.rlim_cur = 0;
  EQUAL(setrlimit(RLIMIT_NOFILE, &none), 0);
  EQUAL(becket_loop_init(&loop, &memory, &config), -EMFILE);
  EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
  int before = open("/dev/null", O_RDONLY);
  loop = new_loop(&memory);
  struct stat stat;
  EQUAL(fstat(before, &stat), 0);
  CHECK(S_ISCHR(stat.st_mode));
  int after = open("/dev/null", O_RDONLY);
  CHECK(after >= 0);
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(fstat(before, &stat), 0);
  EQUAL(fstat(after, &stat), 0);
}

static void failed_reinit(void) {
  becket_loop *loop = new_loop(&memory);
  in_child(fails_once, loop);
  EQUAL(becket_loop_close(loop), 0);
}

/* A signal that the parent's loop has is free in a child. */
static void takes_the_signal(becket_loop *loop) {
  becket_handle handle;
  loop = new_loop(&other_memory);
  EQUAL(becket_signal_add(loop, SIGUSR1, count, NULL, &handle), 0);
  EQUAL(raise(SIGUSR1), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_loop_close(loop), 0);
  struct sigaction now;
  EQUAL(sigaction(SIGUSR1, NULL, &now), 0);
  CHECK(now.sa_handler == SIG_DFL); /* what it was before the parent's loop */
}

/* And so it is when the child has reset it meanwhile, or made its loop in the same memory. */
static void takes_the_signal_anew(becket_loop *loop) {
  becket_handle handle;
  CHECK(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
  loop = new_loop(&memory);
  EQUAL(becket_signal_add(loop, SIGUSR1, count, NULL, &handle), 0);
  EQUAL(raise(SIGUSR1), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_remove(loop, handle), 0);
  CHECK(signal(SIGUSR1, SIG_IGN) == SIG_DFL);
}

static void signal_in_child(void) {
  becket_loop *loop = new_loop(&memory);
  becket_handle handle;
  EQUAL(becket_signal_add(loop, SIGUSR1, count, NULL, &handle), 0);
  in_child(takes_the_signal, loop);
  in_child(takes_the_signal_anew, loop);
  calls = 0;
  EQUAL(raise(SIGUSR1), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_loop_close(loop), 0);
}

/* Signals came between the installation and the reset of the count. */
static atomic_int sent;
#define SIGNALS 5000

static void *send_signals(void *target) {
  while (atomic_fetch_add(&sent, 1) < SIGNALS) {
    pthread_kill(*(pthread_t *)target, SIGUSR2);
    struct timespec pause = {0, 1000};
    nanosleep(&pause, NULL); /* or the other thread would do nothing else */
  }
  return NULL;
}

static void signal_during_add(void) {
  pthread_t sender, self = pthread_self();
  becket_loop *loop = new_loop(&memory);
  CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR);
  EQUAL(pthread_create(&sender, NULL, send_signals, &self), 0);
  while (atomic_load(&sent) < SIGNALS) {
    becket_handle handle;
    EQUAL(becket_signal_add(loop, SIGUSR2, count, NULL, &handle), 0);
    CHECK(signal(SIGUSR2, SIG_IGN) != SIG_ERR); /* no more of them: what came has been counted */
    CHECK(becket_turn(loop, 0) >= 0);
    EQUAL(becket_remove(loop, handle), 0);
  }
  EQUAL(pthread_join(sender, NULL), 0);
  EQUAL(statistics_of(loop).stale_dropped, 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* A stop outside of becket_run() made every later wait of the phases end at once. */
static void stop_of_the_phases(void) {
  becket_loop *loop = new_loop(&memory);
  for (int turn = 0; turn < 3; turn++) {
    if (turn == 0) EQUAL(becket_stop(loop), 0);
    EQUAL(becket_prepare(loop, 1000), 0);
    EQUAL(becket_timeout(loop), turn == 0 ? 0 : 1000);
    EQUAL(becket_wait(loop), 0);
    EQUAL(becket_collect(loop), 0);
  }
  EQUAL(becket_loop_close(loop), 0);
}

/* A second loop in the same memory gave out handles of the first one again. */
static void handles_of_an_earlier_loop(void) {
  becket_loop *loop;
  becket_handle handle, old = 0;
  config.flags = BECKET_VIRTUAL_CLOCK; /* no help from the clock */
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  for (int i = 0; i < 1000; i++) {
    EQUAL(becket_wake_add(loop, count, NULL, &old), 0);
    EQUAL(becket_remove(loop, old), 0);
  }
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  config.flags = 0;
  for (int i = 0; i < 4000; i++) {
    EQUAL(becket_wake_add(loop, count, NULL, &handle), 0);
    EQUAL(becket_kind(loop, old), -ESTALE);
    EQUAL(becket_remove(loop, handle), 0);
  }
  EQUAL(becket_loop_close(loop), 0);
}

/* The descriptor by which a child is watched was left open. */
static void children_leave_no_fds(void) {
  becket_loop *loop = new_loop(&memory);
  int before = open("/dev/null", O_RDONLY);
  EQUAL(close(before), 0);
  for (int i = 0; i < 6; i++) {
    becket_handle handle;
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) _exit(i);
    EQUAL(becket_child_add(loop, pid, count, NULL, &handle), 0);
    if (i == 5) { /* triggered, it does not look as if it had exited with 0 */
      becket_event event = {0};
      EQUAL(becket_trigger(loop, handle, 0), 0);
      CHECK(becket_poll(loop, 0) > 0);
      EQUAL(becket_next(loop, BECKET_KIND_CHILD, &event), 1);
      CHECK(event.value == -EAGAIN || (WIFEXITED((int)event.value) && WEXITSTATUS((int)event.value) == 5));
    }
    /* A turn may have no event: without pidfds a child is looked at once when it is added. */
    int told = calls;
    while (i % 2 == 0 && i != 5 && calls == told) CHECK(becket_turn(loop, GUARD) >= 0);
    EQUAL(becket_remove(loop, handle), 0);
    if (i % 2 != 0) waitpid(pid, NULL, 0); /* removed before its end was told: it is the program's to reap */
  }
  int after = open("/dev/null", O_RDONLY);
  EQUAL(after, before);
  EQUAL(close(after), 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* Once sources without an fd had filled the table, fds got any slot that was free, beyond what poll takes. */
static BECKET_MEMORY(large_memory, 2000, 0, 0);

static void fds_after_a_full_table(void) {
  static becket_handle timers[1999];
  struct rlimit limit, small;
  becket_loop *loop = new_loop(&large_memory);
  EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
  small = limit;
  small.rlim_cur = 256;
  EQUAL(setrlimit(RLIMIT_NOFILE, &small), 0);
  for (int round = 0; round < 2; round++) {
    int fds[100];
    becket_handle handle;
    for (int i = 0; i < 1999; i++) EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, count, NULL, &timers[i]), 0);
    for (int i = 0; i < 1999; i++) EQUAL(becket_remove(loop, timers[i]), 0);
    for (int i = 0; i < 100; i++) {
      CHECK((fds[i] = eventfd(1, EFD_NONBLOCK)) >= 0);
      EQUAL(becket_io_add(loop, fds[i], BECKET_READABLE, count, NULL, &handle), 0);
    }
    EQUAL(statistics_of(loop).sources, 100);
    EQUAL(becket_watches(loop, NULL, 0), becket_fd(loop) >= 0 ? 1 : 101);
    EQUAL(becket_turn(loop, 0), 100);
    for (int i = 0; i < 100; i++) {
      EQUAL(becket_io_find(loop, fds[i], &handle), 0);
      EQUAL(becket_io_close(loop, handle), 0);
    }
    EQUAL(statistics_of(loop).sources, 0);
    EQUAL(becket_watches(loop, NULL, 0), 1);
  }
  EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* What poll said of an fd was taken for the one that had its number, and its slot, by the time of the collection. */
static void fd_changed_between_wait_and_collect(void) {
  becket_loop *loop = new_loop(&memory);
  becket_handle handle, other;
  int ready = eventfd(1, EFD_NONBLOCK), quiet = eventfd(0, EFD_NONBLOCK);
  CHECK(ready >= 0 && quiet >= 0);
  EQUAL(becket_io_add(loop, ready, BECKET_READABLE, count, NULL, &handle), 0);
  EQUAL(becket_prepare(loop, 0), 0);
  EQUAL(becket_wait(loop), 0);
  EQUAL(becket_remove(loop, handle), 0);
  EQUAL(dup2(quiet, ready), ready);
  EQUAL(becket_io_add(loop, ready, BECKET_READABLE, count, NULL, &other), 0);
  EQUAL(becket_collect(loop), 0);
  EQUAL(becket_io_close(loop, other), 0);
  EQUAL(close(quiet), 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* Closing it gave back memory that the waiting thread still used. */
static void *wait_for_a_wake(void *loop) {
  EQUAL(becket_turn(loop, GUARD), 1);
  return NULL;
}

static void close_while_another_waits(void) {
  pthread_t owner;
  becket_loop *loop = new_loop(&memory);
  becket_handle handle;
  EQUAL(becket_wake_add(loop, count, NULL, &handle), 0);
  EQUAL(pthread_create(&owner, NULL, wait_for_a_wake, loop), 0);
  while (becket_timeout(loop) == 0) { /* until it has prepared its wait */
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
  }
  EQUAL(becket_loop_close(loop), -EBUSY);
  EQUAL(becket_wake(loop, handle), 0);
  EQUAL(pthread_join(owner, NULL), 0);
  EQUAL(becket_loop_close(loop), 0);
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } cases[] = {
      {"wake_after_reinit", wake_after_reinit},
      {"reinit_in_handler", reinit_in_handler},
      {"failed_reinit", failed_reinit},
      {"signal_in_child", signal_in_child},
      {"signal_during_add", signal_during_add},
      {"stop_of_the_phases", stop_of_the_phases},
      {"handles_of_an_earlier_loop", handles_of_an_earlier_loop},
      {"children_leave_no_fds", children_leave_no_fds},
      {"fds_after_a_full_table", fds_after_a_full_table},
      {"fd_changed_between_wait_and_collect", fd_changed_between_wait_and_collect},
      {"close_while_another_waits", close_while_another_waits},
  };
  alarm(120); /* a hang is a failure */
  for (config.backend = next_backend(0); config.backend != 0; config.backend = next_backend(config.backend)) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      static char context[64];
      snprintf(context, sizeof context, "%s on %s", cases[i].name, backend_name(config.backend));
      check_context = context;
      cases[i].run();
    }
  }
  return 0;
}
