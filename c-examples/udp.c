/* udp: a responder that sends every datagram back to where it came from.
 *
 * An answer is tried at once, for it nearly always goes out. Only when it would block is it kept, and the socket
 * watched for WRITABLE instead of READABLE; meanwhile further datagrams wait in the socket's own buffer.
 * SIGTERM and SIGINT end it. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "udp"
#define USAGE "usage: udp [--port N] [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#define BATCH 32 /* datagrams an event: a busy socket must not keep the loop from its other sources */

struct responder {
  uint64_t answered, delayed, failed;
  int pending; /* `datagram` is an answer that is still to be sent */
  size_t size;
  struct sockaddr_in peer;
  char datagram[65536]; /* no datagram is larger */
};

static BECKET_MEMORY(memory, 3, 0, 0); /* a socket and two signals */

static int receive(int fd, struct responder *responder) {
  socklen_t size = sizeof responder->peer;
  ssize_t count = recvfrom(fd, responder->datagram, sizeof responder->datagram, 0, (struct sockaddr *)&responder->peer, &size);
  if (count < 0) return 0; /* nothing there, or the error of an earlier answer, which is cleared now */
  responder->size = (size_t)count;
  responder->pending = 1;
  return 1;
}

/* Whether the answer is done with: sent, or impossible. */
static int answer(int fd, struct responder *responder) {
  const struct sockaddr *peer = (const struct sockaddr *)&responder->peer;
  ssize_t count;
  do count = sendto(fd, responder->datagram, responder->size, MSG_NOSIGNAL, peer, sizeof responder->peer);
  while (count < 0 && errno == EINTR);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
  if (count < 0) responder->failed += 1; /* no route, a filter: UDP may lose a datagram */
  else responder->answered += 1;
  responder->pending = 0;
  return 1;
}

static void on_socket(becket_loop *loop, const becket_event *event, void *user) {
  struct responder *responder = user;
  for (int i = 0; i < BATCH && (responder->pending || receive(event->fd, responder)); i++) {
    if (answer(event->fd, responder)) continue;
    responder->delayed += 1;
    must("writable", becket_io_modify(loop, event->handle, BECKET_WRITABLE));
    return;
  }
  must("readable", becket_io_modify(loop, event->handle, BECKET_READABLE));
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  static struct responder responder;
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
  becket_handle socket_source, signal_source;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("socket", becket_io_add(loop, fd, BECKET_READABLE, on_socket, &responder, &socket_source));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal_source));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal_source));
  say("answering on 127.0.0.1:%d (%s)", ntohs(address.sin_port), becket_backend_name(loop));
  must("run", becket_run(loop));
  must("close", becket_io_close(loop, socket_source));
  must("loop", becket_loop_close(loop));
  say("ended: %lu answered, %lu delayed, %lu failed", (unsigned long)responder.answered, (unsigned long)responder.delayed,
      (unsigned long)responder.failed);
  return EXIT_SUCCESS;
}
