/* Pipes in rings, and bytes that go round in them: what an event costs beside its read(2) and write(2).
 *
 *   pipes PIPES ACTIVE EVENTS [IDLE [BACKEND]]
 *
 * PIPES read ends are watched, ACTIVE bytes are on their way. An event is one byte read from a pipe and written to the next
 * one of its ring. There is a ring for each byte, so a pipe never holds two: a byte read has emptied it, as edge-triggered
 * readiness wants it. Beside the pipes IDLE eventfds are watched (one descriptor each, where a pipe has two), and never
 * ready. Prints nanoseconds an event.
 *
 * One loop for each library, by -DRAW (epoll_wait), -DBECKET, -DLIBEV, -DLIBEVENT, -DLIBUV. BACKEND is becket's: epoll,
 * io_uring, io_uring-edge, poll, select. See pipes.sh. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct end {
  int from, to; /* to: the writing end of the next pipe */
};

static struct end *ends; /* pipes, then idle ones */
static long pipes, watched, left;

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(EXIT_FAILURE);
}

/* The handler, the same for all: one event. 0: it was the last one. A function of its own, so that callgrind can see it. */
__attribute__((noinline)) int pass(const struct end *end);
int pass(const struct end *end) {
  char byte;
  if (left <= 0) return 0; /* what was ready together with the last one */
  if (read(end->from, &byte, 1) != 1) fail("read");
  if (write(end->to, &byte, 1) != 1) fail("write");
  return --left > 0;
}

static void start(const char *backend); /* watches ends[0 .. watched] */
static void run(void);                  /* until pass() is 0 */

#if defined RAW
#include <sys/epoll.h>

static int set;

static void start(const char *backend) {
  (void)backend;
  if ((set = epoll_create1(0)) < 0) fail("epoll_create1");
  for (long i = 0; i < watched; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &ends[i]};
    if (epoll_ctl(set, EPOLL_CTL_ADD, ends[i].from, &event) < 0) fail("epoll_ctl");
  }
}

static void run(void) {
  static struct epoll_event events[1024];
  while (left > 0) {
    int count = epoll_wait(set, events, 1024, -1);
    for (int i = 0; i < count; i++) pass(events[i].data.ptr);
  }
}

#elif defined BECKET
#include <becket.h>

static BECKET_MEMORY(memory, 20000, 0, 0);
static BECKET_RING(ring, 256);
static becket_loop *loop;

static void must(const char *what, int rc) {
  if (rc >= 0) return;
  fprintf(stderr, "%s: %s\n", what, becket_strerror(rc));
  exit(EXIT_FAILURE);
}

static void on_readable(becket_loop *self, const becket_event *event, void *user) {
  (void)event;
  if (!pass(user)) becket_stop(self);
}

static void start(const char *backend) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_EPOLL, .ring = &ring};
  uint32_t flags = BECKET_READABLE;
  if (strcmp(backend, "select") == 0) config.backend = BECKET_BACKEND_SELECT;
  if (strcmp(backend, "poll") == 0) config.backend = BECKET_BACKEND_POLL;
  if (strncmp(backend, "io_uring", 8) == 0) config.backend = BECKET_BACKEND_IO_URING;
  if (strcmp(backend, "io_uring-edge") == 0) flags |= BECKET_EDGE;
  must(backend, becket_loop_init(&loop, &memory, &config));
  for (long i = 0; i < watched; i++) {
    becket_handle handle;
    must("becket_io_add", becket_io_add(loop, ends[i].from, flags, on_readable, &ends[i], &handle));
  }
}

static void run(void) { must("becket_run", becket_run(loop)); }

#elif defined LIBEV
#include <ev.h>

static struct ev_loop *loop;

static void on_readable(struct ev_loop *self, ev_io *watcher, int events) {
  (void)events;
  if (!pass(watcher->data)) ev_break(self, EVBREAK_ALL);
}

static void start(const char *backend) {
  (void)backend;
  if ((loop = ev_loop_new(EVBACKEND_EPOLL)) == NULL) fail("ev_loop_new");
  ev_io *watchers = calloc((size_t)watched, sizeof *watchers);
  if (watchers == NULL) fail("calloc");
  for (long i = 0; i < watched; i++) {
    ev_io_init(&watchers[i], on_readable, ends[i].from, EV_READ);
    watchers[i].data = &ends[i];
    ev_io_start(loop, &watchers[i]);
  }
}

static void run(void) { ev_run(loop, 0); }

#elif defined LIBEVENT
#include <event2/event.h>

static struct event_base *base;

static void on_readable(evutil_socket_t fd, short events, void *user) {
  (void)fd, (void)events;
  if (!pass(user)) event_base_loopbreak(base);
}

static void start(const char *backend) {
  (void)backend;
  if ((base = event_base_new()) == NULL) fail("event_base_new");
  for (long i = 0; i < watched; i++) {
    struct event *event = event_new(base, ends[i].from, EV_READ | EV_PERSIST, on_readable, &ends[i]);
    if (event == NULL || event_add(event, NULL) < 0) fail("event_add");
  }
}

static void run(void) { event_base_dispatch(base); }

#elif defined LIBUV
#include <uv.h>

static uv_loop_t loop;

static void on_readable(uv_poll_t *handle, int status, int events) {
  (void)status, (void)events;
  if (!pass(handle->data)) uv_stop(&loop);
}

static void start(const char *backend) {
  (void)backend;
  uv_poll_t *handles = calloc((size_t)watched, sizeof *handles);
  if (handles == NULL || uv_loop_init(&loop) < 0) fail("uv_loop_init");
  for (long i = 0; i < watched; i++) {
    handles[i].data = &ends[i];
    if (uv_poll_init(&loop, &handles[i], ends[i].from) < 0 || uv_poll_start(&handles[i], UV_READABLE, on_readable) < 0)
      fail("uv_poll_start");
  }
}

static void run(void) { uv_run(&loop, UV_RUN_DEFAULT); }
#endif

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char **argv) {
  pipes = argc > 1 ? atol(argv[1]) : 0;
  long active = argc > 2 ? atol(argv[2]) : 0;
  long events = argc > 3 ? atol(argv[3]) : 0;
  watched = pipes + (argc > 4 ? atol(argv[4]) : 0);
  if (pipes < 1 || active < 1 || active > pipes || events < 1 || watched < pipes) {
    fputs("usage: pipes PIPES ACTIVE EVENTS [IDLE [BACKEND]]\n", stderr);
    return 2;
  }
  int(*both)[2] = calloc((size_t)pipes, sizeof *both);
  ends = calloc((size_t)watched, sizeof *ends);
  if (both == NULL || ends == NULL) fail("calloc");
  for (long i = 0; i < pipes; i++)
    if (pipe2(both[i], O_NONBLOCK) < 0) fail("pipe2");
  for (long i = 0; i < pipes; i++) {
    long next = i + active < pipes ? i + active : i % active;
    ends[i] = (struct end){both[i][0], both[next][1]};
  }
  for (long i = pipes; i < watched; i++)
    if ((ends[i].from = eventfd(0, EFD_NONBLOCK)) < 0) fail("eventfd");
  start(argc > 5 ? argv[5] : "epoll");
  for (long i = 0; i < active; i++)
    if (write(both[i][1], "x", 1) != 1) fail("write");
  left = events;
  if (getenv("STEPS") != NULL) raise(SIGSTOP); /* steps.c counts from here */
  double begin = now();
  run();
  printf("%.1f\n", (now() - begin) / (double)events);
  return EXIT_SUCCESS;
}
