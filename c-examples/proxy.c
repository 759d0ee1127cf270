/* proxy: carries TCP connections on to another port.
 *
 * What one side sends is received into a buffer and sent from there to the other. When more than HIGH bytes wait for one side, the other is not read any more until they are gone: so back-pressure goes
 * through, and one pair of connections holds a bounded number of buffers. The end of one direction is carried across when all
 * before it was sent, and the other direction goes on; an error breaks both sides off. SIGTERM and SIGINT end it. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "proxy"
#define USAGE "usage: proxy [--port N] [--to N] [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>

#define PAIRS 64
#define BUFFER 4096
#define HIGH (2 * BUFFER)
#define LOW BUFFER
#define BUFFERS (2 * PAIRS * 3 + 1) /* two below the mark and one above it, for each direction */
#define CONNECT_WITHIN (10 * SECOND)

struct side {
  becket_handle stream;
  struct side *other;
  struct pair *pair;
  int has_ended, is_closed;
};

struct pair {
  struct side sides[2];
};

static BECKET_MEMORY(memory, 2 * PAIRS + 3, 0, 0); /* the listener and two signals beside them */
static BECKET_STREAMS(streams, 2 * PAIRS, BUFFERS, BUFFER);
static BECKET_POOL(pairs, PAIRS, sizeof(struct pair));
static struct sockaddr_in target;
static unsigned long long carried;

/* Both sides end at once. */
static void break_off(becket_loop *loop, struct pair *pair) {
  for (int i = 0; i < 2; i++)
    if (!pair->sides[i].is_closed) must("reset", becket_stream_reset(loop, pair->sides[i].stream));
}

static void carry(becket_loop *loop, struct side *from, const becket_event *event) {
  carried += (unsigned long long)event->value;
  int sent = becket_stream_forward(loop, from->other->stream, event->data, (size_t)event->value);
  if (sent < 0) break_off(loop, from->pair); /* -EPIPE: it takes nothing any more */
  if (sent == BECKET_SEND_FULL) must("pause", becket_stream_pause(loop, from->stream));
}

static void on_side(becket_loop *loop, const becket_event *event, void *user) {
  struct side *side = user;
  switch (event->flags) {
    case BECKET_STREAM_DATA: carry(loop, side, event); break;
    case BECKET_STREAM_SENT: break_off(loop, side->pair); break; /* it could not be sent */
    case BECKET_STREAM_LOW:
      if (!side->other->is_closed) must("resume", becket_stream_resume(loop, side->other->stream));
      break;
    case BECKET_STREAM_END:
      side->has_ended = 1;
      if (becket_stream_shutdown(loop, side->other->stream) < 0) break_off(loop, side->pair);
      if (side->other->has_ended) /* the end of both: what is queued is still sent */
        for (int i = 0; i < 2; i++) must("close", becket_stream_close(loop, side->pair->sides[i].stream));
      break;
    case BECKET_STREAM_CLOSED:
      side->is_closed = 1;
      if (event->value < 0) break_off(loop, side->pair);
      if (side->other->is_closed) must("put", becket_pool_put(&pairs, side->pair));
      break;
    default: break;
  }
}

static void on_listener(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  if (event->flags & BECKET_PAUSED) { /* it goes on by itself, when there is room */
    fail("listener", (int)event->value);
    return;
  }
  struct pair *pair = becket_pool_get(&pairs);
  if (pair == NULL) exit(fail("a connection without a place", -ENOBUFS)); /* there are half as many as streams */
  memset(pair, 0, sizeof *pair);
  for (int i = 0; i < 2; i++) {
    pair->sides[i].pair = pair;
    pair->sides[i].other = &pair->sides[1 - i];
  }
  struct side *side = pair->sides;
  int rc = becket_stream_add(loop, (int)event->value, BECKET_TRUSTED, on_side, &side[0], &side[0].stream);
  if (rc < 0) { /* on select -EINVAL from FD_SETSIZE on */
    fail("connection", rc);
    close((int)event->value);
    must("put", becket_pool_put(&pairs, pair));
    return;
  }
  rc = becket_stream_connect(loop, (struct sockaddr *)&target, sizeof target, CONNECT_WITHIN, on_side, &side[1], &side[1].stream);
  if (rc < 0) {
    fail("connect", rc);
    side[1].is_closed = 1;
    must("reset", becket_stream_reset(loop, side[0].stream));
    return;
  }
  for (int i = 0; i < 2; i++) must("watermarks", becket_stream_watermarks(loop, side[i].stream, LOW, HIGH));
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config, .streams = &streams};
  unsigned long port = 7008, to = 7007;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &port) &&
        !number_option(argv, &i, "--to", UINT16_MAX, &to))
      return usage(strcmp(argv[i], "--help") == 0);
  target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)to), .sin_addr = {htonl(INADDR_LOOPBACK)}};

  becket_loop *loop;
  becket_handle listener, signal;
  char address[BECKET_ADDRESS_TEXT_BYTES];
  snprintf(address, sizeof address, "127.0.0.1:%lu", port);
  /* Two sources for each connection, and so two streams: there is an even number of these. */
  const becket_listen_options options = {.size = sizeof options, .flags = BECKET_LISTEN_FOR_STREAMS, .places = 2};
  must("init", becket_loop_init(&loop, &memory, &config));
  must("listen", becket_listen(loop, address, &options, on_listener, NULL, &listener));
  must("address", becket_listener_text(loop, listener, address, sizeof address));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal));
  say("listening on %s (%s)", address, becket_backend_name(loop));
  must("run", becket_run(loop));
  must("loop", becket_loop_close(loop)); /* and all connections with it */
  say("ended: %llu bytes carried", carried);
  return EXIT_SUCCESS;
}
