/* timers: everything that time does in a loop.
 *
 * A one-shot timer, a periodic one, one that arms itself again with a growing delay, one that is disarmed before it
 * expires, and the idle timeout of a pipe that falls silent. When the last source is removed, becket_run returns. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "timers"
#define USAGE "usage: timers [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <errno.h>
#include <fcntl.h>

#define WRITES 5

static BECKET_MEMORY(memory, 6, 0, 0);
static becket_handle guard; /* goes off when this program hangs */

/* One-shot: period 0. The timer stays in the table, disarmed, until it is removed. */
static void on_once(becket_loop *loop, const becket_event *event, void *user) {
  const uint64_t *due = user;
  int early = becket_now(loop) < *due; /* never: time is rounded up */
  say("once: after 20 ms%s", early ? ", and too early" : "");
  if (early) exit(EXIT_FAILURE);
  must("remove", becket_remove(loop, event->handle));
}

/* Periodic: does not drift. A late loop gets the periods it missed in one event, as their number. */
static void on_period(becket_loop *loop, const becket_event *event, void *user) {
  int64_t *periods = user;
  *periods += event->value;
  if (*periods < 10) return;
  say("period: 10 times 5 ms");
  must("remove", becket_remove(loop, event->handle));
}

/* Re-arms itself in its own handler: the usual backoff. */
static void on_backoff(becket_loop *loop, const becket_event *event, void *user) {
  uint64_t *delay = user;
  say("backoff: waited %d ms", (int)(*delay / MILLISECOND));
  *delay *= 2;
  if (*delay <= 40 * MILLISECOND) must("arm", becket_timer_arm(loop, event->handle, *delay, 0));
  else must("remove", becket_remove(loop, event->handle));
}

struct pipe_end {
  int fd;
  int count;
};

static void on_write(becket_loop *loop, const becket_event *event, void *user) {
  struct pipe_end *end = user;
  if (write(end->fd, ".", 1) != 1) exit(fail("write", -errno));
  end->count += 1;
  if (end->count == WRITES) must("remove", becket_remove(loop, event->handle)); /* and from here on silence */
}

/* The idle timeout counts from the last delivery; extending it costs nothing, so every event may do it. */
static void on_read(becket_loop *loop, const becket_event *event, void *user) {
  struct pipe_end *end = user;
  if ((event->flags & BECKET_TIMEOUT) == 0) {
    char bytes[16];
    ssize_t count = read(event->fd, bytes, sizeof bytes);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) exit(fail("read", count < 0 ? -errno : -EPIPE));
    end->count += (int)count;
    return;
  }
  if (end->count < WRITES) return; /* the writer was held up: idle timeouts repeat, so there will be another */
  say("idle: nothing for 50 ms after %d bytes", end->count);
  must("close", becket_io_close(loop, event->handle));
  /* The guard did not go off. Disarmed, it can be armed again any time; removed, it is gone. */
  uint64_t at = 0;
  must("disarm", becket_timer_disarm(loop, guard));
  must("deadline", becket_timer_deadline(loop, guard, &at));
  say("guard: %s", at == BECKET_NEVER ? "disarmed" : "armed");
  must("remove", becket_remove(loop, guard));
}

static void on_guard(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)event, (void)user;
  exit(fail("guard", -ETIMEDOUT));
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config};
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config)) return usage(strcmp(argv[i], "--help") == 0);

  int fds[2];
  if (pipe(fds) < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) return fail("pipe", -errno);
  struct pipe_end reader = {fds[0], 0}, writer = {fds[1], 0};
  uint64_t due = 0, delay = 10 * MILLISECOND;
  int64_t periods = 0;

  becket_loop *loop;
  becket_handle handle, silence;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("once", becket_timer_add(loop, 20 * MILLISECOND, 0, on_once, &due, &handle));
  must("once", becket_timer_deadline(loop, handle, &due));
  must("period", becket_timer_add(loop, 5 * MILLISECOND, 5 * MILLISECOND, on_period, &periods, &handle));
  must("backoff", becket_timer_add(loop, delay, 0, on_backoff, &delay, &handle));
  must("writer", becket_timer_add(loop, 0, 10 * MILLISECOND, on_write, &writer, &handle));
  must("reader", becket_io_add(loop, reader.fd, BECKET_READABLE, on_read, &reader, &silence));
  must("idle", becket_io_timeout(loop, silence, 50 * MILLISECOND));
  must("guard", becket_timer_add(loop, 60 * SECOND, 0, on_guard, NULL, &guard));

  int stopped = must("run", becket_run(loop)); /* 0: nothing was left that keeps the loop alive */
  must("loop", becket_loop_close(loop));
  close(writer.fd);
  say("ended after all was removed: %s", stopped ? "no" : "yes");
  return stopped ? EXIT_FAILURE : EXIT_SUCCESS;
}
