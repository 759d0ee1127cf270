/* echo: a TCP echo server with back-pressure.
 *
 * What was received is sent from where it lies. While the peer does not take it in nothing more is received: a slow reader costs
 * a few KiB and holds up nobody else. When all places are taken, or there is no descriptor left, new
 * connections wait in the kernel until one is free. SIGTERM and SIGINT end it. */
#define PROGRAM "echo"
#define USAGE "usage: echo [--port N] [--backend auto|select|poll|epoll|uring] [--busy-poll MICROSECONDS]\n"
#include "example.h"
#include <errno.h>
#include <signal.h>

#define CONNECTIONS 256
#define BUFFER 4096
#define IDLE_TIMEOUT (300 * SECOND)

static BECKET_STREAMS(streams, CONNECTIONS, 2 * CONNECTIONS, BUFFER);
static BECKET_MEMORY(memory, CONNECTIONS + 3, 0, 0); /* the listener and two signals beside them */
static BECKET_RING(ring, 256);                       /* for io_uring, which else takes the kernel's memory */

static void on_stream(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  if (event->flags & BECKET_STREAM_DATA) {
    int rc = becket_stream_forward(loop, event->handle, event->data, (size_t)event->value);
    if (rc == -EPIPE) return; /* nobody reads it, and its end is on its way */
    must("forward", rc);
    if (rc == BECKET_SEND_FULL) must("pause", becket_stream_pause(loop, event->handle));
  } else if (event->flags & BECKET_STREAM_LOW) {
    must("resume", becket_stream_resume(loop, event->handle));
  } else if (event->flags & BECKET_STREAM_END) {
    must("close", becket_stream_close(loop, event->handle));
  } else if (event->flags & (BECKET_STREAM_SENT | BECKET_TIMEOUT)) { /* it could not be sent; or nothing happens any more */
    must("reset", becket_stream_reset(loop, event->handle));
  }
}

static void on_listener(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  if (event->value < 0) { /* no room, for a while: it goes on by itself */
    fail("listener", (int)event->value);
    return;
  }
  becket_handle stream;
  int fd = (int)event->value, rc = becket_stream_add(loop, fd, BECKET_TRUSTED, on_stream, NULL, &stream);
  if (rc == 0) rc = becket_stream_watermarks(loop, stream, 0, BUFFER);
  if (rc == 0) rc = becket_io_timeout(loop, stream, IDLE_TIMEOUT);
  if (rc == 0) return;
  fail("connection", rc); /* on select -EINVAL from FD_SETSIZE on: refuse this one, serve the others */
  close(fd);
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config, .streams = &streams};
  const becket_listen_options options = {.size = sizeof options, .flags = BECKET_LISTEN_FOR_STREAMS};
  unsigned long port = 7007, busy_poll = 0;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &port) &&
        !number_option(argv, &i, "--busy-poll", 1000000, &busy_poll))
      return usage(strcmp(argv[i], "--help") == 0);
  config.busy_poll_ns = busy_poll * 1000;
  if (config.backend == BECKET_BACKEND_IO_URING) config.ring = &ring; /* with `auto` it would be the choice then */

  becket_loop *loop;
  becket_handle listener, signal;
  char address[BECKET_ADDRESS_TEXT_BYTES];
  snprintf(address, sizeof address, "127.0.0.1:%lu", port);
  must("init", becket_loop_init(&loop, &memory, &config));
  must("listen", becket_listen(loop, address, &options, on_listener, NULL, &listener));
  must("address", becket_listener_text(loop, listener, address, sizeof address));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal));
  say("listening on %s (%s)", address, becket_backend_name(loop));
  must("run", becket_run(loop));
  must("loop", becket_loop_close(loop)); /* and all that it has */
  say("ended");
  return EXIT_SUCCESS;
}
