/* A loop and fork(2), both ways: what the parent's loop does while a child that inherited it lives, and what the child does with
 * its copy and with a loop of its own. (That every call on the inherited loop is -ECHILD is in misuse.c.) Epoll sets and rings
 * are shared by fork: nothing that a child does may reach the parent's. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static BECKET_MEMORY(memory, 16, 4, 0);
static BECKET_MEMORY(other_memory, 16, 4, 0);
static BECKET_RING(ring, 16);
static BECKET_RING(other_ring, 16);
static becket_config config = {.size = sizeof config};
static int with_ring;

struct counted {
  int fd, peer, events;
  becket_handle source;
};

static becket_loop *open_loop(const becket_memory *block, const becket_ring *rings) {
  becket_loop *loop = NULL;
  config.ring = with_ring ? rings : NULL;
  EQUAL(becket_loop_init(&loop, block, &config), 0);
  CHECK(strcmp(becket_backend_name(loop), backend_name(config.backend)) == 0);
  return loop;
}

/* Counts an event, and takes its byte out. */
static void on_event(becket_loop *loop, const becket_event *event, void *user) {
  struct counted *counted = user;
  char byte;
  (void)loop;
  counted->events += 1;
  if (event->kind == BECKET_KIND_IO) EQUAL(read(event->fd, &byte, 1), 1);
}

static void open_pair(becket_loop *loop, struct counted *counted) {
  int fds[2];
  EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  *counted = (struct counted){.fd = fds[0], .peer = fds[1]};
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_event, counted, &counted->source), 0);
}

static void close_pair(becket_loop *loop, struct counted *counted) {
  EQUAL(becket_io_close(loop, counted->source), 0);
  EQUAL(close(counted->peer), 0);
}

/* One byte through the pair is one event, and then there is silence. */
static void tells(becket_loop *loop, struct counted *counted) {
  int before = counted->events;
  EQUAL(write(counted->peer, "x", 1), 1);
  while (counted->events == before) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(counted->events, before + 1);
  EQUAL(becket_turn(loop, 0), 0);
}

static void *wake(void *argument) {
  struct {
    becket_loop *loop;
    becket_handle source;
  } *target = argument;
  EQUAL(becket_wake(target->loop, target->source), 0);
  return NULL;
}

