/* signals: a small supervisor.
 *
 * It runs COMMAND as its child and starts it again when it fails, a limited number of times. Signals and the end of a
 * child arrive as events, in the loop, where everything is allowed: no handler runs in signal context.
 * SIGUSR1 is counted. SIGTERM and SIGINT end the child first, by force when it takes too long, then the supervisor.
 * Without a COMMAND, the child lives for a moment and then fails.
 * Exit status: 0 when the child was done or asked to end, 1 when it failed too often. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "signals"
#define USAGE "usage: signals [--backend auto|select|poll|epoll|uring] [--restarts N] [COMMAND [ARGUMENT...]]\n"
#include "example.h"
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define RESTART_DELAY (100 * MILLISECOND)
#define GRACE (3 * SECOND)

struct supervisor {
  char **command;      /* ends with NULL; empty: the built-in child */
  unsigned long limit; /* of restarts */
  unsigned long restarts;
  int pid;             /* 0: no child at the moment */
  int ending;          /* asked to end */
  int status;          /* ours, at the end */
  int64_t reports;     /* SIGUSR1 so far */
  becket_handle delay; /* from the end of a child to the next one; while ending, until patience ends */
};

static BECKET_MEMORY(memory, 5, 0, 0); /* three signals, a timer, a child */

static void on_child(becket_loop *loop, const becket_event *event, void *user);

static void child(char **command, const sigset_t *mask) {
  if (signal(SIGTERM, SIG_DFL) == SIG_ERR || signal(SIGINT, SIG_DFL) == SIG_ERR || signal(SIGUSR1, SIG_DFL) == SIG_ERR ||
      sigprocmask(SIG_SETMASK, mask, NULL) < 0)
    _exit(126);
  if (*command != NULL) {
    execvp(*command, command);
    _exit(127);
  }
  struct timespec moment = {.tv_nsec = 50 * (long)MILLISECOND};
  nanosleep(&moment, NULL);
  _exit(7);
}

static void start(becket_loop *loop, struct supervisor *supervisor) {
  becket_handle handle;
  sigset_t all, before;
  /* The child has the loop's signal handlers until it has put its own in order: a signal in between must wait. */
  if (sigfillset(&all) < 0 || sigprocmask(SIG_SETMASK, &all, &before) < 0) exit(fail("mask", -errno));
  int pid = fork();
  if (pid == 0) child(supervisor->command, &before);
  if (pid < 0) exit(fail("fork", -errno));
  if (sigprocmask(SIG_SETMASK, &before, NULL) < 0) exit(fail("mask", -errno));
  supervisor->pid = pid;
  say("child %d: started", pid);
  must("child", becket_child_add(loop, pid, on_child, supervisor, &handle));
}

/* Comes once for the child, which is reaped by then; its source has had its only event. */
static void on_child(becket_loop *loop, const becket_event *event, void *user) {
  struct supervisor *supervisor = user;
  int status = (int)event->value;
  must("remove", becket_remove(loop, event->handle));
  supervisor->pid = 0;
  if (WIFSIGNALED(status)) say("child %d: killed by signal %d", event->fd, WTERMSIG(status));
  else say("child %d: exit status %d", event->fd, WEXITSTATUS(status));

  if (supervisor->ending || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
    must("stop", becket_stop(loop));
  } else if (supervisor->restarts == supervisor->limit) {
    say("gave up after %lu restarts", supervisor->restarts);
    supervisor->status = EXIT_FAILURE;
    must("stop", becket_stop(loop));
  } else {
    supervisor->restarts += 1;
    must("delay", becket_timer_arm(loop, supervisor->delay, RESTART_DELAY, 0)); /* or a broken command would be a fork storm */
  }
}

/* To the child, which is not reaped yet: so the pid is still its own. */
static void send_signal(const struct supervisor *supervisor, int number) {
  if (kill(supervisor->pid, number) < 0) exit(fail("kill", -errno));
}

static void on_delay(becket_loop *loop, const becket_event *event, void *user) {
  (void)event;
  struct supervisor *supervisor = user;
  if (supervisor->ending) send_signal(supervisor, SIGKILL);
  else start(loop, supervisor);
}

static void on_report(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop;
  struct supervisor *supervisor = user;
  supervisor->reports += event->value; /* several that came together are one event */
  say("SIGUSR1: %d so far", (int)supervisor->reports);
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  struct supervisor *supervisor = user;
  say("signal %d: ending", event->fd);
  supervisor->ending = 1;
  if (supervisor->pid == 0) {
    must("stop", becket_stop(loop));
    return;
  }
  send_signal(supervisor, SIGTERM);
  must("grace", becket_timer_arm(loop, supervisor->delay, GRACE, 0));
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config};
  struct supervisor supervisor = {.limit = 3};
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--restarts", 1000000, &supervisor.limit))
      return usage(strcmp(argv[i], "--help") == 0);
  supervisor.command = argv + i;

  becket_loop *loop;
  becket_handle handle;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("SIGUSR1", becket_signal_add(loop, SIGUSR1, on_report, &supervisor, &handle));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, &supervisor, &handle));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, &supervisor, &handle));
  must("timer", becket_timer_add(loop, BECKET_NEVER, 0, on_delay, &supervisor, &supervisor.delay));
  say("supervisor %d (%s)", (int)getpid(), becket_backend_name(loop));
  start(loop, &supervisor);
  must("run", becket_run(loop));
  must("loop", becket_loop_close(loop));
  say("ended");
  return supervisor.status;
}
