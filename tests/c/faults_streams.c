/* A listener and streams while calls fail: every call that the library makes for them, for every reason that it can have, now or
 * later, once or for long, on every backend. Each request that was accepted is done once, each stream ends once, with a reason that
 * there is; no turn spins; and when the fault is gone connections come and go, and no descriptor is left behind.
 *
 * Linked with interpose_faults.c. What the test does for itself while something fails goes by syscall(2), which is not watched. */
#define _GNU_SOURCE
#define TURN_CALLS 300
#define TELLS_EINTR 1 /* by fcntl(2), of a socket that is to be a stream */
#include "faulty.h"
#include <netinet/in.h>
#include <sys/socket.h>

enum { STREAMS = 4, BUFFERS = 2, BUFFER = 256, REQUESTS = 3 };
static BECKET_MEMORY(memory, STREAMS + 2, 0, 0);
static BECKET_STREAMS(stream_memory, STREAMS, BUFFERS, BUFFER);
static BECKET_RING(ring, 8);

/* ------------------------------------------------------------------------------------------------ streams that talk */

struct request {
  becket_send_request request;
  int queued; /* it is not done */
};

struct stream {
  becket_handle handle; /* 0: there is none, or it has ended */
  struct request requests[REQUESTS];
  char in[512];
  size_t received;
  int is_server, connected, ended, times; /* that it was there */
  int64_t result;                         /* what it ended with */
};

static struct stream client, server, third;
static struct stream *const all[] = {&client, &server, &third};
static const char words[] = "what is sent comes back";
static int file, peer; /* of the third */
static becket_handle listener;
static unsigned pauses;

/* What something may have come to while a call fails: the reason; or the other side has given up. */
static int is_excused(int64_t value) {
  if (value == 0) return 1;
  if (reason == NULL) return 0;
  return value == -reason->error || value == -ECONNRESET || value == -EPIPE || value == -ECONNREFUSED || value == -ECANCELED;
}

static void note_done(struct stream *stream, struct request *request, int64_t value) {
  CHECK(request >= stream->requests && request < stream->requests + REQUESTS && request->queued);
  request->queued = 0;
  CHECK(value > 0 || is_excused(value) || value == -ECANCELED);
}

/* Sends in the first request that is free. */
static void send_some(struct stream *stream, const void *data, size_t length) {
  for (struct request *request = stream->requests; request < stream->requests + REQUESTS; request++) {
    if (request->queued) continue;
    int code = data != NULL ? becket_stream_send(loop, stream->handle, &request->request, data, length)
                            : becket_stream_sendfile(loop, stream->handle, &request->request, file, 0, length);
    if (code == -EPIPE) EQUAL(becket_stream_reset(loop, stream->handle), 0); /* sending has failed, and the peer waits */
    if (code == -EPIPE) return;
    if (code >= 0) request->queued = code != BECKET_SEND_DONE;
    else CHECK(good(code));
    return;
  }
}

static void on_stream(becket_loop *same, const becket_event *event, void *user) {
  struct stream *stream = user;
  CHECK(same == loop && event->kind == BECKET_KIND_STREAM && stream->handle != 0 && event->handle == stream->handle);
  if (event->flags & BECKET_STREAM_CONNECTED) {
    CHECK(stream == &client && !stream->connected);
    stream->connected = 1;
  } else if (event->flags & BECKET_STREAM_DATA) {
    CHECK(event->value > 0 && stream->received + (size_t)event->value <= sizeof stream->in && !stream->ended);
    memcpy(stream->in + stream->received, event->data, (size_t)event->value);
    if (stream->is_server && stream->received == 0) {
      send_some(stream, stream->in + stream->received, (size_t)event->value);
    } else if (stream->is_server) {
      int code = becket_stream_forward(loop, stream->handle, event->data, (size_t)event->value);
      CHECK(code == BECKET_SEND_DONE || code == BECKET_SEND_FULL || code == -EPIPE);
      if (code == -EPIPE) EQUAL(becket_stream_reset(loop, stream->handle), 0);
    }
    stream->received += (size_t)event->value;
  } else if (event->flags & BECKET_STREAM_END) {
    CHECK(!stream->ended);
    stream->ended = 1;
    EQUAL(becket_stream_close(loop, stream->handle), 0);
  } else if (event->flags & BECKET_STREAM_SENT) {
    if (event->data != NULL) note_done(stream, event->data, event->value);
    else CHECK(event->value < 0 && is_excused(event->value));
    if (event->value < 0 && event->value != -ECANCELED) EQUAL(becket_stream_reset(loop, stream->handle), 0);
  } else if (event->flags & BECKET_STREAM_CLOSED) {
    CHECK(is_excused(event->value) || (stream == &third && event->value == -ECANCELED));
    for (int i = 0; i < REQUESTS; i++) CHECK(!stream->requests[i].queued);
    stream->result = event->value;
    stream->handle = 0;
  } else {
    CHECK((event->flags & BECKET_STREAM_LOW) != 0);
  }
}

