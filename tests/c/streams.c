/* Streams from C, on every backend and in the simulator: receiving, sending, back-pressure, half-close, ends of every kind, buffers,
 * datagrams, connecting, what misuse answers; and two streams that talk at random, under faults. */
#define _GNU_SOURCE
#include "check.h"
#include "tcp_pair.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { STREAMS = 6, BUFFERS = 4, BUFFER = 1024, SIMULATOR = 5 };

static BECKET_MEMORY(memory, 10, 2, 0);
static BECKET_STREAMS(streams, STREAMS, BUFFERS, BUFFER);
static BECKET_SIMULATOR(world, 16, 64);

static uint32_t now_backend;
static becket_loop *loop;
static becket_simulator *sim;

static void open_with(const becket_streams *of, uint32_t flags, uint64_t seed) {
  becket_config config = {.size = sizeof config, .backend = now_backend, .flags = flags, .streams = of};
  sim = NULL;
  if (now_backend == SIMULATOR) {
    EQUAL(becket_simulator_init(&sim, &world, seed), 0);
    config.backend = 0;
    config.simulator = sim;
  }
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
}

static void open_loop(uint32_t flags) { open_with(&streams, flags, 1); }

static void close_loop(void) {
  becket_statistics statistics = statistics_of(loop);
  EQUAL(statistics.sources, 0);
  EQUAL(statistics.stale_dropped, 0);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ the other side */

/* Two ends: the first is for a stream. */
static void pair_of(int fds[2]) {
  if (sim) {
    EQUAL(becket_sim_pair(sim, fds), 0);
  } else {
    EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
  }
}

/* The same of a connection that can be broken off. */
static void tcp_pair_of(int fds[2]) {
  if (sim) {
    pair_of(fds);
  } else {
    int size = 16384; /* so that big is more than fits */
    tcp_pair(fds);
    CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
  }
}

static int64_t peer_read(int fd, void *buffer, size_t length) {
  if (sim) return becket_sim_read(sim, fd, buffer, length);
  ssize_t count = recv(fd, buffer, length, MSG_DONTWAIT);
  return count < 0 ? -errno : count;
}

static int64_t peer_write(int fd, const void *buffer, size_t length) {
  if (sim) return becket_sim_write(sim, fd, buffer, length);
  ssize_t count = send(fd, buffer, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  return count < 0 ? -errno : count;
}

static void peer_shutdown(int fd) { EQUAL(sim ? becket_sim_shutdown(sim, fd) : shutdown(fd, SHUT_WR), 0); }

static void peer_close(int fd) { EQUAL(sim ? becket_sim_close(sim, fd) : close(fd), 0); }

static void peer_reset(int fd) {
  if (sim) {
    EQUAL(becket_sim_reset(sim, fd, 0), 0);
    EQUAL(becket_sim_close(sim, fd), 0);
    return;
  }
  struct linger linger = {1, 0};
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
  close(fd);
}

/* Waits until the peer can read: what is sent through the loopback device arrives by itself. */
static void peer_wait(int fd) {
  if (sim) return;
  struct pollfd it = {fd, POLLIN, 0};
  EQUAL(poll(&it, 1, 20000), 1);
}

/* Reads just so much. */
static void peer_reads(int fd, const char *expected) {
  char text[256];
  size_t count = 0, length = strlen(expected);
  while (count < length) {
    peer_wait(fd);
    int64_t got = peer_read(fd, text + count, length - count);
    CHECK(got > 0);
    count += (size_t)got;
  }
  CHECK(memcmp(text, expected, length) == 0);
}

static void peer_sees(int fd, int64_t answer) {
  char byte;
  peer_wait(fd);
  EQUAL(peer_read(fd, &byte, 1), answer);
}

/* ------------------------------------------------------------------------------------------------ events */

/* What a stream has told, as text; and what its handler does beyond that. */
struct trace {
  char text[4096];
  becket_handle handle;
  void *data;
  int keeps, closed;
  uint64_t bytes;
  becket_handle forwards; /* to this stream */
  int forwarded;
};

static void note(struct trace *trace, const char *format, ...) {
  size_t used = strlen(trace->text);
  va_list arguments;
  va_start(arguments, format);
  int more = vsnprintf(trace->text + used, sizeof trace->text - used, format, arguments);
  va_end(arguments);
  CHECK(more >= 0 && (size_t)more < sizeof trace->text - used);
}

static void on_event(becket_loop *it, const becket_event *event, void *user) {
  struct trace *trace = user;
  CHECK(it == loop && event->kind == BECKET_KIND_STREAM && event->handle == trace->handle);
  EQUAL(trace->closed, 0);
  uint32_t flags = event->flags & ~BECKET_TRIGGERED;
  CHECK((flags & (flags - 1)) == 0);
  switch (flags) {
    case BECKET_STREAM_CONNECTED: note(trace, "connected;"); break;
    case BECKET_STREAM_DATA:
      trace->bytes += event->value > 0 ? (uint64_t)event->value : 0;
      if (event->value < 0) {
        note(trace, "failed %d;", (int)event->value);
        CHECK(event->data == NULL);
      } else if (event->value < 64) {
        note(trace, "data %.*s;", (int)event->value, (const char *)event->data);
      } else {
        note(trace, "data;");
      }
      trace->data = event->data;
      if (trace->keeps) EQUAL(becket_stream_keep(loop, event->data), 0);
      if (trace->forwards) trace->forwarded = becket_stream_forward(loop, trace->forwards, event->data, (size_t)event->value);
      break;
    case BECKET_STREAM_END: note(trace, "end;"); break;
    case BECKET_STREAM_SENT: {
      becket_send_request *request = event->data;
      if (request == NULL) {
        CHECK(event->value < 0);
        note(trace, "lost;");
        break;
      }
      note(trace, "sent %s%lld;", request->user ? (const char *)request->user : "", (long long)event->value);
      break;
    }
    case BECKET_STREAM_LOW: note(trace, "low;"); break;
    case BECKET_STREAM_CLOSED:
      note(trace, "closed %d;", (int)event->value);
      trace->closed = 1;
      EQUAL(becket_stream_close(loop, event->handle), -ESTALE);
      EQUAL(becket_kind(loop, event->handle), -ESTALE);
      break;
    case BECKET_TIMEOUT: note(trace, "timeout;"); break;
    case BECKET_DEADLINE: note(trace, "deadline;"); break;
    case 0: CHECK(event->flags & BECKET_TRIGGERED); break;
    default: CHECK(!"one flag");
  }
  if (event->flags & BECKET_TRIGGERED) note(trace, "triggered;");
}

static void add_stream(struct trace *trace, int fd) {
  memset(trace, 0, sizeof *trace);
  EQUAL(becket_stream_add(loop, fd, 0, on_event, trace, &trace->handle), 0);
}

static void turn(int64_t timeout) { CHECK(becket_turn(loop, timeout) >= 0); }

/* Turns until the stream has told just that, and forgets it. */
static void until(struct trace *trace, const char *expected) {
  while (strlen(trace->text) < strlen(expected) && strncmp(trace->text, expected, strlen(trace->text)) == 0) turn(GUARD);
  if (strcmp(trace->text, expected) != 0) fprintf(stderr, "it told: %s\n", trace->text);
  CHECK(strcmp(trace->text, expected) == 0);
  trace->text[0] = 0;
}

/* A few turns bring nothing. */
static void silent(struct trace *trace) {
  for (int i = 0; i < 4; i++) EQUAL(becket_turn(loop, 0), 0);
  EQUAL(strlen(trace->text), 0);
}

static uint64_t queued(const struct trace *trace) {
  uint64_t bytes = 12345;
  EQUAL(becket_stream_queued(loop, trace->handle, &bytes), 0);
  return bytes;
}

static void end(struct trace *trace, int peer) {
  EQUAL(becket_stream_close(loop, trace->handle), 0);
  EQUAL(becket_stream_close(loop, trace->handle), 0);
  until(trace, "closed 0;");
  peer_close(peer);
}

/* ------------------------------------------------------------------------------------------------ simple things */

static void echo_and_end(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  EQUAL(becket_kind(loop, trace.handle), BECKET_KIND_STREAM);
  EQUAL(becket_io_fd(loop, trace.handle), fds[0]);
  silent(&trace);
  EQUAL(peer_write(fds[1], "hello", 5), 5);
  until(&trace, "data hello;");
  EQUAL(becket_stream_buffers(loop), BUFFERS); /* it was not kept */
  becket_send_request request = {0};
  EQUAL(becket_stream_send(loop, trace.handle, &request, "HELLO", 5), BECKET_SEND_DONE);
  peer_reads(fds[1], "HELLO");
  EQUAL(becket_stream_send(loop, trace.handle, &request, NULL, 0), BECKET_SEND_DONE);
  silent(&trace);
  peer_shutdown(fds[1]);
  until(&trace, "end;");
  silent(&trace);
  EQUAL(becket_stream_send(loop, trace.handle, &request, "late", 4), BECKET_SEND_DONE);
  peer_reads(fds[1], "late");
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  EQUAL(becket_stream_send(loop, trace.handle, &request, "later", 5), -EPIPE);
  until(&trace, "closed 0;");
  if (!sim) CHECK(fcntl(fds[0], F_GETFD) < 0 && errno == EBADF);
  peer_sees(fds[1], 0);
  peer_close(fds[1]);
  close_loop();
}

/* A peer that sends a byte at a time, each of which is told. */
static void byte_by_byte(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  for (int i = 0; i < 20; i++) {
    EQUAL(peer_write(fds[1], "x", 1), 1);
    until(&trace, "data x;");
  }
  EQUAL(statistics_of(loop).events_stream, 20);
  end(&trace, fds[1]);
  close_loop();
}

static void a_trigger_a_post_and_a_level(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  EQUAL(becket_trigger(loop, trace.handle, BECKET_READABLE), -EINVAL);
  EQUAL(becket_trigger(loop, trace.handle, 0), 0);
  until(&trace, "triggered;");
  EQUAL(becket_wake(loop, trace.handle), 0);
  until(&trace, "triggered;");
  EQUAL(becket_set_level(loop, trace.handle, 2), 0);
  EQUAL(peer_write(fds[1], "a", 1), 1);
  until(&trace, "data a;");
  becket_event event;
  EQUAL(becket_post(loop, trace.handle, 7), 0);
  EQUAL(becket_next(loop, BECKET_KIND_POST, &event), 1);
  CHECK(event.value == 7 && event.data == NULL && event.handle == trace.handle && event.level == 2);
  /* A trigger together with something else. */
  EQUAL(becket_trigger(loop, trace.handle, 0), 0);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  until(&trace, "closed 0;triggered;");
  peer_close(fds[1]);
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ sending */

static char big[1 << 20], bigger[1 << 20];

static void fill_big(void) {
  uint32_t state = 1;
  for (size_t i = 0; i < sizeof big; i++) {
    state = state * 1664525 + 1013904223;
    big[i] = (char)(state >> 24);
  }
}

/* Reads so many bytes at the peer, while the loop turns. */
static void drain_peer(int fd, size_t count) {
  size_t got = 0;
  while (got < count) {
    int64_t now = peer_read(fd, bigger + got, count - got);
    if (now == -EAGAIN) {
      turn(sim ? GUARD : 10 * (int64_t)MILLISECOND);
      continue;
    }
    CHECK(now > 0);
    got += (size_t)now;
  }
}

static void a_peer_that_does_not_read(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  size_t each = sim ? 200 : sizeof big / 4;
  EQUAL(becket_stream_watermarks(loop, trace.handle, 2, 1), -EINVAL);
  EQUAL(becket_stream_watermarks(loop, trace.handle, 100, sim ? 250 : 300000), 0);
  uint32_t low = 0, high = 0;
  EQUAL(becket_stream_get_watermarks(loop, trace.handle, &low, &high), 0);
  EQUAL(becket_stream_get_watermarks(loop, trace.handle, NULL, NULL), 0);
  EQUAL(low, 100);
  EQUAL(high, sim ? 250 : 300000);
  becket_send_request requests[3] = {{.user = "a "}, {.user = "b "}, {.user = "c "}};
  EQUAL(queued(&trace), 0);
  int first = becket_stream_send(loop, trace.handle, &requests[0], big, each);
  if (sim) { /* (it takes 256 bytes) */
    EQUAL(first, BECKET_SEND_DONE);
    EQUAL(becket_stream_send(loop, trace.handle, &requests[0], big + each, 56 + each), BECKET_SEND_QUEUED);
  } else {
    EQUAL(first, BECKET_SEND_QUEUED);
  }
  /* What is in use is refused, and changes nothing. */
  uint64_t before = queued(&trace);
  CHECK(before > 0);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], "x", 1), -EBUSY);
  EQUAL(queued(&trace), before);
  size_t at = sim ? 56 + 2 * each : each;
  struct iovec parts[4] = {{big + at, 1}, {NULL, 0}, {big + at + 1, each - 3}, {big + at + each - 2, 2}};
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[1], parts, 4), BECKET_SEND_FULL);
  at += each;
  EQUAL(becket_stream_send(loop, trace.handle, &requests[2], big + at, each), BECKET_SEND_FULL);
  at += each;
  EQUAL(queued(&trace), before + 2 * each);
  silent(&trace); /* and no spin: */
  uint64_t turns = statistics_of(loop).turns;
  EQUAL(becket_turn(loop, 20 * (int64_t)MILLISECOND), 0);
  CHECK(statistics_of(loop).turns <= turns + 2);
  drain_peer(fds[1], at);
  char expected[128];
  snprintf(expected, sizeof expected, "sent a %zu;sent b %zu;", sim ? 56 + each : each, each);
  turn(0);
  /* The queue was above its mark until little of the last was left, or nothing. */
  CHECK(strncmp(trace.text, expected, strlen(expected)) == 0);
  snprintf(expected, sizeof expected, "sent c %zu;", each);
  CHECK(strstr(trace.text, expected) != NULL);
  char *told = strstr(trace.text, "low;");
  CHECK(told != NULL && strstr(told + 1, "low;") == NULL);
  trace.text[0] = 0;
  CHECK(memcmp(big, bigger, at) == 0);
  EQUAL(queued(&trace), 0);
  silent(&trace);
  end(&trace, fds[1]);
  close_loop();
}

