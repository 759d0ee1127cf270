/* foreign: becket inside a loop that is not its own.
 *
 * The program already has a poll(2) loop, which reads standard input. becket's sources (a timer, a UDP port and a
 * signal) are served in that same loop by the pull form: nobody but this program sleeps, and nobody but this program
 * calls a handler. One round is:
 *
 *   becket_prepare(forever)  what is there to wait for?           before-wait events may come out: take them
 *   becket_timeout           how long may the foreign loop sleep?
 *   becket_watches           which fds must it watch?             a few more pollfd entries
 *   poll                     the foreign loop sleeps
 *   becket_prepare(0)        now becket looks itself, without sleeping:
 *   becket_wait, becket_collect
 *   becket_next, becket_dispatch   until nothing is queued
 *
 * It ends at the end of standard input or by SIGTERM. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "foreign"
#define USAGE "usage: foreign [--port N] [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#define SOURCES 3
#define WATCHES (SOURCES + 4) /* becket watches a few fds of its own beside those of its sources */

static BECKET_MEMORY(memory, SOURCES, 0, 0);
static int ended;
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
  (void)loop, (void)event, (void)user;
  ended = 1; /* becket_stop() would stop becket_run(); this loop is our own */
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

/* poll(2) counts in milliseconds: rounded up, or the last fraction of one would be spent spinning. */
static int milliseconds(int64_t timeout_ns) {
  if (timeout_ns < 0) return -1;
  int64_t ms = (timeout_ns + 999999) / 1000000;
  return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void foreign_loop(becket_loop *loop) {
  while (!ended) {
    struct pollfd fds[1 + WATCHES] = {{.fd = STDIN_FILENO, .events = POLLIN}};
    becket_watch watches[WATCHES];
    prepare(loop, BECKET_FOREVER);
    int timeout = milliseconds(becket_timeout(loop));
    int count = must("watches", becket_watches(loop, watches, WATCHES));
    if (count > WATCHES) exit(fail("watches", -ENOBUFS));
    for (int i = 0; i < count; i++) {
      int events = (watches[i].interest & BECKET_READABLE ? POLLIN : 0) | (watches[i].interest & BECKET_WRITABLE ? POLLOUT : 0) |
                   (watches[i].interest & BECKET_PRIORITY ? POLLPRI : 0);
      fds[1 + i] = (struct pollfd){.fd = watches[i].fd, .events = (short)events};
    }
    if (poll(fds, (nfds_t)count + 1, timeout) < 0 && errno != EINTR) exit(fail("poll", -errno));

    prepare(loop, 0);
    must("wait", becket_wait(loop));
    must("collect", becket_collect(loop));
    serve(loop);

    if (fds[0].revents != 0) { /* the foreign loop's own business */
      char bytes[256];
      ssize_t size = read(STDIN_FILENO, bytes, sizeof bytes);
      if (size > 0) say("read %d bytes", (int)size);
      else if (size == 0 || errno != EINTR) ended = 1;
    }
  }
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config};
  unsigned long port = 7007;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &port))
      return usage(strcmp(argv[i], "--help") == 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
      getsockname(fd, (struct sockaddr *)&address, &size) < 0)
    return fail("bind", -errno);

  becket_loop *loop;
  becket_handle tick, socket_source, end;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("timer", becket_timer_add(loop, 10 * MILLISECOND, 10 * MILLISECOND, on_tick, NULL, &tick));
  must("socket", becket_io_add(loop, fd, BECKET_READABLE, on_datagram, NULL, &socket_source));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &end));
  say("answering on 127.0.0.1:%d (%s)", ntohs(address.sin_port), becket_backend_name(loop));
  foreign_loop(loop);
  must("close", becket_io_close(loop, socket_source));
  must("loop", becket_loop_close(loop));
  say("ended: %u ticks, %u datagrams", ticks, datagrams);
  return EXIT_SUCCESS;
}