static void on_connection(becket_loop *same, const becket_event *event, void *user) {
  CHECK(same == loop && event->kind == BECKET_KIND_LISTENER && event->handle == listener && user == NULL);
  if (event->flags & BECKET_PAUSED) {
    pauses++;
    CHECK(reason != NULL && event->value == -reason->error);
    return;
  }
  int fd = (int)event->value;
  CHECK(fd >= 0 && server.handle == 0);
  server = (struct stream){.is_server = 1, .times = server.times + 1};
  if (!good(becket_stream_add(loop, fd, 0, on_stream, &server, &server.handle))) {
    EQUAL(server.handle, 0);
    close_own(fd); /* it is ours still */
  }
}

static void begin(void) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  const becket_listen_options options = {.size = sizeof options, .flags = BECKET_LISTEN_FOR_STREAMS};
  int fds[2], before = open_fds();
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i] = (struct stream){0};
  listener = 0;
  pauses = 0;
  /* Where no other test connects: one that expects to be refused may try a port that has just become this one's. */
  if (!good(becket_listen(loop, "127.0.0.2:0", &options, on_connection, NULL, &listener))) {
    CHECK(listener == 0 && open_fds() == before);
  } else if (good(becket_listener_address(loop, listener, (struct sockaddr *)&address, &length))) {
    before = open_fds();
    client.times = 1;
    if (good(becket_stream_connect(loop, (struct sockaddr *)&address, length, 10 * SECOND, on_stream, &client, &client.handle))) {
      send_some(&client, words, sizeof words);
      send_some(&client, NULL, 16);
      int code = becket_stream_shutdown(loop, client.handle);
      CHECK(code == 0 || code == -EPIPE);
      if (code == -EPIPE) EQUAL(becket_stream_reset(loop, client.handle), 0);
    } else {
      CHECK(client.handle == 0 && open_fds() == before);
    }
  }
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  peer = fds[1];
  if (good(becket_stream_add(loop, fds[0], 0, on_stream, &third, &third.handle))) {
    CHECK(syscall(SYS_write, peer, "hello", (size_t)5, 0, 0, 0) == 5);
  } else {
    EQUAL(third.handle, 0);
    close_own(fds[0]);
  }
  turns(6, 0);
  turns(2, (int64_t)MILLISECOND / 4);
  if (third.handle != 0) {
    send_some(&third, "x", 1);
    EQUAL(becket_stream_reset(loop, third.handle), 0);
  }
  turns(1, 0);
}

/* Nothing fails any more: all that was begun ends. */
static void finish(void) {
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    while (all[i]->handle != 0) CHECK(becket_turn(loop, GUARD) >= 0);
  CHECK(statistics_of(loop).sources == (listener != 0));
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  if (listener != 0) EQUAL(becket_listener_close(loop, listener), 0);
  while (becket_turn(loop, 0) > 0) continue;
  EQUAL(statistics_of(loop).sources, 0);
  close_own(peer);
}