/* What was sent at once leaves nothing to wait for. */
static void nothing_is_left_of_a_send(void) {
  open_loop(now_backend == SIMULATOR ? 0 : BECKET_VIRTUAL_CLOCK);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  silent(&trace);
  becket_send_request request = {0};
  EQUAL(becket_stream_send(loop, trace.handle, &request, "hello", 5), BECKET_SEND_DONE);
  silent(&trace);
  uint64_t before = becket_now(loop), turns = statistics_of(loop).turns;
  EQUAL(becket_turn(loop, (int64_t)SECOND), 0);
  EQUAL(becket_now(loop) - before, SECOND);
  EQUAL(statistics_of(loop).turns, turns + 1);
  peer_reads(fds[1], "hello");
  end(&trace, fds[1]);
  close_loop();
}

/* What is taken back is done with what was sent of it, in its order, and what stands behind it goes. */
static void taken_back(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  size_t each = sim ? 200 : sizeof big / 4, sent = 0;
  becket_send_request requests[3] = {{.user = "a "}, {.user = "b "}, {.user = "c "}};
  EQUAL(becket_stream_cancel(loop, trace.handle, &requests[0]), 0); /* nothing happens */
  while (becket_stream_send(loop, trace.handle, &requests[0], big + sent, each) == BECKET_SEND_DONE) sent += each;
  uint64_t left = queued(&trace);
  CHECK(left > 0 && left < each); /* some of it has been sent */
  struct iovec parts[2] = {{big, 1}, {big + 1, each - 1}};
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[1], parts, 2), sim ? BECKET_SEND_QUEUED : BECKET_SEND_FULL);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[2], bigger, 0), sim ? BECKET_SEND_QUEUED : BECKET_SEND_FULL);
  EQUAL(becket_stream_cancel(loop, trace.handle, NULL), -EINVAL);
  EQUAL(becket_stream_cancel(loop, 0, &requests[1]), -ESTALE);
  EQUAL(becket_stream_cancel(loop, trace.handle, &requests[1]), 0);
  EQUAL(queued(&trace), left);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[1], "x", 1), -EBUSY); /* until it is told */
  silent(&trace);
  EQUAL(becket_stream_cancel(loop, trace.handle, &requests[1]), 0); /* once more is no more */
  EQUAL(becket_stream_cancel(loop, trace.handle, &requests[0]), 0);
  EQUAL(queued(&trace), 0);
  char expected[128];
  snprintf(expected, sizeof expected, "sent a %zu;sent b 0;sent c 0;%s", each - (size_t)left, sim ? "" : "low;");
  until(&trace, expected);
  EQUAL(becket_stream_cancel(loop, trace.handle, &requests[0]), 0);
  silent(&trace);
  sent += each - (size_t)left;
  drain_peer(fds[1], sent);
  CHECK(memcmp(big, bigger, sent) == 0);
  EQUAL(peer_read(fds[1], bigger, 1), -EAGAIN);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], "on", 2), BECKET_SEND_DONE);
  peer_reads(fds[1], "on");
  end(&trace, fds[1]);
  close_loop();
}

/* More parts than one call takes, of every length, in several requests. */
static void many_parts(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  static struct iovec parts[3][100];
  becket_send_request requests[3] = {{0}, {0}, {0}};
  size_t at = 0;
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[0], parts[0], 1025), -EINVAL);
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[0], parts[0], -1), -EINVAL);
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[0], NULL, 1), -EINVAL);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], NULL, 1), -EINVAL);
  EQUAL(becket_stream_send(loop, trace.handle, NULL, "x", 1), -EINVAL);
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[0], parts[0], 0), BECKET_SEND_DONE);
  int sent = 0;
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 100; j++) {
      size_t length = (size_t)((i + 1) * j % 7);
      parts[i][j] = (struct iovec){big + at, length};
      at += length;
    }
    int answer = becket_stream_sendv(loop, trace.handle, &requests[i], parts[i], 100);
    CHECK(answer >= 0);
    sent += answer == BECKET_SEND_DONE;
  }
  drain_peer(fds[1], at);
  turn(0);
  CHECK(memcmp(big, bigger, at) == 0);
  for (char *text = trace.text; (text = strstr(text, "sent ")) != NULL; text++) sent++;
  EQUAL(sent, 3);
  trace.text[0] = 0;
  end(&trace, fds[1]);
  close_loop();
}

static void a_file_is_sent(void) {
  open_loop(0);
  int fds[2], file;
  pair_of(fds);
  if (sim) {
    file = becket_sim_open(sim, 5000);
  } else {
    char name[] = "/tmp/becket-streams-XXXXXX";
    file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0);
    for (int i = 0; i < 5000; i++) big[i] = (char)i;
    CHECK(write(file, big, 5000) == 5000);
  }
  for (int i = 0; i < 5000; i++) big[i] = (char)i;
  struct trace trace;
  add_stream(&trace, fds[0]);
  becket_send_request head = {.user = "head "}, body = {.user = "body "}, tail = {.user = "tail "};
  EQUAL(becket_stream_sendfile(loop, trace.handle, &body, -1, 0, 5), -EBADF);
  EQUAL(becket_stream_sendfile(loop, trace.handle, &body, file, -1, 5), -EINVAL);
  EQUAL(becket_stream_sendfile(loop, trace.handle, &body, file, 5, INT64_MAX), -EINVAL);
  CHECK(becket_stream_send(loop, trace.handle, &head, big, 10) == BECKET_SEND_DONE);
  int of_body = becket_stream_sendfile(loop, trace.handle, &body, file, 10, 4000);
  int of_tail = becket_stream_send(loop, trace.handle, &tail, big + 4010, 90);
  CHECK(of_body >= 0 && of_tail >= 0);
  drain_peer(fds[1], 4100);
  turn(0);
  CHECK(memcmp(big, bigger, 4100) == 0);
  CHECK(of_body == BECKET_SEND_DONE || strncmp(trace.text, "sent body 4000;", 15) == 0);
  CHECK(of_tail == BECKET_SEND_DONE || strstr(trace.text, "sent tail 90;") != NULL);
  trace.text[0] = 0;
  /* It ends before the range does. */
  int answer = becket_stream_sendfile(loop, trace.handle, &body, file, 4900, 1000);
  CHECK(answer >= 0);
  drain_peer(fds[1], 100);
  turn(0);
  CHECK(memcmp(big + 4900, bigger, 100) == 0);
  CHECK(answer == BECKET_SEND_DONE || strcmp(trace.text, "sent body 100;") == 0);
  trace.text[0] = 0;
  EQUAL(queued(&trace), 0);
  end(&trace, fds[1]);
  /* To a peer that has gone: an error, and no SIGPIPE, which would end this program. */
  pair_of(fds);
  add_stream(&trace, fds[0]);
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  peer_close(fds[1]);
  EQUAL(becket_stream_sendfile(loop, trace.handle, &body, file, 0, 1000), BECKET_SEND_QUEUED);
  char expected[64];
  snprintf(expected, sizeof expected, "sent body %d;", -EPIPE);
  until(&trace, expected);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  snprintf(expected, sizeof expected, "closed %d;", -EPIPE);
  until(&trace, expected);
  /* Nor does one stay pending of a program that blocks it; but what was pending before does. */
  sigset_t set, old, pending;
  EQUAL(sigemptyset(&set) + sigaddset(&set, SIGPIPE), 0);
  EQUAL(sigprocmask(SIG_BLOCK, &set, &old), 0);
  for (int before = 0; before < 2; before++) {
    if (before) EQUAL(raise(SIGPIPE), 0);
    pair_of(fds);
    add_stream(&trace, fds[0]);
    EQUAL(becket_stream_pause(loop, trace.handle), 0);
    peer_close(fds[1]);
    EQUAL(becket_stream_sendfile(loop, trace.handle, &body, file, 0, 1000), BECKET_SEND_QUEUED);
    EQUAL(sigpending(&pending), 0);
    EQUAL(sigismember(&pending, SIGPIPE), before);
    EQUAL(becket_stream_reset(loop, trace.handle), 0);
    while (!trace.closed) turn(GUARD);
  }
  int signal_number;
  EQUAL(sigwait(&set, &signal_number), 0);
  EQUAL(sigprocmask(SIG_SETMASK, &old, NULL), 0);
  peer_close(file);
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ receiving */

