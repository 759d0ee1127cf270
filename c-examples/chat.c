/* chat: what one client says, all others read; lines, over TCP.
 *
 * A line is one message in a pool, however many clients it still has to be sent to: each of them has a few letters, which
 * lead to messages, and the last letter gives the message back. A client whose letters are all on their way does not read: it is
 * dropped, and nobody waits for it. So the memory is bounded, and no client can hold up another. SIGTERM and SIGINT end it. */
#define PROGRAM "chat"
#define USAGE "usage: chat [--port N] [--backend auto|select|poll|epoll|uring]\n"
#include "example.h"
#include <errno.h>
#include <signal.h>

#define CLIENTS 64
#define LETTERS 16
#define LINE 512 /* bytes; a longer line is sent in pieces */

struct message {
  uint32_t letters; /* that lead to it */
  uint32_t length;
  char text[LINE + 16]; /* with who has said it */
};

struct client {
  becket_handle stream; /* 0: the place is free */
  int going;            /* it hears nothing more */
  size_t length;        /* of the line that is not complete */
  char line[LINE];
  struct letter {
    becket_send_request request; /* comes first: an event leads to it */
    struct message *message;     /* NULL: it is free */
  } letters[LETTERS];
};

static struct client clients[CLIENTS];
static BECKET_POOL(messages, CLIENTS * LETTERS + 1, sizeof(struct message)); /* each letter may lead to another */
static BECKET_STREAMS(streams, CLIENTS, 1, 4096);
static BECKET_MEMORY(memory, CLIENTS + 3, 0, 0); /* the listener and two signals beside them */
static unsigned long lines, dropped;

static void send_letter(becket_loop *loop, struct client *to, struct message *message) {
  struct letter *letter = to->letters;
  while (letter < to->letters + LETTERS && letter->message != NULL) letter++;
  if (letter == to->letters + LETTERS) {
    must("reset", becket_stream_reset(loop, to->stream));
    to->going = 1;
    dropped += 1;
    say("%d dropped: it does not read", (int)(to - clients));
    return;
  }
  int rc = becket_stream_send(loop, to->stream, &letter->request, message->text, message->length);
  if (rc == BECKET_SEND_QUEUED || rc == BECKET_SEND_FULL) {
    letter->message = message;
    message->letters += 1;
  } else if (rc != BECKET_SEND_DONE && rc != -EPIPE) { /* -EPIPE: nobody reads it, and its end is on its way */
    must("send", rc);
  }
}

/* Sends the line of a client to all others. */
static void broadcast(becket_loop *loop, struct client *from) {
  struct message *message = becket_pool_get(&messages); /* there always is one */
  int length = snprintf(message->text, sizeof message->text, "%d: ", (int)(from - clients));
  memcpy(message->text + length, from->line, from->length);
  message->length = (uint32_t)((size_t)length + from->length);
  message->text[message->length++] = '\n';
  message->letters = 0;
  for (struct client *to = clients; to < clients + CLIENTS; to++)
    if (to->stream != 0 && !to->going && to != from) send_letter(loop, to, message);
  if (message->letters == 0) must("put", becket_pool_put(&messages, message));
  from->length = 0;
  lines += 1;
}

static void on_stream(becket_loop *loop, const becket_event *event, void *user) {
  struct client *client = user;
  if (event->flags & BECKET_STREAM_DATA) {
    const char *bytes = event->data;
    for (int64_t i = 0; i < event->value; i++) {
      if (bytes[i] != '\n') client->line[client->length++] = bytes[i];
      if (bytes[i] == '\n' || client->length == LINE) broadcast(loop, client);
    }
  } else if (event->flags & BECKET_STREAM_SENT) {
    struct letter *letter = (struct letter *)event->data;
    struct message *message = letter->message;
    letter->message = NULL;
    if (--message->letters == 0) must("put", becket_pool_put(&messages, message));
  } else if (event->flags & BECKET_STREAM_END) {
    must("close", becket_stream_close(loop, event->handle));
    client->going = 1;
  } else if (event->flags & BECKET_STREAM_CLOSED) {
    client->stream = 0;
    say("%d has gone", (int)(client - clients));
  }
}

static void on_listener(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  if (event->value < 0) return; /* no room, for a while: it goes on by itself */
  struct client *client = clients;
  while (client->stream != 0) client++; /* there is one for each stream */
  memset(client, 0, sizeof *client);
  int fd = (int)event->value, rc = becket_stream_add(loop, fd, BECKET_TRUSTED, on_stream, client, &client->stream);
  if (rc == 0) {
    say("%d has come", (int)(client - clients));
    return;
  }
  fail("client", rc);
  close(fd);
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  becket_config config = {.size = sizeof config, .streams = &streams};
  const becket_listen_options options = {.size = sizeof options, .flags = BECKET_LISTEN_FOR_STREAMS};
  unsigned long port = 7007;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--port", UINT16_MAX, &port))
      return usage(strcmp(argv[i], "--help") == 0);

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
  must("loop", becket_loop_close(loop));
  say("ended: %lu lines, %lu dropped", lines, dropped);
  return EXIT_SUCCESS;
}