/* A whole loop's work: readiness, time, a wake from another thread, a signal, a post. */
static void works(becket_loop *loop) {
  struct counted io, timer = {0}, woken = {0}, signalled = {0};
  struct {
    becket_loop *loop;
    becket_handle source;
  } target = {loop, 0};
  becket_handle handle;
  pthread_t thread;
  open_pair(loop, &io);
  tells(loop, &io);
  EQUAL(becket_timer_add(loop, MILLISECOND, 0, on_event, &timer, &handle), 0);
  while (timer.events == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(becket_remove(loop, handle), 0);
  EQUAL(becket_wake_add(loop, on_event, &woken, &target.source), 0);
  EQUAL(pthread_create(&thread, NULL, wake, &target), 0);
  while (woken.events == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(pthread_join(thread, NULL), 0);
  EQUAL(becket_post(loop, target.source, 5), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(woken.events, 2);
  EQUAL(becket_signal_add(loop, SIGUSR2, on_event, &signalled, &handle), 0);
  EQUAL(raise(SIGUSR2), 0);
  while (signalled.events == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(becket_remove(loop, handle), 0);
  EQUAL(becket_remove(loop, target.source), 0);
  close_pair(loop, &io);
  EQUAL(becket_turn(loop, 0), 0);
}

/* A gate: the one waits until the other has come so far. */
static void pass(int gate) { EQUAL(write(gate, "x", 1), 1); }
static void await(int gate) {
  char byte;
  EQUAL(read(gate, &byte, 1), 1);
}

static becket_loop *inherited;
static struct counted *shared;

/* What a child may do with what it has inherited. */
static void only_lives(void) {}

static void uses_it(void) {
  becket_handle handle = 0;
  EQUAL(becket_turn(inherited, 0), -ECHILD);
  EQUAL(becket_io_modify(inherited, shared->source, BECKET_WRITABLE), -ECHILD);
  EQUAL(becket_io_close(inherited, shared->source), -ECHILD);
  EQUAL(becket_remove(inherited, shared->source), -ECHILD);
  EQUAL(becket_timer_add(inherited, 0, 0, on_event, NULL, &handle), -ECHILD);
  EQUAL(becket_run(inherited), -ECHILD);
}

static void closes_the_fds(void) {
  EQUAL(close(shared->fd), 0);
  EQUAL(close(shared->peer), 0);
}

static void closes_the_loop(void) { EQUAL(becket_loop_close(inherited), 0); }

static void makes_another(void) {
  becket_loop *own = open_loop(&other_memory, &other_ring);
  works(own);
  EQUAL(becket_turn(inherited, 0), -ECHILD);
  EQUAL(becket_loop_close(own), 0);
}

static void makes_another_after_closing(void) {
  closes_the_loop();
  becket_loop *own = open_loop(&other_memory, &other_ring);
  works(own);
  EQUAL(becket_turn(inherited, 0), -EBADF);
  EQUAL(becket_loop_close(own), 0);
}

/* In the parent's memory, which is the child's own copy; also the rings, which are not copied: they are inherited shared where
 * the kernel mapped them, and copied on write where they are the program's. */
static void makes_it_anew(void) {
  becket_loop *own = open_loop(&memory, &ring);
  CHECK(own == inherited);
  works(own);
  EQUAL(becket_remove(own, shared->source), -ESTALE);
  EQUAL(becket_loop_close(own), 0);
}

/* A loop of its own, that watches the parent's files: changes of its set are not the parent's. */
static void watches_the_same_files(void) {
  struct counted own = {.fd = shared->fd, .peer = shared->peer};
  becket_loop *loop = open_loop(&other_memory, &other_ring);
  EQUAL(becket_io_add(loop, own.fd, BECKET_WRITABLE, on_event, &own, &own.source), 0);
  EQUAL(becket_io_modify(loop, own.source, 0), 0);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_remove(loop, own.source), 0);
  EQUAL(becket_loop_close(loop), 0);
}

static void forks_again(void) {
  int status = -1;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    makes_it_anew();
    _exit(0);
  }
  EQUAL(waitpid(child, &status, 0), child);
  EQUAL(status, 0);
  makes_it_anew();
}

static void a_child_that(const char *does, void (*act)(void)) {
  static char context[128];
  int down[2], up[2], status = -1;
  struct counted first, second, later;
  snprintf(context, sizeof context, "%s on %s%s", does, backend_name(config.backend), with_ring ? " with a ring" : "");
  check_context = context;
  EQUAL(pipe(down), 0);
  EQUAL(pipe(up), 0);
  becket_loop *loop = inherited = open_loop(&memory, &ring);
  open_pair(loop, &first);
  open_pair(loop, &second);
  tells(loop, &first);
  shared = &second;
  EQUAL(becket_prepare(loop, -1), 0); /* asleep, as far as it knows */

  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    act();
    pass(up[1]);
    await(down[0]); /* the parent works while this one lives */
    _exit(0);
  }
  EQUAL(close(up[1]) + close(down[0]), 0); /* a child that fails is no hang */
  tells(loop, &first);                     /* while the child does what it does */
  await(up[0]);
  tells(loop, &first);
  tells(loop, &second);
  open_pair(loop, &later);
  tells(loop, &later);
  works(loop);
  EQUAL(becket_remove(loop, later.source), 0);
  EQUAL(write(later.peer, "x", 1), 1);
  EQUAL(becket_turn(loop, 0), 0);
  pass(down[1]);
  EQUAL(waitpid(child, &status, 0), child);
  EQUAL(status, 0);
  tells(loop, &first);
  tells(loop, &second);
  EQUAL(close(later.fd), 0);
  EQUAL(close(later.peer), 0);
  close_pair(loop, &first);
  close_pair(loop, &second);
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(close(up[0]) + close(down[1]), 0);
}

/* becket_io_close() of a file that the child holds open too: it is told to nobody any more, and the loop rests. */
static void closed_while_a_child_has_it(void) {
  int down[2], status = -1;
  struct counted kept, gone, timer = {0};
  becket_handle handle;
  check_context = backend_name(config.backend);
  EQUAL(pipe(down), 0);
  becket_loop *loop = open_loop(&memory, &ring);
  open_pair(loop, &kept);
  open_pair(loop, &gone);
  tells(loop, &gone);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    await(down[0]);
    _exit(0);
  }
  EQUAL(becket_io_close(loop, gone.source), 0);
  EQUAL(write(gone.peer, "xyz", 3), 3);
  EQUAL(becket_timer_add(loop, 100 * MILLISECOND, 0, on_event, &timer, &handle), 0);
  uint64_t turns = statistics_of(loop).turns;
  while (timer.events == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  CHECK(statistics_of(loop).turns - turns < 20); /* one that spins makes thousands */
  EQUAL(gone.events, 1);
  tells(loop, &kept);
  pass(down[1]);
  EQUAL(waitpid(child, &status, 0), child);
  EQUAL(status, 0);
  tells(loop, &kept);
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(close(gone.peer), 0);
  EQUAL(close(kept.fd) + close(kept.peer) + close(down[0]) + close(down[1]), 0);
}

static int open_fds(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static void makes_it_anew_and_closes_it(void) { EQUAL(becket_loop_close(open_loop(&memory, &ring)), 0); }

/* What the parent's loop has opened, for its children too, the child closes; and the parent's are as they were. */
static void a_child_has_no_fd_left_that(const char *does, void (*act)(void)) {
  static char context[128];
  int status = -1;
  pid_t sleepers[2];
  struct counted ended = {0};
  becket_handle handle;
  snprintf(context, sizeof context, "%s on %s%s", does, backend_name(config.backend), with_ring ? " with a ring" : "");
  check_context = context;
  int before = open_fds();
  becket_loop *loop = inherited = open_loop(&memory, &ring);
  for (size_t i = 0; i < COUNT(sleepers); i++) {
    CHECK((sleepers[i] = fork()) >= 0);
    if (sleepers[i] == 0) {
      alarm(60);
      for (;;) pause();
    }
    EQUAL(becket_child_add(loop, sleepers[i], on_event, &ended, &handle), 0);
  }
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    act();
    EQUAL(open_fds(), before);
    _exit(0);
  }
  EQUAL(waitpid(child, &status, 0), child);
  EQUAL(status, 0);
  CHECK(becket_turn(loop, 0) >= 0 && ended.events == 0);
  for (int i = 0; i < (int)COUNT(sleepers); i++) {
    EQUAL(kill(sleepers[i], SIGKILL), 0);
    while (ended.events == i) CHECK(becket_turn(loop, GUARD) >= 0);
  }
  EQUAL(ended.events, 2);
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(open_fds(), before);
}

int main(void) {
  static const struct {
    const char *does;
    void (*act)(void);
  } children[] = {
      {"only_lives", only_lives},
      {"uses_it", uses_it},
      {"closes_the_fds", closes_the_fds},
      {"closes_the_loop", closes_the_loop},
      {"makes_another", makes_another},
      {"makes_another_after_closing", makes_another_after_closing},
      {"makes_it_anew", makes_it_anew},
      {"watches_the_same_files", watches_the_same_files},
      {"forks_again", forks_again},
  };
  alarm(120); /* a hang is a failure */
  for (config.backend = next_backend(0); config.backend != 0; config.backend = next_backend(config.backend)) {
    for (with_ring = 0; with_ring <= (config.backend == BECKET_BACKEND_IO_URING); with_ring++) {
      for (size_t i = 0; i < COUNT(children); i++) a_child_that(children[i].does, children[i].act);
      closed_while_a_child_has_it();
      a_child_has_no_fd_left_that("closes_the_loop", closes_the_loop);
      a_child_has_no_fd_left_that("makes_it_anew", makes_it_anew_and_closes_it);
    }
  }
  return 0;
}