static void paused_and_resumed(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  EQUAL(peer_write(fds[1], "abc", 3), 3);
  silent(&trace);
  EQUAL(becket_stream_resume(loop, trace.handle), 0);
  until(&trace, "data abc;");
  /* Queued already, and paused then. */
  EQUAL(peer_write(fds[1], "d", 1), 1);
  if (!sim) peer_wait(fds[0]);
  EQUAL(becket_poll(loop, GUARD), 1);
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  becket_event event;
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 0);
  silent(&trace);
  peer_shutdown(fds[1]);
  silent(&trace);
  EQUAL(becket_stream_resume(loop, trace.handle), 0);
  until(&trace, "data d;end;");
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  EQUAL(becket_stream_resume(loop, trace.handle), 0);
  silent(&trace);
  end(&trace, fds[1]);
  close_loop();
}

static void buffers_are_kept(void) {
  open_loop(0);
  int fds[3][2];
  struct trace traces[3];
  for (int i = 0; i < 3; i++) {
    pair_of(fds[i]);
    add_stream(&traces[i], fds[i][0]);
    traces[i].keeps = 1;
  }
  EQUAL(becket_stream_keep(loop, NULL), -EINVAL);
  EQUAL(becket_stream_release(loop, &loop), -EINVAL);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  void *kept[BUFFERS];
  /* One keeps half of them, and then receives no more. */
  for (int i = 0; i < 2; i++) {
    EQUAL(peer_write(fds[0][1], "abcd", 4), 4);
    until(&traces[0], "data abcd;");
    kept[i] = traces[0].data;
  }
  EQUAL(becket_stream_keep(loop, kept[1]), -ESTALE);
  EQUAL(becket_stream_buffers(loop), 2);
  EQUAL(peer_write(fds[0][1], "efgh", 4), 4);
  silent(&traces[0]);
  for (int i = 2; i < 4; i++) {
    EQUAL(peer_write(fds[1][1], "ijkl", 4), 4);
    until(&traces[1], "data ijkl;");
    kept[i] = traces[1].data;
  }
  EQUAL(becket_stream_buffers(loop), 0);
  /* There is none for anybody. */
  EQUAL(peer_write(fds[2][1], "mnop", 4), 4);
  silent(&traces[2]);
  uint64_t turns = statistics_of(loop).turns;
  EQUAL(becket_turn(loop, sim ? 0 : 20 * (int64_t)MILLISECOND), 0);
  EQUAL(statistics_of(loop).turns, turns + 1);
  CHECK(memcmp(kept[0], "abcd", 4) == 0 && memcmp(kept[3], "ijkl", 4) == 0);
  /* One that comes back: who waits for it has it, and the one that had it goes on. */
  traces[2].keeps = 0;
  EQUAL(becket_stream_release(loop, (char *)kept[3] + 3), 0);
  EQUAL(becket_stream_release(loop, kept[3]), -ESTALE);
  until(&traces[2], "data mnop;");
  silent(&traces[0]);
  EQUAL(becket_stream_release(loop, kept[0]), 0);
  until(&traces[0], "data efgh;");
  EQUAL(becket_stream_release(loop, traces[0].data), 0);
  /* Kept beyond the end of its stream. */
  end(&traces[0], fds[0][1]);
  CHECK(memcmp(kept[1], "abcd", 4) == 0);
  EQUAL(becket_stream_buffers(loop), 2);
  EQUAL(becket_stream_release(loop, kept[1]), 0);
  EQUAL(becket_stream_release(loop, kept[2]), 0);
  end(&traces[1], fds[1][1]);
  end(&traces[2], fds[2][1]);
  close_loop();
}

/* What was received goes on from where it lies, and the buffers come back. */
static void forwarded(void) {
  open_loop(0);
  int fds[2][2];
  struct trace from, to;
  tcp_pair_of(fds[0]);
  tcp_pair_of(fds[1]);
  add_stream(&from, fds[0][0]);
  add_stream(&to, fds[1][0]);
  EQUAL(becket_stream_watermarks(loop, to.handle, 0, BUFFER), 0);
  /* To itself, and to the other. */
  from.forwards = from.handle;
  EQUAL(peer_write(fds[0][1], "round", 5), 5);
  until(&from, "data round;");
  EQUAL(from.forwarded, BECKET_SEND_DONE);
  turn(0);
  peer_reads(fds[0][1], "round");
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  EQUAL(queued(&from), 0);
  from.forwards = to.handle;
  EQUAL(peer_write(fds[0][1], "across", 6), 6);
  until(&from, "data across;");
  EQUAL(from.forwarded, BECKET_SEND_DONE);
  /* With something behind it; and both have arrived whole before the end. */
  becket_send_request request = {.user = "b"};
  int sent = becket_stream_send(loop, to.handle, &request, ", behind", 8);
  EQUAL(becket_stream_shutdown(loop, to.handle), 0);
  EQUAL(becket_stream_forward(loop, to.handle, from.data, 1), -EPIPE);
  if (sent == BECKET_SEND_QUEUED) {
    until(&to, "sent b8;");
  } else {
    EQUAL(sent, BECKET_SEND_DONE);
  }
  peer_reads(fds[1][1], "across, behind");
  peer_sees(fds[1][1], 0);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  end(&to, fds[1][1]);
  end(&from, fds[0][1]);

  /* Kept before, a part of it; and what cannot be. */
  tcp_pair_of(fds[0]);
  add_stream(&from, fds[0][0]);
  from.keeps = 1;
  EQUAL(peer_write(fds[0][1], "abcdef", 6), 6);
  until(&from, "data abcdef;");
  char *kept = from.data;
  EQUAL(becket_stream_forward(loop, from.handle, NULL, 1), -EINVAL);
  EQUAL(becket_stream_forward(loop, from.handle, &loop, 1), -EINVAL);
  EQUAL(becket_stream_forward(loop, from.handle, kept, BUFFER + 1), -EINVAL);
  EQUAL(becket_stream_forward(loop, from.handle, kept + 8, (size_t)-1), -EINVAL);
  EQUAL(becket_stream_forward(loop, 12345, kept, 1), -ESTALE);
  EQUAL(becket_stream_forward(NULL, from.handle, kept, 1), -EINVAL);
  EQUAL(becket_stream_forward(loop, from.handle, kept + 2, 3), BECKET_SEND_DONE);
  if (becket_stream_buffers(loop) < BUFFERS) { /* it goes with the next wait */
    EQUAL(becket_stream_forward(loop, from.handle, kept + 2, 3), -ESTALE);
    EQUAL(becket_stream_release(loop, kept), -ESTALE);
    EQUAL(becket_stream_keep(loop, kept), -ESTALE);
    turn(0);
  }
  EQUAL(becket_stream_forward(loop, from.handle, kept + 2, 3), -ESTALE);
  peer_reads(fds[0][1], "cde");
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  /* Nothing at all; and more than the event told of. */
  from.keeps = 0;
  from.forwards = from.handle;
  EQUAL(peer_write(fds[0][1], "x", 1), 1);
  until(&from, "data x;");
  turn(0);
  peer_reads(fds[0][1], "x");

  /* Then the end: it flushes, it breaks off, the loop's own, the program's. */
  for (int how = 0; how < 4; how++) {
    if (how > 0) {
      tcp_pair_of(fds[0]);
      add_stream(&from, fds[0][0]);
      from.forwards = from.handle;
    }
    EQUAL(peer_write(fds[0][1], "last", 4), 4);
    until(&from, "data last;");
    EQUAL(from.forwarded, BECKET_SEND_DONE);
    if (how == 0) EQUAL(becket_stream_close(loop, from.handle), 0);
    if (how == 1) EQUAL(becket_stream_reset(loop, from.handle), 0);
    if (how == 2) EQUAL(becket_remove(loop, from.handle), 0);
    if (how == 3) {
      EQUAL(becket_loop_close(loop), 0);
      open_loop(0);
    }
    if (how < 2) until(&from, how == 0 ? "closed 0;" : "closed -125;");
    EQUAL(becket_stream_buffers(loop), BUFFERS);
    if (how == 0) {
      peer_reads(fds[0][1], "last");
      peer_sees(fds[0][1], 0);
    }
    if (how == 2) peer_close(fds[0][0]);
    if (!(sim && how == 3)) peer_close(fds[0][1]);
  }
  close_loop();
}

/* Paused in the turn in which they receive: what has come for them is told when they go on, and keeps nobody else from receiving. */
static struct trace paused_by[5];

static void pauses_the_others(becket_loop *it, const becket_event *event, void *user) {
  on_event(it, event, user);
  for (int i = 0; i < 5; i++) {
    if (&paused_by[i] != user && event->flags & BECKET_STREAM_DATA) EQUAL(becket_stream_pause(loop, paused_by[i].handle), 0);
  }
}

static void paused_by_another(void) {
  open_loop(0);
  int fds[5][2], first = -1;
  for (int i = 0; i < 5; i++) {
    pair_of(fds[i]);
    memset(&paused_by[i], 0, sizeof paused_by[i]);
    EQUAL(becket_stream_add(loop, fds[i][0], 0, pauses_the_others, &paused_by[i], &paused_by[i].handle), 0);
  }
  turn(0);
  for (int i = 0; i < 5; i++) EQUAL(peer_write(fds[i][1], "one", 3), 3);
  EQUAL(becket_turn(loop, GUARD), 1);
  for (int i = 0; i < 5; i++) {
    if (paused_by[i].text[0] != 0) first = i;
  }
  CHECK(first >= 0);
  until(&paused_by[first], "data one;");
  for (int round = 0; round < 10; round++) {
    EQUAL(peer_write(fds[first][1], "more", 4), 4);
    until(&paused_by[first], "data more;");
    for (int i = 0; i < 5; i++) EQUAL(strlen(paused_by[i].text), 0);
  }
  silent(&paused_by[first]);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  /* One goes on, one ends, one is broken off, one is removed. */
  int others[4], count = 0;
  for (int i = 0; i < 5; i++) {
    if (i != first) others[count++] = i;
  }
  EQUAL(peer_write(fds[others[0]][1], "two", 3), 3);
  peer_shutdown(fds[others[0]][1]);
  EQUAL(becket_stream_resume(loop, paused_by[others[0]].handle), 0);
  EQUAL(becket_stream_pause(loop, paused_by[others[0]].handle), 0);
  silent(&paused_by[others[0]]);
  EQUAL(becket_stream_resume(loop, paused_by[others[0]].handle), 0);
  struct trace *one = &paused_by[others[0]];
  while (strstr(one->text, "end;") == NULL) turn(GUARD);
  CHECK(strcmp(one->text, "data onetwo;end;") == 0 || strcmp(one->text, "data one;data two;end;") == 0);
  one->text[0] = 0;
  end(&paused_by[others[0]], fds[others[0]][1]);
  end(&paused_by[others[1]], fds[others[1]][1]);
  EQUAL(becket_stream_reset(loop, paused_by[others[2]].handle), 0);
  until(&paused_by[others[2]], "closed -125;");
  peer_close(fds[others[2]][1]);
  EQUAL(becket_remove(loop, paused_by[others[3]].handle), 0);
  peer_close(fds[others[3]][0]);
  peer_close(fds[others[3]][1]);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  end(&paused_by[first], fds[first][1]);
  close_loop();
}

