/* line: a server that answers every line with its number and the line in upper case.
 *
 * No line is longer than LINE_MAX, and no client makes the server remember more of it than one line, one buffer that it has
 * sent, and one answer that it has not taken yet: until that is gone nothing more of it is received, so a client that only talks
 * stands still, and the others do not. "quit" ends a connection after the last answer. SIGTERM and SIGINT end the server. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "line"
#define USAGE "usage: line [--port N] [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <ctype.h>
#include <errno.h>
#include <signal.h>

#define CONNECTIONS 256
#define LINE_MAX 512
#define IDLE_TIMEOUT (60 * SECOND)

struct connection {
  becket_handle stream;
  const char *rest, *rest_end; /* what was received and not looked at yet */
  const void *kept;            /* the buffer that it is in, if it had to be kept */
  unsigned long lines;
  int is_over; /* nothing more is looked at */
  int answering;
  becket_send_request request;
  size_t line_length, answer_length;
  char line[LINE_MAX], answer[4 * LINE_MAX];
};

static BECKET_MEMORY(memory, CONNECTIONS + 3, 0, 0);          /* the listener and two signals beside them */
static BECKET_STREAMS(streams, CONNECTIONS, CONNECTIONS + 1, 1024); /* a buffer that each may keep */
static BECKET_POOL(connections, CONNECTIONS, sizeof(struct connection));

static void add_answer(struct connection *it, const char *text, size_t length) {
  memcpy(it->answer + it->answer_length, text, length);
  it->answer_length += length;
}

static void answer_line(struct connection *it) {
  if (it->line_length > 0 && it->line[it->line_length - 1] == '\r') it->line_length--;
  if (it->line_length == 4 && memcmp(it->line, "quit", 4) == 0) {
    it->is_over = 1;
    return;
  }
  char number[32];
  int length = snprintf(number, sizeof number, "%lu ", ++it->lines);
  add_answer(it, number, (size_t)length);
  for (size_t i = 0; i < it->line_length; i++) it->line[i] = (char)toupper((unsigned char)it->line[i]);
  add_answer(it, it->line, it->line_length);
  add_answer(it, "\n", 1);
  it->line_length = 0;
}

/* Looks at what was received for as long as there is room for an answer. */
static void look(struct connection *it) {
  while (it->rest < it->rest_end && !it->is_over && it->answer_length + LINE_MAX + 64 < sizeof it->answer) {
    char c = *it->rest++;
    if (c == '\n') {
      answer_line(it);
    } else if (it->line_length < sizeof it->line) {
      it->line[it->line_length++] = c;
    } else {
      add_answer(it, "the line is too long\n", 21);
      it->is_over = 1;
    }
  }
  if (it->is_over) it->rest = it->rest_end;
}

static void go_on(becket_loop *loop, struct connection *it) {
  do {
    look(it);
    if (it->answer_length == 0) break;
    int sent = becket_stream_send(loop, it->stream, &it->request, it->answer, it->answer_length);
    if (sent < 0) { /* the client has gone: CLOSED follows */
      it->is_over = 1;
      it->rest = it->rest_end;
    }
    it->answering = sent > 0;
    if (sent <= 0) it->answer_length = 0;
  } while (!it->answering && it->rest < it->rest_end);

  if (it->rest < it->rest_end && it->kept == NULL) { /* there is more, which has to wait */
    must("keep", becket_stream_keep(loop, it->rest));
    it->kept = it->rest;
  } else if (it->rest == it->rest_end && it->kept != NULL) {
    must("release", becket_stream_release(loop, it->kept));
    it->kept = NULL;
  }
  if (it->is_over) must("close", becket_stream_close(loop, it->stream));
  else if (it->answering) must("pause", becket_stream_pause(loop, it->stream));
  else must("resume", becket_stream_resume(loop, it->stream));
}

static void on_connection(becket_loop *loop, const becket_event *event, void *user) {
  struct connection *it = user;
  switch (event->flags) {
    case BECKET_STREAM_DATA:
      it->rest = event->data;
      it->rest_end = it->rest + event->value;
      go_on(loop, it);
      break;
    case BECKET_STREAM_SENT:
      it->answering = 0;
      it->answer_length = 0;
      if (!it->is_over && event->value >= 0) go_on(loop, it);
      break;
    case BECKET_STREAM_END: /* a line that did not end is none */
      it->is_over = 1;
      go_on(loop, it);
      break;
    case BECKET_TIMEOUT: /* it says nothing, or does not read what it is told */
      must("reset", becket_stream_reset(loop, event->handle));
      break;
    case BECKET_STREAM_CLOSED:
      if (it->kept != NULL) must("release", becket_stream_release(loop, it->kept));
      must("put", becket_pool_put(&connections, it));
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
  struct connection *it = becket_pool_get(&connections);
  if (it == NULL) exit(fail("a connection without a place", -ENOBUFS)); /* there are as many as there are streams */
  memset(it, 0, sizeof *it);
  int rc = becket_stream_add(loop, (int)event->value, BECKET_TRUSTED, on_connection, it, &it->stream);
  if (rc < 0) { /* on select -EINVAL from FD_SETSIZE on */
    fail("connection", rc);
    close((int)event->value);
    must("put", becket_pool_put(&connections, it));
    return;
  }
  must("timeout", becket_io_timeout(loop, it->stream, IDLE_TIMEOUT));
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config, .streams = &streams};
  unsigned long port = 7007;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &port))
      return usage(strcmp(argv[i], "--help") == 0);

  becket_loop *loop;
  becket_handle listener, signal;
  char address[BECKET_ADDRESS_TEXT_BYTES];
  snprintf(address, sizeof address, "127.0.0.1:%lu", port);
  const becket_listen_options options = {.size = sizeof options, .flags = BECKET_LISTEN_FOR_STREAMS};
  must("init", becket_loop_init(&loop, &memory, &config));
  must("listen", becket_listen(loop, address, &options, on_listener, NULL, &listener));
  must("address", becket_listener_text(loop, listener, address, sizeof address));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal));
  say("listening on %s (%s)", address, becket_backend_name(loop));
  must("run", becket_run(loop));
  must("loop", becket_loop_close(loop)); /* and all connections with it */
  say("ended");
  return EXIT_SUCCESS;
}