/* All goes well again, in the same loop. */
static void work(void) {
  const struct fault_reason *before = reason;
  reason = NULL;
  begin();
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    while (all[i]->handle != 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(pauses, 0);
  EQUAL(client.received, sizeof words + 16);
  CHECK(memcmp(client.in, words, sizeof words) == 0 && memcmp(client.in + sizeof words, "0123456789abcdef", 16) == 0);
  CHECK(client.result == 0 && server.result == 0 && third.result == -ECANCELED && server.times == 1);
  finish();
  turns(1, (int64_t)MILLISECOND / 2); /* at rest it sleeps */
  reason = before;
}

/* One life, with the n-th call failing, and the next ones too. Whether anything failed. */
static int try(uint32_t backend, unsigned long first, unsigned long times, int closes) {
  becket_config config = {.size = sizeof config, .backend = backend, .ring = &ring, .streams = &stream_memory};
  int before = open_fds(), struck = 0;
  loop = NULL;
  if (times > 0) fault_set(reason, first, times);
  if (good(becket_loop_init(&loop, &memory, &config))) {
    begin();
    if (times == FAULT_ALWAYS && first == 1) rest();
    if (closes) {
      /* With all that there is, while something fails. */
      EQUAL(becket_loop_close(loop), 0);
      close_own(peer);
      struck = fault_clear() > 0;
    } else {
      struck = fault_clear() > 0 && times > 0;
      finish();
      work();
      EQUAL(becket_loop_close(loop), 0);
    }
  } else {
    struck = fault_clear() > 0;
    CHECK(loop == NULL && struck);
  }
  EQUAL(open_fds(), before);
  return struck;
}

/* Whether the archive has streams. */
static int are_built_in(void) {
  becket_config config = {.size = sizeof config, .streams = &stream_memory};
  struct sockaddr_in address = {.sin_family = AF_INET};
  becket_handle handle = 0;
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  int code = becket_stream_connect(loop, (struct sockaddr *)&address, sizeof address, 0, on_stream, NULL, &handle);
  EQUAL(becket_loop_close(loop), 0);
  return code != -ENOTSUP;
}

int main(void) {
  static const unsigned long few[] = {1, 4, 0}, all_firsts[] = {1, 2, 3, 4, 5, 6, 8, 11, 15, 0};
  const int thorough = getenv("BECKET_FAULTS_ALL") != NULL, under_valgrind = getenv("TEST_UNDER_VALGRIND") != NULL;
  const unsigned long *firsts = thorough ? all_firsts : few;
  char path[] = "/tmp/becket-faults-XXXXXX";
  alarm(600); /* a hang is a failure */
  file = mkostemp(path, O_CLOEXEC);
  CHECK(file >= 0 && unlink(path) == 0 && write(file, "0123456789abcdef", 16) == 16);
  if (!are_built_in()) return 0;
  unsigned long lives = 0, struck = 0;
  for (uint32_t backend = BECKET_BACKEND_SELECT; backend != 0; backend = next_backend(backend)) {
    unsigned long before[FAULT_REASONS];
    int occurs[FAULT_REASONS];
    reason = NULL;
    check_context = "nothing fails";
    for (unsigned at = 0; fault_reason(at) != NULL; at++) before[at] = fault_calls(fault_reason(at)->call);
    CHECK(!try(backend, 1, 0, 0));
    for (unsigned at = 0; fault_reason(at) != NULL; at++) occurs[at] = fault_calls(fault_reason(at)->call) > before[at];
    for (unsigned at = 0; (reason = fault_reason(at)) != NULL; at++) {
      char context[128];
      if (!occurs[at]) continue;
      check_context = context;
      for (size_t n = 0; firsts[n] != 0 && !(under_valgrind && n > 0); n++) {
        static const char *const hows[] = {"once", "often", "often, and closed,"};
        for (int kind = 0; kind < 3; kind++) {
          snprintf(context, sizeof context, "backend %s, %s %s, %s from %lu on", backend_name(backend), reason->call, reason->name,
                   hows[kind], firsts[n]);
          lives += 1;
          if (!try(backend, firsts[n], kind == 0 ? 1 : reason->lasting ? FAULT_ALWAYS : 3, kind == 2)) break;
          struck += 1;
        }
      }
    }
  }
  CHECK(struck > 50);
  close(file);
  printf("%lu lives, %lu with faults\n", lives, struck);
  return 0;
}