/* What rides with a wait keeps nobody waiting who has an end to come to. */
static void an_end_behind_it(void) {
  if (sim) return;
  open_loop(BECKET_VIRTUAL_CLOCK);
  for (int how = 0; how < 2; how++) {
    int fds[2];
    struct trace trace;
    pair_of(fds);
    add_stream(&trace, fds[0]);
    trace.forwards = trace.handle;
    EQUAL(peer_write(fds[1], "last", 4), 4);
    until(&trace, "data last;");
    uint64_t now = becket_now(loop);
    EQUAL(how == 0 ? becket_stream_close(loop, trace.handle) : becket_stream_shutdown(loop, trace.handle), 0);
    turn(GUARD);
    if (how == 0) until(&trace, "closed 0;");
    peer_reads(fds[1], "last");
    peer_sees(fds[1], 0);
    if (now_backend == BECKET_BACKEND_IO_URING || how == 0) EQUAL(becket_now(loop), now);
    if (how == 1) end(&trace, fds[1]);
    else peer_close(fds[1]);
  }
  close_loop();
}

/* A peer that does not read what is forwarded to it holds up nobody else, and bounded memory. */
static void forwarded_to_nobody(void) {
  open_loop(0);
  int fds[3][2];
  struct trace from, to, other;
  for (int i = 0; i < 3; i++) tcp_pair_of(fds[i]);
  add_stream(&from, fds[0][0]);
  add_stream(&to, fds[1][0]);
  add_stream(&other, fds[2][0]);
  EQUAL(becket_stream_watermarks(loop, to.handle, 0, BUFFER / 2), 0);
  from.forwards = to.handle;
  other.forwards = other.handle;
  uint64_t written = 0;
  int quiet = 0;
  from.forwarded = BECKET_SEND_DONE;
  while (quiet < 20) { /* until the other side is full, and so is this one */
    int64_t count = peer_write(fds[0][1], big + written % 4096, 1000);
    if (count > 0) written += (uint64_t)count;
    uint64_t before = from.bytes;
    turn(0);
    from.text[0] = 0;
    quiet = from.bytes == before ? quiet + 1 : 0;
  }
  int is_full = queued(&to) > BUFFER / 2;
  EQUAL(from.forwarded, is_full ? BECKET_SEND_FULL : BECKET_SEND_DONE);
  CHECK(queued(&to) > 0 && queued(&to) <= BUFFERS * BUFFER / 2);
  EQUAL(becket_stream_buffers(loop), BUFFERS / 2);
  EQUAL(peer_write(fds[2][1], "still", 5), 5);
  until(&other, "data still;");
  turn(0);
  peer_reads(fds[2][1], "still");
  /* It reads, and all of it comes. */
  uint64_t read = 0;
  static char text[4096];
  while (read < written) {
    int64_t count = peer_read(fds[1][1], text, sizeof text);
    if (count == -EAGAIN) {
      turn(sim ? 0 : (int64_t)MILLISECOND);
      from.text[0] = 0;
      continue;
    }
    CHECK(count > 0);
    read += (uint64_t)count;
  }
  EQUAL(read, from.bytes);
  CHECK(!is_full || strncmp(to.text, "low;", 4) == 0);
  to.text[0] = 0;
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  /* It is gone, and that is told. */
  peer_reset(fds[1][1]);
  while (!to.closed) turn(GUARD);
  from.text[0] = 0;
  EQUAL(peer_write(fds[0][1], "gone", 4), 4);
  until(&from, "data gone;");
  EQUAL(from.forwarded, -ESTALE);
  end(&from, fds[0][1]);
  end(&other, fds[2][1]);
  close_loop();
}

/* Those that wait for a buffer: one is paused, one ends, one is removed, one goes on. */
static void who_waits_for_a_buffer(void) {
  open_loop(0);
  int fds[6][2];
  struct trace traces[6];
  void *kept[4];
  for (int i = 0; i < 6; i++) {
    pair_of(fds[i]);
    add_stream(&traces[i], fds[i][0]);
    traces[i].keeps = i < 2;
    EQUAL(peer_write(fds[i][1], "1", 1), 1);
    if (i >= 2) {
      silent(&traces[i]);
      continue;
    }
    until(&traces[i], "data 1;");
    kept[2 * i] = traces[i].data;
    EQUAL(peer_write(fds[i][1], "2", 1), 1);
    until(&traces[i], "data 2;");
    kept[2 * i + 1] = traces[i].data;
  }
  EQUAL(becket_stream_pause(loop, traces[2].handle), 0);
  end(&traces[3], fds[3][1]);
  EQUAL(becket_remove(loop, traces[4].handle), 0);
  EQUAL(becket_stream_release(loop, kept[0]), 0);
  until(&traces[5], "data 1;");
  silent(&traces[2]);
  EQUAL(becket_stream_resume(loop, traces[2].handle), 0);
  until(&traces[2], "data 1;");
  for (int i = 1; i < 4; i++) EQUAL(becket_stream_release(loop, kept[i]), 0);
  peer_close(fds[4][0]);
  peer_close(fds[4][1]);
  for (int i = 0; i < 6; i++) {
    if (i != 3 && i != 4) end(&traces[i], fds[i][1]);
  }
  close_loop();
}

/* In the order in which they began to wait, whoever goes meanwhile: the first, the last, the only one. */
static void who_waits_goes(void) {
  open_loop(0);
  int fds[6][2];
  struct trace traces[6];
  void *kept[4];
  for (int i = 0; i < 5; i++) {
    pair_of(fds[i]);
    add_stream(&traces[i], fds[i][0]);
    traces[i].keeps = 1;
    EQUAL(peer_write(fds[i][1], "1", 1), 1);
    if (i >= 2) {
      silent(&traces[i]);
      continue;
    }
    until(&traces[i], "data 1;");
    kept[2 * i] = traces[i].data;
    EQUAL(peer_write(fds[i][1], "2", 1), 1);
    until(&traces[i], "data 2;");
    kept[2 * i + 1] = traces[i].data;
  }
  /* The last one goes, and one comes; then the first one. */
  EQUAL(becket_remove(loop, traces[4].handle), 0);
  pair_of(fds[5]);
  add_stream(&traces[5], fds[5][0]);
  EQUAL(peer_write(fds[5][1], "1", 1), 1);
  silent(&traces[5]);
  EQUAL(becket_remove(loop, traces[2].handle), 0);
  EQUAL(becket_stream_release(loop, kept[0]), 0);
  until(&traces[3], "data 1;");
  silent(&traces[5]);
  /* More than who waits can use. */
  for (int i = 1; i < 4; i++) EQUAL(becket_stream_release(loop, kept[i]), 0);
  EQUAL(becket_stream_release(loop, traces[3].data), 0);
  until(&traces[5], "data 1;");
  EQUAL(becket_stream_release(loop, traces[5].data), -ESTALE); /* it was not kept */
  EQUAL(becket_stream_keep(loop, traces[5].data), 0);
  EQUAL(becket_stream_release(loop, traces[5].data), 0);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  for (int i = 0; i < 6; i++) {
    if (i != 2 && i != 4) {
      end(&traces[i], fds[i][1]);
      continue;
    }
    peer_close(fds[i][0]);
    peer_close(fds[i][1]);
  }
  close_loop();
}

/* One that waits does not lose its place because another one has its turn first. */
static void who_has_waited_longest(void) {
  open_loop(0);
  int fds[5][2];
  struct trace traces[5];
  void *kept[4];
  for (int i = 0; i < 5; i++) {
    pair_of(fds[i]);
    add_stream(&traces[i], fds[i][0]);
    traces[i].keeps = 1;
    if (i == 3) EQUAL(becket_set_level(loop, traces[i].handle, 1), 0);
    EQUAL(peer_write(fds[i][1], "1", 1), 1);
    if (i >= 2) {
      silent(&traces[i]);
      continue;
    }
    until(&traces[i], "data 1;");
    kept[2 * i] = traces[i].data;
    EQUAL(peer_write(fds[i][1], "2", 1), 1);
    until(&traces[i], "data 2;");
    kept[2 * i + 1] = traces[i].data;
  }
  for (int i = 2; i < 5; i++) {
    EQUAL(becket_stream_release(loop, kept[i - 2]), 0);
    until(&traces[i], "data 1;");
    for (int other = i + 1; other < 5; other++) silent(&traces[other]);
  }
  EQUAL(becket_stream_release(loop, kept[3]), 0);
  for (int i = 2; i < 5; i++) EQUAL(becket_stream_release(loop, traces[i].data), 0);
  for (int i = 0; i < 5; i++) end(&traces[i], fds[i][1]);
  close_loop();
}

/* A buffer that was kept does not count for the stream that has the place of its own, and the others' still do for them. */
static void kept_beyond_the_end(void) {
  open_loop(0);
  int fds[2], others_fds[2];
  struct trace trace, other;
  pair_of(others_fds);
  add_stream(&other, others_fds[0]);
  other.keeps = 1;
  EQUAL(peer_write(others_fds[1], "o", 1), 1);
  until(&other, "data o;");
  void *of_other = other.data;
  pair_of(fds);
  add_stream(&trace, fds[0]);
  trace.keeps = 1;
  EQUAL(peer_write(fds[1], "1", 1), 1);
  until(&trace, "data 1;");
  void *kept = trace.data;
  end(&trace, fds[1]);
  EQUAL(becket_stream_release(loop, of_other), 0);
  void *others[2];
  for (int i = 0; i < 2; i++) {
    EQUAL(peer_write(others_fds[1], "o", 1), 1);
    until(&other, "data o;");
    others[i] = other.data;
  }
  for (int i = 0; i < 2; i++) EQUAL(becket_stream_release(loop, others[i]), 0);
  pair_of(fds);
  add_stream(&trace, fds[0]);
  trace.keeps = 1;
  EQUAL(becket_stream_release(loop, kept), 0);
  for (int i = 0; i < 2; i++) {
    EQUAL(peer_write(fds[1], "2", 1), 1);
    until(&trace, "data 2;");
    others[i] = trace.data;
  }
  EQUAL(peer_write(fds[1], "3", 1), 1);
  silent(&trace); /* it has kept half of them */
  for (int i = 0; i < 2; i++) EQUAL(becket_stream_release(loop, others[i]), 0);
  until(&trace, "data 3;");
  EQUAL(becket_stream_release(loop, trace.data), 0);
  EQUAL(becket_stream_buffers(loop), BUFFERS);
  end(&trace, fds[1]);
  end(&other, others_fds[1]);
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ ends */

static void half_close(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  becket_send_request request = {0}, other = {0};
  size_t length = sim ? 1000 : sizeof big;
  CHECK(becket_stream_send(loop, trace.handle, &request, big, length) > 0);
  EQUAL(becket_stream_shutdown(loop, trace.handle), 0);
  EQUAL(becket_stream_shutdown(loop, trace.handle), 0);
  EQUAL(becket_stream_send(loop, trace.handle, &other, "x", 1), -EPIPE);
  drain_peer(fds[1], length);
  CHECK(memcmp(big, bigger, length) == 0);
  char expected[64];
  snprintf(expected, sizeof expected, "sent %zu;", length);
  turn(0);
  CHECK(strstr(trace.text, expected) != NULL);
  trace.text[0] = 0;
  peer_sees(fds[1], 0);
  /* The other direction goes on. */
  EQUAL(peer_write(fds[1], "still", 5), 5);
  until(&trace, "data still;");
  peer_shutdown(fds[1]);
  until(&trace, "end;");
  silent(&trace);
  end(&trace, fds[1]);
  close_loop();
}

static void close_flushes(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  becket_send_request request = {0};
  size_t length = sim ? 1000 : sizeof big;
  CHECK(becket_stream_send(loop, trace.handle, &request, big, length) > 0);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  EQUAL(becket_stream_shutdown(loop, trace.handle), 0);
  silent(&trace);
  drain_peer(fds[1], length);
  CHECK(memcmp(big, bigger, length) == 0);
  char expected[64];
  snprintf(expected, sizeof expected, "sent %zu;closed 0;", length);
  until(&trace, expected);
  peer_sees(fds[1], 0);
  peer_close(fds[1]);
  close_loop();
}

static void reset_does_not(void) {
  open_loop(0);
  int fds[2];
  tcp_pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  becket_send_request requests[2] = {{.user = "a "}, {.user = "b "}};
  CHECK(becket_stream_send(loop, trace.handle, &requests[0], big, sizeof big) > 0);
  CHECK(becket_stream_send(loop, trace.handle, &requests[1], big, 1) > 0);
  EQUAL(peer_write(fds[1], "unread", 6), 6);
  EQUAL(becket_stream_reset(loop, trace.handle), 0);
  EQUAL(becket_stream_reset(loop, trace.handle), 0);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], "x", 1), -EPIPE);
  char expected[64];
  snprintf(expected, sizeof expected, "sent a %d;sent b %d;closed %d;", -ECANCELED, -ECANCELED, -ECANCELED);
  until(&trace, expected);
  int64_t got;
  do peer_wait(fds[1]);
  while ((got = peer_read(fds[1], bigger, sizeof bigger)) > 0);
  EQUAL(got, -ECONNRESET);
  peer_close(fds[1]);
  /* The requests are free. */
  tcp_pair_of(fds);
  add_stream(&trace, fds[0]);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], "x", 1), BECKET_SEND_DONE);
  end(&trace, fds[1]);
  close_loop();
}

