/* plain_echo: a TCP echo server with back-pressure, on plain sources: what echo.c leaves to listeners and streams, done by hand.
 *
 * A connection is one place in a static table: its source, its buffer. What the peer does not take in yet stays in
 * the buffer, and until it is gone nothing more is read: a slow reader costs 4 KiB and holds up nobody else.
 * When the table is full, new connections wait in the listener's queue. SIGTERM and SIGINT end it. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "plain_echo"
#define USAGE "usage: plain_echo [--port N] [--backend auto|select|poll|epoll|uring] [--busy-poll MICROSECONDS]\n"
#include "example.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#define CONNECTIONS 256
#define IDLE_TIMEOUT (300 * SECOND)
#define RETRY_DELAY (100 * MILLISECOND)

struct connection {
  becket_handle source; /* 0: the place is free */
  int fd;
  size_t begin, end; /* what has been read and not yet written back */
  char buffer[4096];
};

static struct connection connections[CONNECTIONS];
static becket_handle listener, retry;
static BECKET_MEMORY(memory, CONNECTIONS + 4, 0, 0); /* the listener, a timer and two signals beside them */
static BECKET_RING(ring, 256);                       /* for io_uring, which else takes the kernel's memory */

static void drop(becket_loop *loop, struct connection *connection) {
  must("close", becket_io_close(loop, connection->source));
  connection->source = 0;
  must("resume", becket_io_modify(loop, listener, BECKET_READABLE)); /* there is a free place again */
}

static void on_connection(becket_loop *loop, const becket_event *event, void *user) {
  struct connection *connection = user;
  if (event->flags & BECKET_TIMEOUT) {
    drop(loop, connection);
    return;
  }
  if (connection->end == 0) {
    ssize_t count = recv(connection->fd, connection->buffer, sizeof connection->buffer, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) { /* the end, or an error: either way it is over */
      drop(loop, connection);
      return;
    }
    connection->end = (size_t)count;
  }
  while (connection->begin < connection->end) {
    const char *rest = connection->buffer + connection->begin;
    ssize_t count = send(connection->fd, rest, connection->end - connection->begin, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {
      drop(loop, connection);
      return;
    }
    connection->begin += (size_t)count;
  }
  if (connection->begin == connection->end) connection->begin = connection->end = 0;
  /* Back-pressure: either there is something to write, or there is room to read. Setting what is set costs nothing. */
  uint32_t interest = connection->end == 0 ? BECKET_READABLE : BECKET_WRITABLE;
  must("modify", becket_io_modify(loop, connection->source, interest));
}

static void on_listener(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  struct connection *connection = connections;
  while (connection < connections + CONNECTIONS && connection->source != 0) connection++;
  if (connection == connections + CONNECTIONS) { /* full: silent until a connection ends */
    must("pause", becket_io_modify(loop, listener, 0));
    return;
  }
  int fd = accept(event->fd, NULL, NULL);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) { /* or it would spin */
    must("pause", becket_io_modify(loop, listener, 0));
    must("retry", becket_timer_arm(loop, retry, RETRY_DELAY, 0));
  }
  if (fd < 0) return; /* every other error concerns that one connection, which is gone already */
  int rc = fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
  if (rc == 0) rc = becket_io_add(loop, fd, BECKET_READABLE, on_connection, connection, &connection->source);
  if (rc < 0) { /* on select -EINVAL from FD_SETSIZE on: refuse this connection, serve the others */
    fail("connection", rc);
    close(fd);
    return;
  }
  connection->fd = fd;
  connection->begin = connection->end = 0;
  must("timeout", becket_io_timeout(loop, connection->source, IDLE_TIMEOUT));
}

static void on_retry(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("resume", becket_io_modify(loop, listener, BECKET_READABLE));
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

static int listen_on(uint16_t *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct sockaddr *generic = (struct sockaddr *)&address;
  socklen_t size = sizeof address;
  int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
      bind(fd, generic, size) < 0 || listen(fd, 128) < 0 || getsockname(fd, generic, &size) < 0)
    exit(fail("listen", -errno));
  *port = ntohs(address.sin_port);
  return fd;
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config};
  unsigned long number = 7007, busy_poll = 0;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &number) &&
        !number_option(argv, &i, "--busy-poll", 1000000, &busy_poll))
      return usage(strcmp(argv[i], "--help") == 0);
  uint16_t port = (uint16_t)number;
  config.busy_poll_ns = busy_poll * 1000;
  if (config.backend == BECKET_BACKEND_IO_URING) config.ring = &ring; /* with `auto` it would be the choice then */

  becket_loop *loop;
  becket_handle signal;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("listener", becket_io_add(loop, listen_on(&port), BECKET_READABLE, on_listener, NULL, &listener));
  must("timer", becket_timer_add(loop, BECKET_NEVER, 0, on_retry, NULL, &retry));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal));
  say("listening on 127.0.0.1:%d (%s)", port, becket_backend_name(loop));
  must("run", becket_run(loop));
  for (int i = 0; i < CONNECTIONS; i++)
    if (connections[i].source != 0) must("close", becket_io_close(loop, connections[i].source));
  must("loop", becket_loop_close(loop));
  say("ended");
  return EXIT_SUCCESS;
}
