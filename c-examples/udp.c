/* udp: a responder that sends every datagram back to where it came from.
 *
 * A socket of datagrams is a stream too. An answer is sent at once, for it nearly always goes out. Only when it would block is the
 * datagram's buffer kept, and nothing received until the answer is gone: meanwhile further datagrams wait in the socket's own
 * buffer. SIGTERM and SIGINT end it. */
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

struct responder {
  uint64_t answered, delayed, failed;
  becket_send_request request;
  const void *datagram; /* of which the answer is still to be sent */
};

static BECKET_STREAMS(streams, 1, 2, 65536); /* no datagram is larger */
static BECKET_MEMORY(memory, 3, 0, 0);       /* a socket and two signals */

static void answer(becket_loop *loop, const becket_event *event, struct responder *responder) {
  const struct sockaddr *peer;
  socklen_t size;
  must("sender", becket_stream_sender(loop, event->data, &peer, &size));
  int rc = becket_stream_sendto(loop, event->handle, &responder->request, event->data, (size_t)event->value, peer, size);
  if (rc == BECKET_SEND_DONE) {
    responder->answered += 1;
  } else if (rc < 0) {
    responder->failed += 1; /* no route, a filter: UDP may lose a datagram */
  } else {
    responder->delayed += 1;
    responder->datagram = event->data;
    must("keep", becket_stream_keep(loop, event->data));
    must("pause", becket_stream_pause(loop, event->handle));
  }
}

static void on_socket(becket_loop *loop, const becket_event *event, void *user) {
  struct responder *responder = user;
  if (event->flags & BECKET_STREAM_DATA) {
    answer(loop, event, responder);
  } else if (event->flags & BECKET_STREAM_SENT) {
    if (event->value < 0) responder->failed += 1;
    else responder->answered += 1;
    if (responder->datagram == NULL) return;
    must("release", becket_stream_release(loop, responder->datagram));
    must("resume", becket_stream_resume(loop, event->handle));
    responder->datagram = NULL;
  } else if (event->flags & BECKET_STREAM_CLOSED) {
    exit(fail("socket", (int)event->value));
  }
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  static struct responder responder;
  becket_config config = {.size = sizeof config, .streams = &streams};
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
  must("socket", becket_stream_add(loop, fd, BECKET_TRUSTED | BECKET_DATAGRAM, on_socket, &responder, &socket_source));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal_source));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal_source));
  say("answering on 127.0.0.1:%d (%s)", ntohs(address.sin_port), becket_backend_name(loop));
  must("run", becket_run(loop));
  must("loop", becket_loop_close(loop));
  say("ended: %lu answered, %lu delayed, %lu failed", (unsigned long)responder.answered, (unsigned long)responder.delayed,
      (unsigned long)responder.failed);
  return EXIT_SUCCESS;
}