static void the_peer_resets(void) {
  open_loop(0);
  int fds[2];
  tcp_pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  char expected[64];
  snprintf(expected, sizeof expected, "closed %d;", -ECONNRESET);
  peer_reset(fds[1]);
  until(&trace, expected);
  /* With something that is to be sent. */
  tcp_pair_of(fds);
  add_stream(&trace, fds[0]);
  becket_send_request requests[2] = {{0}, {0}};
  CHECK(becket_stream_send(loop, trace.handle, &requests[0], big, sizeof big) > 0);
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  peer_reset(fds[1]);
  snprintf(expected, sizeof expected, "sent %d;", -ECONNRESET);
  until(&trace, expected);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[1], "x", 1), -EPIPE);
  EQUAL(becket_stream_shutdown(loop, trace.handle), -EPIPE);
  EQUAL(queued(&trace), 0);
  silent(&trace);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  snprintf(expected, sizeof expected, "closed %d;", -ECONNRESET);
  until(&trace, expected);
  /* While it closes. */
  tcp_pair_of(fds);
  add_stream(&trace, fds[0]);
  CHECK(becket_stream_send(loop, trace.handle, &requests[0], big, sizeof big) > 0);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  peer_reset(fds[1]);
  snprintf(expected, sizeof expected, "sent %d;closed %d;", -ECONNRESET, -ECONNRESET);
  until(&trace, expected);
  close_loop();
}

/* The peer says its last word, and is gone: that word is read, though nothing can be sent any more. */
static void the_last_word_is_read(void) {
  open_loop(0);
  int fds[2];
  tcp_pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  EQUAL(becket_stream_pause(loop, trace.handle), 0);
  EQUAL(peer_write(fds[1], "no", 2), 2);
  peer_close(fds[1]);
  becket_send_request request = {0};
  int answer;
  do answer = becket_stream_send(loop, trace.handle, &request, "question", 8);
  while (answer == BECKET_SEND_DONE && (turn(0), 1));
  if (answer > 0) {
    turn(0);
    CHECK(strcmp(trace.text, "sent -32;") == 0 || strcmp(trace.text, "sent -104;") == 0);
    trace.text[0] = 0;
  }
  EQUAL(becket_stream_send(loop, trace.handle, &request, "x", 1), -EPIPE);
  EQUAL(becket_stream_resume(loop, trace.handle), 0);
  while (!trace.closed) turn(GUARD);
  CHECK(strncmp(trace.text, "data no;", 8) == 0);
  close_loop();
}

static void removed(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  becket_send_request request = {0};
  CHECK(becket_stream_send(loop, trace.handle, &request, big, sizeof big) > 0);
  EQUAL(peer_write(fds[1], "abc", 3), 3);
  EQUAL(becket_io_close(loop, trace.handle), -EINVAL);
  EQUAL(becket_io_modify(loop, trace.handle, BECKET_READABLE), -EINVAL);
  EQUAL(becket_remove(loop, trace.handle), 0);
  silent(&trace);
  EQUAL(becket_stream_close(loop, trace.handle), -ESTALE);
  EQUAL(becket_remove(loop, trace.handle), -ESTALE);
  /* The fd is the program's, and the request. */
  char text[3];
  EQUAL(peer_read(fds[0], text, 3), 3);
  add_stream(&trace, fds[0]);
  CHECK(becket_stream_send(loop, trace.handle, &request, "x", 1) >= 0);
  EQUAL(becket_stream_reset(loop, trace.handle), 0);
  while (!trace.closed) turn(GUARD);
  peer_close(fds[1]);
  close_loop();
}

/* A loop that is closed closes them. */
static void left_to_the_loop(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  becket_send_request request = {0};
  CHECK(becket_stream_send(loop, trace.handle, &request, big, sizeof big) > 0);
  EQUAL(becket_loop_close(loop), 0);
  if (sim) {
    EQUAL(becket_sim_open_fds(sim), 1);
  } else {
    CHECK(fcntl(fds[0], F_GETFD) < 0 && errno == EBADF);
    close(fds[1]);
  }
  EQUAL(strlen(trace.text), 0);
}

