/* libev: becket inside libev. Built where libev is installed (libev-dev).
 *
 * The program is libev's, which reads standard input. becket's sources (a timer, a UDP port and a signal) are served in
 * that same loop, by four watchers:
 *
 *   ev_prepare   before libev sleeps: becket_prepare(forever), and becket_timeout() is armed as the
 *   ev_timer     which does nothing but end libev's sleep in time; nor does the
 *   ev_io        on becket_fd(), which is readable when there is something to collect
 *   ev_check     after libev's sleep: becket_prepare(0), becket_wait, becket_collect: becket looks itself, without
 *                sleeping; then becket_next, becket_dispatch until nothing is queued
 *
 * That needs a backend with a descriptor of its own, which tells of everything: epoll. For the others see foreign.c, and
 * becket_watches(). It ends at the end of standard input or by SIGTERM. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "libev"
#define USAGE "usage: libev [--port N] [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#define SOURCES 3

static BECKET_MEMORY(memory, SOURCES, 0, 0);
static ev_timer timeout;
static unsigned ticks, datagrams;

static void on_tick(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)user;
  ticks += (unsigned)event->value;
}

static void on_datagram(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)user;
  char bytes[1500];
  struct sockaddr_in peer;
  socklen_t size = sizeof peer;
  ssize_t count = recvfrom(event->fd, bytes, sizeof bytes, 0, (struct sockaddr *)&peer, &size);
  if (count < 0) return; /* nothing there any more */
  datagrams += 1;
  if (sendto(event->fd, bytes, (size_t)count, 0, (struct sockaddr *)&peer, size) < 0 && errno != EAGAIN)
    fail("answer", -errno);
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)event;
  ev_break(user, EVBREAK_ALL); /* becket_stop() would stop becket_run(); the loop that runs is libev's */
}

/* Hands out everything that is queued. -ESTALE: a handler removed the source of an event that was taken out already. */
static void serve(becket_loop *loop) {
  becket_event event;
  while (must("next", becket_next(loop, BECKET_KIND_ALL, &event)) == 1) {
    int rc = becket_dispatch(loop, &event);
    if (rc != -ESTALE) must("dispatch", rc);
  }
}

static void prepare(becket_loop *loop, int64_t timeout_ns) {
  while (must("prepare", becket_prepare(loop, timeout_ns)) > 0) serve(loop);
}

static void before_sleep(struct ev_loop *ev, ev_prepare *watcher, int events) {
  (void)events;
  becket_loop *loop = watcher->data;
  prepare(loop, BECKET_FOREVER);
  int64_t timeout_ns = becket_timeout(loop);
  ev_timer_stop(ev, &timeout);
  if (timeout_ns < 0) return;
  ev_timer_set(&timeout, (double)timeout_ns / 1e9, 0.);
  ev_timer_start(ev, &timeout);
}

static void after_sleep(struct ev_loop *ev, ev_check *watcher, int events) {
  (void)ev, (void)events;
  becket_loop *loop = watcher->data;
  prepare(loop, 0);
  must("wait", becket_wait(loop));
  must("collect", becket_collect(loop));
  serve(loop);
}

/* The sleep is over, and after_sleep sees to the rest. */
static void on_fd(struct ev_loop *ev, ev_io *watcher, int events) { (void)ev, (void)watcher, (void)events; }
static void on_timeout(struct ev_loop *ev, ev_timer *watcher, int events) { (void)ev, (void)watcher, (void)events; }

/* libev's own business. */
static void on_input(struct ev_loop *ev, ev_io *watcher, int events) {
  (void)events;
  char bytes[256];
  ssize_t size = read(watcher->fd, bytes, sizeof bytes);
  if (size > 0) say("read %d bytes", (int)size);
  else if (size == 0 || errno != EINTR) ev_break(ev, EVBREAK_ALL);
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config};
  unsigned long port = 7007;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &port))
      return usage(strcmp(argv[i], "--help") == 0);
  becket_loop *loop;
  must("init", becket_loop_init(&loop, &memory, &config));
  if (becket_fd(loop) < 0) {
    char what[128];
    snprintf(what, sizeof what, "the %s backend has no descriptor of its own for libev to watch", becket_backend_name(loop));
    fail(what, becket_fd(loop));
    return 2;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
      getsockname(fd, (struct sockaddr *)&address, &size) < 0)
    return fail("bind", -errno);
  struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO); /* not libev's default loop: that one takes SIGCHLD for itself */
  if (ev == NULL) return fail("libev", -ENOMEM);

  becket_handle tick, socket_source, end;
  must("timer", becket_timer_add(loop, 10 * MILLISECOND, 10 * MILLISECOND, on_tick, NULL, &tick));
  must("socket", becket_io_add(loop, fd, BECKET_READABLE, on_datagram, NULL, &socket_source));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, ev, &end));

  ev_prepare before;
  ev_check after;
  ev_io readable, input;
  ev_prepare_init(&before, before_sleep);
  ev_check_init(&after, after_sleep);
  ev_io_init(&readable, on_fd, becket_fd(loop), EV_READ);
  ev_io_init(&input, on_input, STDIN_FILENO, EV_READ);
  ev_init(&timeout, on_timeout);
  before.data = after.data = loop;
  ev_prepare_start(ev, &before);
  ev_check_start(ev, &after);
  ev_io_start(ev, &readable);
  ev_io_start(ev, &input);

  say("answering on 127.0.0.1:%d (%s)", ntohs(address.sin_port), becket_backend_name(loop));
  ev_run(ev, 0);
  ev_io_stop(ev, &readable); /* before its fd is closed */
  must("close", becket_io_close(loop, socket_source));
  must("loop", becket_loop_close(loop));
  ev_loop_destroy(ev);
  say("ended: %u ticks, %u datagrams", ticks, datagrams);
  return EXIT_SUCCESS;
}