static void taken_by_the_program(void) {
  open_loop(0);
  int fds[2][2];
  struct trace traces[2];
  becket_event event[2];
  for (int i = 0; i < 2; i++) {
    pair_of(fds[i]);
    add_stream(&traces[i], fds[i][0]);
    EQUAL(peer_write(fds[i][1], i ? "def" : "abc", 3), 3);
  }
  for (int i = 0; i < 2; i++) {
    while (becket_next(loop, BECKET_KIND_STREAM, &event[0]) == 0) CHECK(becket_poll(loop, GUARD) >= 0);
    EQUAL(event[0].value, 3);
    EQUAL(becket_dispatch(loop, &event[0]), 0);
  }
  CHECK(strcmp(traces[0].text, "data abc;") == 0 && strcmp(traces[1].text, "data def;") == 0);
  for (int i = 0; i < 2; i++) {
    traces[i].text[0] = 0;
    EQUAL(becket_stream_close(loop, traces[i].handle), 0);
  }
  for (int i = 0; i < 2; i++) EQUAL(becket_next(loop, BECKET_KIND_STREAM, &event[i]), 1);
  EQUAL(becket_next(loop, BECKET_KIND_STREAM, &event[0]), 0);
  for (int i = 0; i < 2; i++) {
    EQUAL(becket_kind(loop, event[i].handle), -ESTALE);
    EQUAL(becket_dispatch(loop, &event[i]), 0);
    peer_close(fds[i][1]);
  }
  CHECK(strcmp(traces[0].text, "closed 0;") == 0 && strcmp(traces[1].text, "closed 0;") == 0);
  /* A later owner of the place does not get it. */
  becket_handle wake;
  for (int i = 0; i < 10; i++) EQUAL(becket_wake_add(loop, NULL, NULL, &wake), 0);
  EQUAL(becket_dispatch(loop, &event[0]), -ESTALE);
  /* Nor is there one in the first place behind those of the sources. */
  event[0].handle = (event[0].handle & ~(becket_handle)0xffffff) | (statistics_of(loop).sources_max + 1);
  EQUAL(becket_dispatch(loop, &event[0]), -ESTALE);
  event[0].handle |= 0xfffffe;
  EQUAL(becket_dispatch(loop, &event[0]), -ESTALE);
  EQUAL(becket_loop_close(loop), 0);
  /* Nor does a later stream that has ended too. */
  open_loop(0);
  for (int i = 0; i < 2; i++) {
    pair_of(fds[i]);
    add_stream(&traces[i], fds[i][0]);
    EQUAL(becket_stream_close(loop, traces[i].handle), 0);
    EQUAL(becket_poll(loop, GUARD), 1);
    EQUAL(becket_next(loop, BECKET_KIND_STREAM, &event[i]), 1);
    peer_close(fds[i][1]);
  }
  EQUAL(event[0].handle & 0xffffff, event[1].handle & 0xffffff);
  EQUAL(becket_dispatch(loop, &event[0]), -ESTALE);
  EQUAL(becket_dispatch(loop, &event[1]), 0);
  CHECK(traces[0].text[0] == 0 && strcmp(traces[1].text, "closed 0;") == 0);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ time */

static void timeouts(void) {
  open_loop(now_backend == SIMULATOR ? 0 : BECKET_VIRTUAL_CLOCK);
  int fds[2];
  pair_of(fds);
  struct trace trace;
  add_stream(&trace, fds[0]);
  EQUAL(becket_io_timeout(loop, trace.handle, 10 * MILLISECOND), 0);
  uint64_t idle = 0, start = becket_now(loop);
  EQUAL(becket_io_get_timeout(loop, trace.handle, &idle), 0);
  EQUAL(idle, 10 * MILLISECOND);
  until(&trace, "timeout;timeout;");
  EQUAL(becket_now(loop) - start, 20 * MILLISECOND);
  EQUAL(becket_io_deadline(loop, trace.handle, 15 * MILLISECOND), 0);
  until(&trace, "timeout;deadline;");
  EQUAL(becket_now(loop) - start, 35 * MILLISECOND);
  EQUAL(becket_io_timeout(loop, trace.handle, 0), 0);
  /* One that closes and cannot is told too. */
  becket_send_request request = {0};
  CHECK(becket_stream_send(loop, trace.handle, &request, big, sizeof big) > 0);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  EQUAL(becket_io_deadline(loop, trace.handle, 5 * MILLISECOND), 0);
  until(&trace, "deadline;");
  EQUAL(becket_stream_reset(loop, trace.handle), 0);
  char expected[64];
  snprintf(expected, sizeof expected, "sent %d;closed %d;", -ECANCELED, -ECANCELED);
  until(&trace, expected);
  peer_close(fds[1]);
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ tasks */

struct session {
  becket_task task;
  becket_handle stream;
  becket_send_request request;
  int rounds;
  int64_t last;
};

/* Sends everything back, then says goodbye: what would otherwise be a handler with a state. */
static void serve(becket_task *task) {
  struct session *self = (struct session *)task;
  BECKET_TASK_BEGIN(task);
  for (;;) {
    BECKET_AWAIT_WITHIN(becket_task_event(task, self->stream), 10 * MILLISECOND);
    if (task->value == -ETIMEDOUT || task->value == -ECANCELED) {
      self->last = task->value;
      continue;
    }
    if (task->flags & BECKET_STREAM_END) break;
    CHECK(task->flags & BECKET_STREAM_DATA);
    self->rounds++;
    EQUAL(becket_stream_send(loop, self->stream, &self->request, task->data, (size_t)task->value), BECKET_SEND_DONE);
    if (self->rounds == 2) { /* it thinks: meanwhile nothing is lost, and nothing spins */
      BECKET_AWAIT(0);
    }
  }
  EQUAL(becket_stream_send(loop, self->stream, &self->request, "bye", 3), BECKET_SEND_DONE);
  EQUAL(becket_stream_close(loop, self->stream), 0);
  BECKET_AWAIT(becket_task_event(task, self->stream));
  CHECK(task->flags & BECKET_STREAM_CLOSED);
  BECKET_TASK_RETURN(task->value);
  BECKET_TASK_END;
}

/* While a task thinks, a request of its stream is done: that is told when it awaits the stream again. */
static void thinks(becket_task *task) {
  struct session *self = (struct session *)task;
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT(becket_task_event(task, self->stream));
  CHECK(task->flags & BECKET_STREAM_DATA);
  CHECK(becket_stream_send(loop, self->stream, &self->request, big, sizeof big) != BECKET_SEND_DONE);
  self->rounds = 1;
  BECKET_AWAIT(0);
  self->rounds = 2;
  do BECKET_AWAIT(becket_task_event(task, self->stream));
  while (task->flags & BECKET_STREAM_LOW);
  CHECK(task->flags & BECKET_STREAM_SENT);
  BECKET_TASK_RETURN(task->value);
  BECKET_TASK_END;
}

static void a_task_thinks(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  struct session session = {0};
  EQUAL(becket_stream_add(loop, fds[0], 0, NULL, NULL, &session.stream), 0);
  EQUAL(becket_task_start(loop, &session.task, thinks, NULL), 0);
  EQUAL(peer_write(fds[1], "go", 2), 2);
  while (session.rounds < 1) turn(GUARD);
  drain_peer(fds[1], sizeof big);
  for (int i = 0; i < 4; i++) EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_task_active(&session.task), 1);
  EQUAL(becket_task_wake(&session.task, 0), 0);
  for (int turns = 0; becket_task_active(&session.task) == 1; turns++) {
    CHECK(turns < 100);
    turn(0);
  }
  EQUAL(session.task.result, sizeof big);
  EQUAL(becket_stream_reset(loop, session.stream), 0);
  EQUAL(becket_set_handler(loop, session.stream, NULL, NULL), 0);
  while (statistics_of(loop).sources > 0) turn(GUARD);
  peer_close(fds[1]);
  close_loop();
}

static void a_task_awaits(void) {
  open_loop(now_backend == SIMULATOR ? 0 : BECKET_VIRTUAL_CLOCK);
  int fds[2];
  pair_of(fds);
  struct session session = {0};
  EQUAL(becket_stream_add(loop, fds[0], 0, NULL, NULL, &session.stream), 0);
  EQUAL(becket_task_start(loop, &session.task, serve, NULL), 0);
  EQUAL(peer_write(fds[1], "one", 3), 3);
  while (session.rounds < 1) turn(GUARD);
  peer_reads(fds[1], "one");
  while (session.last == 0) turn(GUARD);
  EQUAL(session.last, -ETIMEDOUT);
  EQUAL(becket_task_cancel(&session.task), 0);
  while (session.last == -ETIMEDOUT) turn(GUARD);
  EQUAL(session.last, -ECANCELED);
  EQUAL(peer_write(fds[1], "two", 3), 3);
  while (session.rounds < 2) turn(GUARD);
  peer_reads(fds[1], "two");
  EQUAL(peer_write(fds[1], "three", 5), 5);
  for (int i = 0; i < 4; i++) EQUAL(becket_turn(loop, 0), 0);
  EQUAL(session.rounds, 2);
  EQUAL(becket_task_wake(&session.task, 0), 0);
  while (session.rounds < 3) turn(GUARD);
  peer_reads(fds[1], "three");
  peer_shutdown(fds[1]);
  while (becket_task_active(&session.task) == 1) turn(GUARD);
  EQUAL(session.task.result, 0);
  peer_reads(fds[1], "bye");
  peer_sees(fds[1], 0);
  peer_close(fds[1]);
  EQUAL(becket_task_event(NULL, 0), -EINVAL);
  EQUAL(becket_task_event(&session.task, session.stream), -ESTALE);
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ connecting */

static int listener;

static struct sockaddr_in listen_somewhere(int backlog) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (sim) {
    listener = becket_sim_socket(sim);
    EQUAL(becket_sim_listen(sim, listener, (uint32_t)backlog), 0);
    address.sin_port = htons((uint16_t)listener);
    return address;
  }
  socklen_t length = sizeof address;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0);
  CHECK(listen(listener, backlog) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  return address;
}

static void connect_to(struct trace *trace, const struct sockaddr_in *address, uint64_t within) {
  memset(trace, 0, sizeof *trace);
  EQUAL(becket_stream_connect(loop, (const struct sockaddr *)address, sizeof *address, within, on_event, trace,
                              &trace->handle), 0);
}

static int accept_one(void) {
  int fd = sim ? becket_sim_accept(sim, listener) : accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  CHECK(fd >= 0);
  return fd;
}

static void connected(void) {
  open_loop(0);
  struct sockaddr_in address = listen_somewhere(4);
  struct trace trace;
  connect_to(&trace, &address, 10 * SECOND);
  becket_send_request request = {0};
  int answer = becket_stream_send(loop, trace.handle, &request, "hello", 5);
  CHECK(answer >= 0);
  while (strstr(trace.text, "connected;") == NULL || (answer > 0 && strstr(trace.text, "sent 5;") == NULL)) turn(GUARD);
  trace.text[0] = 0;
  uint64_t deadline = 0;
  EQUAL(becket_io_get_deadline(loop, trace.handle, &deadline), 0);
  CHECK(deadline == BECKET_NEVER);
  int peer = accept_one();
  peer_reads(peer, "hello");
  EQUAL(peer_write(peer, "you", 3), 3);
  until(&trace, "data you;");
  end(&trace, peer);
  /* Closed before it is connected: what was to be sent is. */
  connect_to(&trace, &address, BECKET_NEVER);
  answer = becket_stream_send(loop, trace.handle, &request, "bye", 3);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  until(&trace, answer > 0 ? "sent 3;closed 0;" : "closed 0;");
  peer = accept_one();
  peer_reads(peer, "bye");
  peer_sees(peer, 0);
  peer_close(peer);
  peer_close(listener);
  /* Nobody listens any more. */
  connect_to(&trace, &address, BECKET_NEVER);
  answer = becket_stream_send(loop, trace.handle, &request, "x", 1);
  char expected[64];
  snprintf(expected, sizeof expected, "closed %d;", -ECONNREFUSED);
  EQUAL(answer, BECKET_SEND_QUEUED);
  snprintf(expected, sizeof expected, "sent %d;closed %d;", -ECONNREFUSED, -ECONNREFUSED);
  until(&trace, expected);
  close_loop();
}

/* That its time is over is found together with the connection. */
static void connected_at_the_last_moment(void) {
  if (now_backend == BECKET_BACKEND_IO_URING) return; /* which may learn of one a turn later */
  open_loop(BECKET_VIRTUAL_CLOCK);
  struct sockaddr_in address = listen_somewhere(4);
  struct trace trace;
  connect_to(&trace, &address, SECOND);
  int peer = accept_one();
  EQUAL(becket_clock_advance(loop, SECOND), 0);
  turn(0);
  EQUAL(strcmp(trace.text, "connected;"), 0);
  trace.text[0] = 0;
  silent(&trace);
  peer_close(listener);
  end(&trace, peer);
  close_loop();
}

/* Nobody accepts, and the system's own queue is full: it would take forever. */
static void connecting_takes_too_long(void) {
  open_loop(BECKET_VIRTUAL_CLOCK);
  struct sockaddr_in address = listen_somewhere(0);
  int others[4];
  for (int i = 0; i < 4; i++) {
    others[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)!connect(others[i], (struct sockaddr *)&address, sizeof address);
  }
  struct trace trace;
  uint64_t start = becket_now(loop);
  connect_to(&trace, &address, 3 * SECOND);
  becket_send_request request = {0};
  EQUAL(becket_stream_send(loop, trace.handle, &request, "x", 1), BECKET_SEND_QUEUED);
  /* What comes meanwhile is not the end of its time. */
  EQUAL(becket_trigger(loop, trace.handle, 0), 0);
  until(&trace, "triggered;");
  silent(&trace);
  char expected[64];
  snprintf(expected, sizeof expected, "sent %d;closed %d;", -ETIMEDOUT, -ETIMEDOUT);
  until(&trace, expected);
  EQUAL(becket_now(loop) - start, 3 * SECOND);
  for (int i = 0; i < 4; i++) close(others[i]);
  close(listener);
  close_loop();
}

static void unix_sockets(void) {
  open_loop(0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "becket-streams-%d", (int)getpid());
  socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
  const struct sockaddr *at = (const struct sockaddr *)&address;
  struct trace trace = {0};
  EQUAL(becket_stream_connect(loop, at, bytes, BECKET_NEVER, on_event, &trace, &trace.handle), -ECONNREFUSED);
  EQUAL(statistics_of(loop).sources, 0);
  listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(bind(listener, at, bytes) == 0 && listen(listener, 0) == 0);
  EQUAL(becket_stream_connect(loop, at, bytes, BECKET_NEVER, on_event, &trace, &trace.handle), 0);
  until(&trace, "connected;");
  struct trace other = {0};
  EQUAL(becket_stream_connect(loop, at, bytes, BECKET_NEVER, on_event, &other, &other.handle), -EAGAIN);
  int peer = accept_one();
  EQUAL(peer_write(peer, "you", 3), 3);
  until(&trace, "data you;");
  end(&trace, peer);
  close(listener);
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ datagrams */

/* One that is taken back is not sent, not even as an empty one. */
static void a_datagram_is_taken_back(void) {
  open_loop(0);
  int fds[2];
  EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
  struct trace trace;
  add_stream(&trace, fds[0]);
  static becket_send_request requests[4096];
  int count = 0, answer;
  do {
    CHECK(count < 4096 - 2);
    answer = becket_stream_send(loop, trace.handle, &requests[count++], "x", 1);
  } while (answer == BECKET_SEND_DONE);
  EQUAL(answer, BECKET_SEND_QUEUED);
  requests[count].user = "taken ";
  EQUAL(becket_stream_send(loop, trace.handle, &requests[count], "yy", 2), BECKET_SEND_QUEUED);
  requests[count + 1].user = "last ";
  EQUAL(becket_stream_send(loop, trace.handle, &requests[count + 1], "zzz", 3), BECKET_SEND_QUEUED);
  EQUAL(becket_stream_cancel(loop, trace.handle, &requests[count]), 0);
  EQUAL(queued(&trace), 4);
  char bytes[8];
  for (int i = 0; i < count; i++) {
    EQUAL(peer_read(fds[1], bytes, sizeof bytes), 1);
    turn(0);
  }
  for (int turns = 0; strstr(trace.text, "last") == NULL; turns++) {
    CHECK(turns < 100);
    turn(0);
  }
  EQUAL(strcmp(trace.text, "sent 1;sent taken 0;sent last 3;"), 0);
  trace.text[0] = 0;
  EQUAL(peer_read(fds[1], bytes, sizeof bytes), 3);
  EQUAL(queued(&trace), 0);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  until(&trace, "closed 0;");
  close(fds[1]);
  close_loop();
}

static void datagrams(void) {
  open_loop(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(bind(server, (struct sockaddr *)&address, length) == 0);
  CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0);
  CHECK(connect(client, (struct sockaddr *)&address, length) == 0);
  struct sockaddr_in own;
  CHECK(getsockname(client, (struct sockaddr *)&own, &length) == 0);
  struct trace trace;
  add_stream(&trace, server);
  CHECK(fcntl(server, F_GETFL) & O_NONBLOCK);
  EQUAL(peer_write(client, "one", 3), 3);
  EQUAL(peer_write(client, "", 0), 0);
  EQUAL(peer_write(client, "three", 5), 5);
  until(&trace, "data one;");
  const struct sockaddr *from;
  EQUAL(becket_stream_sender(loop, trace.data, &from, &length), 0);
  EQUAL(length, sizeof own);
  CHECK(memcmp(from, &own, sizeof own) == 0);
  EQUAL(becket_stream_sender(loop, (char *)trace.data + 1, &from, &length), -EINVAL);
  becket_send_request requests[2] = {{0}, {0}};
  EQUAL(becket_stream_sendto(loop, trace.handle, &requests[0], "ONE", 3, from, length), BECKET_SEND_DONE);
  EQUAL(becket_stream_sendto(loop, trace.handle, &requests[0], "ONE", 3, NULL, length), -EINVAL);
  peer_reads(client, "ONE");
  until(&trace, "data ;");
  CHECK(becket_stream_sender(loop, trace.data, &from, &length) == 0 && memcmp(from, &own, sizeof own) == 0);
  /* An empty one, and one of several parts. */
  EQUAL(becket_stream_sendto(loop, trace.handle, &requests[0], NULL, 0, from, length), BECKET_SEND_DONE);
  peer_sees(client, 0);
  EQUAL(queued(&trace), 0);
  until(&trace, "data three;");
  /* Not connected, and no address. */
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], "x", 1), BECKET_SEND_QUEUED);
  char expected[64];
  snprintf(expected, sizeof expected, "sent %d;", -EDESTADDRREQ);
  until(&trace, expected);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  until(&trace, "closed 0;");
  /* Nobody is there any more: the network says so, and the stream goes on. */
  memset(&trace, 0, sizeof trace);
  CHECK(fcntl(client, F_SETFL, O_NONBLOCK) == 0);
  EQUAL(becket_stream_add(loop, client, BECKET_TRUSTED | BECKET_DATAGRAM, on_event, &trace, &trace.handle), 0);
  struct iovec parts[2] = {{"he", 2}, {"llo", 3}};
  EQUAL(becket_stream_sendv(loop, trace.handle, &requests[0], parts, 2), BECKET_SEND_DONE);
  snprintf(expected, sizeof expected, "failed %d;", -ECONNREFUSED);
  until(&trace, expected);
  EQUAL(becket_stream_send(loop, trace.handle, &requests[0], big, 100000), BECKET_SEND_QUEUED);
  snprintf(expected, sizeof expected, "sent %d;", -EMSGSIZE);
  until(&trace, expected);
  EQUAL(becket_stream_close(loop, trace.handle), 0);
  until(&trace, "closed 0;");
  close_loop();
}

/* ------------------------------------------------------------------------------------------------ misuse, capacity */

static void bad_arguments(void) {
  open_loop(0);
  int fds[2];
  pair_of(fds);
  becket_handle handle = 99;
  struct trace trace;
  EQUAL(becket_stream_add(NULL, fds[0], 0, on_event, NULL, &handle), -EINVAL);
  EQUAL(becket_stream_add(loop, fds[0], 0, on_event, NULL, NULL), -EINVAL);
  EQUAL(becket_stream_add(loop, fds[0], BECKET_DATAGRAM, on_event, NULL, &handle), -EINVAL);
  EQUAL(becket_stream_add(loop, -1, 0, on_event, NULL, &handle), -EBADF);
  EQUAL(becket_stream_add(loop, sim ? 5 : 9999, 0, on_event, NULL, &handle), -EBADF);
  if (!sim) {
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    EQUAL(becket_stream_add(loop, file, 0, on_event, NULL, &handle), -ENOTSOCK);
    close(file);
  }
  add_stream(&trace, fds[0]);
  EQUAL(becket_stream_add(loop, fds[0], 0, on_event, NULL, &handle), -EEXIST);
  EQUAL(becket_io_add(loop, fds[0], 0, on_event, NULL, &handle), -EEXIST);
  EQUAL(handle, 99);
  becket_handle wake;
  EQUAL(becket_wake_add(loop, NULL, NULL, &wake), 0);
  becket_send_request request = {0};
  uint64_t bytes;
  EQUAL(becket_stream_send(loop, wake, &request, "x", 1), -EINVAL);
  EQUAL(becket_stream_pause(loop, wake), -EINVAL);
  EQUAL(becket_stream_batch(loop, wake, 1), -EINVAL);
  EQUAL(becket_stream_batch(loop, 0, 1), -ESTALE);
  EQUAL(becket_stream_queued(loop, wake, &bytes), -EINVAL);
  EQUAL(becket_stream_queued(loop, trace.handle, NULL), -EINVAL);
  EQUAL(becket_stream_close(loop, 0), -ESTALE);
  EQUAL(becket_stream_reset(loop, 12345), -ESTALE);
  const struct sockaddr *from;
  socklen_t length;
  EQUAL(becket_stream_sender(loop, &wake, &from, &length), -EINVAL);
  EQUAL(becket_stream_sender(loop, NULL, &from, NULL), -EINVAL);
  struct sockaddr_in address = {.sin_family = AF_INET};
  const struct sockaddr *at = (const struct sockaddr *)&address;
  EQUAL(becket_stream_connect(loop, NULL, sizeof address, BECKET_NEVER, on_event, NULL, &handle), -EINVAL);
  EQUAL(becket_stream_connect(loop, at, 1, BECKET_NEVER, on_event, NULL, &handle), -EINVAL);
  EQUAL(becket_remove(loop, wake), 0);
  end(&trace, fds[1]);
  close_loop();
}

static void tables_are_full(void) {
  open_loop(0);
  int fds[STREAMS + 1][2];
  struct trace traces[STREAMS + 1];
  for (int i = 0; i <= STREAMS; i++) pair_of(fds[i]);
  for (int i = 0; i < STREAMS; i++) add_stream(&traces[i], fds[i][0]);
  struct sockaddr_in address = {.sin_family = AF_INET};
  becket_handle handle = 99;
  EQUAL(becket_stream_add(loop, fds[STREAMS][0], 0, on_event, NULL, &handle), -ENOSPC);
  EQUAL(becket_stream_connect(loop, (struct sockaddr *)&address, sizeof address, BECKET_NEVER, on_event, NULL, &handle),
        -ENOSPC);
  EQUAL(handle, 99);
  EQUAL(statistics_of(loop).sources, STREAMS);
  end(&traces[2], fds[2][1]);
  add_stream(&traces[STREAMS], fds[STREAMS][0]);
  EQUAL(becket_remove(loop, traces[1].handle), 0);
  becket_handle wakes[5];
  for (int i = 0; i < 5; i++) EQUAL(becket_wake_add(loop, NULL, NULL, &wakes[i]), 0);
  EQUAL(becket_stream_add(loop, fds[1][0], 0, on_event, NULL, &handle), -ENOSPC);
  for (int i = 0; i < 5; i++) EQUAL(becket_remove(loop, wakes[i]), 0);
  add_stream(&traces[1], fds[1][0]);
  for (int i = 0; i <= STREAMS; i++) {
    if (i != 2) end(&traces[i], fds[i][1]);
  }
  close_loop();
  /* No memory for any. */
  open_with(NULL, 0, 1);
  pair_of(fds[0]);
  EQUAL(becket_stream_add(loop, fds[0][0], 0, on_event, NULL, &handle), -ENOSPC);
  EQUAL(becket_stream_buffers(loop), 0);
  peer_close(fds[0][0]);
  peer_close(fds[0][1]);
  EQUAL(becket_loop_close(loop), 0);
}

static void memory_is_checked(void) {
  EQUAL(becket_streams_size(STREAMS, BUFFERS, BUFFER), BECKET_STREAMS_SIZE(STREAMS, BUFFERS, BUFFER));
  EQUAL(becket_streams_size(10000, 1, 4096), 10000 * 48 + 4096 + 120);
  CHECK(becket_streams_size(0, 1, 4096) == 0 && becket_streams_size(1, 0, 4096) == 0);
  CHECK(becket_streams_size(1, 1, 255) == 0 && becket_streams_size(1, 1, 264) == 0);
  CHECK(becket_streams_size(UINT32_MAX, UINT32_MAX, UINT32_MAX) == 0);
  /* The least, and the most that the numbers can be. */
  const uint32_t most = 0xfffffe, largest = 1u << 30;
  EQUAL(becket_streams_size(1, 1, 256), 48 + 376);
  CHECK(becket_streams_size(1, 1, 240) == 0 && becket_streams_size(1, 1, largest + 16) == 0);
  CHECK(becket_streams_size(most + 1, 1, 256) == 0 && becket_streams_size(1, most + 1, 256) == 0);
  EQUAL(becket_streams_size(1, 1, largest), 48 + 120 + (size_t)largest);
  if (SIZE_MAX > UINT32_MAX) {
    EQUAL(becket_streams_size(most, 1, 256), 48 * (size_t)most + 376);
    EQUAL(becket_streams_size(1, most, 256), 48 + 376 * (size_t)most);
  }
  becket_streams bad = streams;
  becket_config config = {.size = sizeof config, .streams = &bad};
  bad.block_size--;
  EQUAL(becket_loop_init(&loop, &memory, &config), -ENOBUFS);
  bad = streams;
  bad.block = (char *)bad.block + 8;
  EQUAL(becket_loop_init(&loop, &memory, &config), -EINVAL);
  bad = streams;
  bad.buffer_size = 100;
  EQUAL(becket_loop_init(&loop, &memory, &config), -EINVAL);
  bad = streams;
  bad.size--;
  EQUAL(becket_loop_init(&loop, &memory, &config), -EINVAL);
  bad = streams;
  bad.block = NULL;
  EQUAL(becket_loop_init(&loop, &memory, &config), -EINVAL);
}

/* ------------------------------------------------------------------------------------------------ many, and at random */

static int open_fds(void) {
  if (sim) return becket_sim_open_fds(sim);
  DIR *folder = opendir("/proc/self/fd");
  if (folder == NULL) return 0; /* (not this system) */
  int count = 0;
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

static uint64_t random_state;

static uint32_t below(uint32_t bound) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((random_state >> 33) % bound);
}

/* One end of a connection: what it sends is counted on from 0, what it receives too. */
struct talker {
  becket_handle handle;
  becket_send_request requests[4];
  struct iovec parts[4][3];
  char bytes[4][600];
  uint32_t lengths[4];
  int busy[4], next_done;
  uint64_t submitted, received;
  int shut, closing, ended, closed, failed, paused;
  void *kept;
  struct talker *other;
};

static struct talker talkers[2];
static int clean; /* no fault, and nobody resets */

static char byte_at(uint64_t at) { return (char)(at * 7 + at / 251); }

static void on_talk(becket_loop *it, const becket_event *event, void *user) {
  (void)it;
  struct talker *self = user;
  CHECK(event->handle == self->handle && !self->closed);
  if (event->flags & BECKET_STREAM_DATA) {
    CHECK(!self->paused && !self->closing && !self->ended && event->value > 0);
    const char *data = event->data;
    for (int64_t i = 0; i < event->value; i++) CHECK(data[i] == byte_at(self->received + (uint64_t)i));
    self->received += (uint64_t)event->value;
    CHECK(self->received <= self->other->submitted);
    if (self->kept == NULL && below(4) == 0) {
      EQUAL(becket_stream_keep(loop, event->data), 0);
      self->kept = event->data;
    }
  } else if (event->flags & BECKET_STREAM_SENT) {
    becket_send_request *request = event->data;
    long which = request - self->requests;
    CHECK(which >= 0 && which < 4 && self->busy[which]);
    EQUAL(which, self->next_done); /* in order */
    self->next_done = (self->next_done + 1) % 4;
    self->busy[which] = 0;
    if (event->value < 0) {
      self->failed = 1;
      CHECK(!clean);
    } else {
      EQUAL(event->value, self->lengths[which]);
    }
  } else if (event->flags & BECKET_STREAM_END) {
    CHECK(!self->ended);
    self->ended = 1;
    if (clean) EQUAL(self->received, self->other->submitted);
  } else if (event->flags & BECKET_STREAM_CLOSED) {
    for (int i = 0; i < 4; i++) CHECK(!self->busy[i]);
    self->closed = 1;
    if (clean) EQUAL(event->value, 0);
  } else {
    CHECK(event->flags & (BECKET_STREAM_LOW | BECKET_TIMEOUT));
  }
}

static int next_request(struct talker *self) {
  for (int i = 0; i < 4; i++) {
    int which = (self->next_done + i) % 4;
    if (!self->busy[which]) return which;
  }
  return -1;
}

static void talk(struct talker *self) {
  if (self->closed) return;
  switch (below(12)) {
    case 0: case 1: case 2: case 3: {
      int which = next_request(self);
      if (which < 0 || self->shut || self->closing) return;
      uint32_t length = below(sizeof self->bytes[0]);
      for (uint32_t i = 0; i < length; i++) self->bytes[which][i] = byte_at(self->submitted + i);
      uint32_t first = length ? below(length) : 0, second = length - first ? below(length - first) : 0;
      self->parts[which][0] = (struct iovec){self->bytes[which], first};
      self->parts[which][1] = (struct iovec){self->bytes[which] + first, second};
      self->parts[which][2] = (struct iovec){self->bytes[which] + first + second, length - first - second};
      int answer = below(2)
        ? becket_stream_sendv(loop, self->handle, &self->requests[which], self->parts[which], 3)
        : becket_stream_send(loop, self->handle, &self->requests[which], self->bytes[which], length);
      if (answer == -EPIPE) {
        CHECK(!clean);
        return;
      }
      CHECK(answer >= 0);
      self->submitted += length;
      self->lengths[which] = length;
      if (answer == BECKET_SEND_DONE) {
        EQUAL(which, self->next_done);
        self->next_done = (self->next_done + 1) % 4;
      } else {
        self->busy[which] = 1;
      }
      return;
    }
    case 4: EQUAL(becket_stream_pause(loop, self->handle), 0); self->paused = 1; return;
    case 5: case 6: EQUAL(becket_stream_resume(loop, self->handle), 0); self->paused = 0; return;
    case 7: case 8:
      if (self->kept) EQUAL(becket_stream_release(loop, self->kept), 0);
      self->kept = NULL;
      return;
    case 9:
      if (below(20) == 0 && !self->closing) {
        int answer = becket_stream_shutdown(loop, self->handle);
        CHECK(answer == 0 || (answer == -EPIPE && !clean));
        self->shut = 1;
      }
      return;
    case 10:
      if (below(40) == 0 && (!clean || (self->ended && self->shut))) {
        EQUAL(becket_stream_close(loop, self->handle), 0);
        self->closing = 1;
      }
      return;
    default:
      if (!clean && below(200) == 0) {
        EQUAL(becket_stream_reset(loop, self->handle), 0);
        self->closing = self->failed = 1;
      }
  }
}

static void two_talk(uint64_t seed, uint32_t faults) {
  char context[64];
  snprintf(context, sizeof context, "%s, seed %llu, faults %u", check_context, (unsigned long long)seed, faults);
  const char *outer = check_context;
  check_context = context;
  random_state = seed * 2 + 1;
  clean = faults == 0 && below(2) == 0;
  open_with(&streams, 0, seed);
  int before = open_fds(), fds[2];
  pair_of(fds);
  memset(talkers, 0, sizeof talkers);
  for (int i = 0; i < 2; i++) {
    talkers[i].other = &talkers[1 - i];
    EQUAL(becket_stream_add(loop, fds[i], 0, on_talk, &talkers[i], &talkers[i].handle), 0);
    EQUAL(becket_stream_watermarks(loop, talkers[i].handle, below(500), 500 + below(500)), 0);
    if (!sim && below(2)) {
      int size = 2304;
      CHECK(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    }
  }
  if (faults) EQUAL(becket_sim_all_faults(sim, faults, MILLISECOND), 0);
  for (int step = 0; step < 2000; step++) {
    talk(&talkers[below(2)]);
    if (below(3) == 0) {
      int answer = becket_turn(loop, 0);
      CHECK(answer >= 0 || faults);
    }
  }
  /* Both read everything, then end. */
  for (int i = 0; i < 2; i++) {
    struct talker *self = &talkers[i];
    if (self->kept) EQUAL(becket_stream_release(loop, self->kept), 0);
    self->kept = (void *)1; /* none any more */
    self->paused = 0;
    if (self->closed) continue;
    EQUAL(becket_stream_resume(loop, self->handle), 0);
    if (!self->closing) CHECK(becket_stream_shutdown(loop, self->handle) == 0 || !clean);
    self->shut = 1;
  }
  for (int turns = 0; !talkers[0].closed || !talkers[1].closed; turns++) {
    CHECK(turns < 1000000);
    for (int i = 0; i < 2; i++) {
      struct talker *self = &talkers[i];
      if (!self->closed && !self->closing && (self->ended || (!clean && (self->other->closed || self->failed)))) {
        EQUAL(becket_stream_close(loop, self->handle), 0);
        self->closing = 1;
      }
    }
    int answer = becket_turn(loop, sim ? 10 * (int64_t)MILLISECOND : 100 * (int64_t)MILLISECOND);
    CHECK(answer >= 0 || faults);
    /* Both may wait to be rid of what the other one, which closes, does not receive any more. */
    if (turns == 50 && talkers[0].closing && talkers[1].closing) {
      for (int i = 0; i < 2; i++) {
        if (!talkers[i].closed) EQUAL(becket_stream_reset(loop, talkers[i].handle), 0);
        talkers[i].failed = 1;
        CHECK(!clean);
      }
    }
  }
  if (clean) {
    EQUAL(talkers[0].received, talkers[1].submitted);
    EQUAL(talkers[1].received, talkers[0].submitted);
  }
  EQUAL(open_fds(), before);
  close_loop();
  check_context = outer;
}

/* A thousand connections that end at every point of an exchange, each in its own way. */
static void a_thousand_connections(void) {
  open_loop(0);
  int before = open_fds();
  for (int i = 0; i < 1000; i++) {
    int fds[2];
    tcp_pair_of(fds);
    struct trace trace;
    add_stream(&trace, fds[0]);
    becket_send_request request = {0};
    if (i & 1) EQUAL(peer_write(fds[1], "abc", 3), 3);
    if (i & 2) turn(0);
    if (i & 4) CHECK(becket_stream_send(loop, trace.handle, &request, big, i & 8 ? sizeof big : 10) >= 0);
    if (i & 16) peer_shutdown(fds[1]);
    if (i & 32) turn(0);
    switch (i / 64 % 5) {
      case 0: peer_reset(fds[1]); break;
      case 1: peer_close(fds[1]); break;
      case 2: EQUAL(becket_stream_reset(loop, trace.handle), 0); peer_close(fds[1]); break;
      case 3: EQUAL(becket_stream_close(loop, trace.handle), 0); peer_reset(fds[1]); break;
      default: EQUAL(becket_stream_close(loop, trace.handle), 0); peer_close(fds[1]); break;
    }
    if (!trace.closed) (void)becket_stream_close(loop, trace.handle);
    while (!trace.closed) turn(GUARD);
  }
  EQUAL(open_fds(), before);
  EQUAL(statistics_of(loop).sources, 0);
  close_loop();
}

int main(void) {
  const uint64_t seeds = getenv("TEST_UNDER_VALGRIND") == NULL ? 30 : 6; /* (which is slow) */
  memory_is_checked();
  for (now_backend = BECKET_BACKEND_SELECT; now_backend != 0;
       now_backend = now_backend == SIMULATOR ? 0 : next_backend(now_backend) ? next_backend(now_backend) : SIMULATOR) {
    check_context = now_backend == SIMULATOR ? "simulator" : backend_name(now_backend);
    fill_big();
    echo_and_end();
    byte_by_byte();
    a_trigger_a_post_and_a_level();
    a_peer_that_does_not_read();
    nothing_is_left_of_a_send();
    taken_back();
    many_parts();
    a_file_is_sent();
    paused_and_resumed();
    buffers_are_kept();
    who_waits_for_a_buffer();
    paused_by_another();
    forwarded();
    an_end_behind_it();
    forwarded_to_nobody();
    who_waits_goes();
    who_has_waited_longest();
    kept_beyond_the_end();
    half_close();
    close_flushes();
    reset_does_not();
    the_peer_resets();
    the_last_word_is_read();
    removed();
    left_to_the_loop();
    taken_by_the_program();
    timeouts();
    a_task_awaits();
    a_task_thinks();
    connected();
    bad_arguments();
    tables_are_full();
    a_thousand_connections();
    for (uint64_t seed = 0; seed < seeds; seed++) two_talk(seed, 0);
    if (now_backend == SIMULATOR) {
      for (uint64_t seed = 0; seed < 10 * seeds; seed++) two_talk(seed, seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1000 : 30000);
    } else {
      connected_at_the_last_moment();
      connecting_takes_too_long();
      a_datagram_is_taken_back();
      unix_sockets();
      datagrams();
    }
  }
  return 0;
}
