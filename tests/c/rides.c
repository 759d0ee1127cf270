/* Streams on every backend, and on io_uring above all, where the kernel receives into the loop's buffers by itself, and what is
 * forwarded rides with the next wait: each case is something that was wrong once. And a model: streams do at random all that
 * streams can do, and every byte is accounted for, in both directions.
 *
 * rides [seeds [first [backend]]]: the model alone, for so many seeds, from the first one on, on all backends or on one. */
#define _GNU_SOURCE
#include "check.h"
#include "tcp_pair.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static BECKET_MEMORY(memory, 40, 8, 8);
static BECKET_RING(small_ring, 8);
static BECKET_RING(ring, 64);

static uint32_t backend;
static becket_loop *loop;

static int64_t now(void) {
  struct timespec time;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
  return time.tv_sec * (int64_t)SECOND + time.tv_nsec;
}

static void open_loop(const becket_streams *streams, const becket_ring *with) {
  const becket_config config = {.size = sizeof config, .backend = backend, .streams = streams, .ring = with};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
}

/* Two ends: the first is for a stream. */
static void tcp_pair_at_once(int fds[2]) {
  const int on = 1;
  tcp_pair(fds);
  for (int i = 0; i < 2; i++) CHECK(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
}

static void unix_pair(int type, int fds[2]) {
  EQUAL(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
}

static void peer_writes(int fd, const char *text) { EQUAL(write(fd, text, strlen(text)), strlen(text)); }

/* Fills what the kernel keeps for a socket: how many bytes those are. */
static int64_t fill(int fd) {
  static const char nothing[4096];
  int64_t sum = 0;
  for (ssize_t count; (count = send(fd, nothing, sizeof nothing, MSG_DONTWAIT)) > 0;) sum += count;
  return sum;
}

/* ------------------------------------------------------------------------------------------------ what was wrong once */

static BECKET_STREAMS(streams_2, 20, 2, 1024);
static BECKET_STREAMS(streams_4, 20, 4, 1024);
static BECKET_STREAMS(streams_16, 20, 16, 1024);

/* A stream, what it has told, and what its handler does with what was received. */
struct stream {
  becket_handle handle, to;
  int fds[2], data;
  int64_t bytes, sent; /* of data; when something was sent to it at the latest */
  enum { IGNORES, FORWARDS, KEEPS } does;
  uint8_t *kept;
  int then_writes_to;          /* 0, or a peer that gets some bytes from the handler */
  becket_handle *then_removes; /* NULL, or a stream that the handler removes */
  int then_stops;              /* whether it stops the loop */
  int then_pauses;             /* whether it pauses its stream */
};

enum { MANY = 20 };
static struct stream streams[MANY];

static void on_stream(becket_loop *of, const becket_event *event, void *user) {
  struct stream *stream = user;
  if (event->flags & BECKET_TIMEOUT) CHECK(now() - stream->sent >= 50 * (int64_t)MILLISECOND);
  if (!(event->flags & BECKET_STREAM_DATA)) return;
  stream->data++;
  stream->bytes += event->value;
  if (stream->does == KEEPS) {
    EQUAL(becket_stream_keep(of, event->data), 0);
    stream->kept = event->data;
  }
  if (stream->does == FORWARDS) CHECK(becket_stream_forward(of, stream->to, event->data, (size_t)event->value) >= 0);
  if (stream->then_writes_to) peer_writes(stream->then_writes_to, "late");
  if (stream->then_removes) EQUAL(becket_remove(of, *stream->then_removes), 0);
  if (stream->then_stops) EQUAL(becket_stop(of), 0);
  if (stream->then_pauses) EQUAL(becket_stream_pause(of, stream->handle), 0);
}

static void add(struct stream *stream) {
  EQUAL(becket_stream_add(loop, stream->fds[0], 0, on_stream, stream, &stream->handle), 0);
  stream->to = stream->handle;
}

/* Streams of TCP, all waited for. */
static void open_streams(const becket_streams *of, const becket_ring *with, int count) {
  open_loop(of, with);
  memset(streams, 0, sizeof streams);
  for (int i = 0; i < count; i++) {
    tcp_pair_at_once(streams[i].fds);
    add(&streams[i]);
  }
  for (int i = 0; i < 3; i++) CHECK(becket_turn(loop, 0) >= 0);
}

static void close_all(void) {
  EQUAL(becket_loop_close(loop), 0); /* its ends too */
  for (int i = 0; i < MANY; i++)
    if (streams[i].fds[1] > 0) close(streams[i].fds[1]);
}

/* Turns, asleep for as long as need be, until a stream has been told of so much data; no sleep is in vain. */
static void receive(const struct stream *stream, int data) {
  while (stream->data < data) {
    const int64_t start = now();
    CHECK(becket_turn(loop, GUARD) >= 0);
    CHECK(now() - start < GUARD);
  }
}

static void peer_reads(int fd, int64_t count) {
  static char buffer[65536];
  while (count > 0) {
    struct pollfd it = {fd, POLLIN, 0};
    EQUAL(poll(&it, 1, 20000), 1);
    ssize_t read = recv(fd, buffer, count < (int64_t)sizeof buffer ? (size_t)count : sizeof buffer, 0);
    CHECK(read > 0);
    count -= read;
  }
}

/* The buffers of a stream are all on their way: it receives again when they are back, and so the wait must not sleep. */
static void its_own_buffers_ride(void) {
  open_streams(&streams_2, &ring, 1);
  streams[0].does = FORWARDS;
  for (int i = 0; i < 5; i++) {
    peer_writes(streams[0].fds[1], "ping");
    receive(&streams[0], i + 1);
  }
  CHECK(becket_turn(loop, 0) >= 0);
  peer_reads(streams[0].fds[1], 20);
  close_all();
}

/* The buffers that others wait for are on their way. */
static void others_wait_for_what_rides(void) {
  enum { COUNT = 8 };
  open_streams(&streams_4, &ring, COUNT);
  for (int i = 0; i < COUNT; i++) {
    streams[i].does = FORWARDS;
    peer_writes(streams[i].fds[1], "ping");
  }
  for (int i = 0; i < COUNT; i++) receive(&streams[i], 1);
  CHECK(becket_turn(loop, 0) >= 0);
  for (int i = 0; i < COUNT; i++) peer_reads(streams[i].fds[1], 4);
  close_all();
}

/* What rides when becket_run() returns is sent by then: perhaps no wait follows. */
static void sent_when_run_returns(void) {
  open_streams(&streams_4, &ring, 1);
  streams[0].does = FORWARDS;
  streams[0].then_stops = 1;
  peer_writes(streams[0].fds[1], "ping");
  EQUAL(becket_run(loop), 1); /* (it was stopped) */
  peer_reads(streams[0].fds[1], 4);
  close_all();
}

static int64_t to_be_read;

static void *read_later(void *unused) {
  usleep(20000);
  peer_reads(streams[1].fds[1], to_be_read);
  return unused;
}

/* Nobody receives anything more, but what rides is not all sent by that: becket_run() does not return before. */
static void run_ends_after_what_rides(void) {
  pthread_t thread;
  uint64_t queued;
  open_streams(&streams_16, &ring, 1);
  unix_pair(SOCK_STREAM, streams[1].fds);
  add(&streams[1]);
  CHECK(becket_turn(loop, 0) >= 0);
  EQUAL(becket_stream_pause(loop, streams[1].handle), 0);
  streams[0].does = FORWARDS;
  streams[0].to = streams[1].handle;
  streams[0].then_pauses = 1;
  to_be_read = fill(streams[1].fds[0]) + 8;
  peer_writes(streams[0].fds[1], "abcdefgh");
  CHECK(pthread_create(&thread, NULL, read_later, NULL) == 0);
  EQUAL(becket_run(loop), 0);
  EQUAL(becket_stream_queued(loop, streams[1].handle, &queued), 0);
  EQUAL(queued, 0);
  CHECK(pthread_join(thread, NULL) == 0);
  close_all();
}

static void dispatch_all(void) {
  becket_event event;
  int rc;
  while ((rc = becket_next(loop, BECKET_KIND_ALL, &event)) == 1) {
    rc = becket_dispatch(loop, &event);
    CHECK(rc == 0 || rc == -ESTALE);
  }
  EQUAL(rc, 0);
}

/* A turn of a program that sleeps in a poll(2) of its own, with the peers of the model if there are any: and not in vain. */
static void sleep_elsewhere(const struct pollfd *peers, int count_of_peers) {
  static becket_watch watches[64];
  static struct pollfd fds[128];
  int rc;
  while ((rc = becket_prepare(loop, BECKET_FOREVER)) > 0) dispatch_all();
  EQUAL(rc, 0);
  int count = becket_watches(loop, watches, 64);
  CHECK(count >= 0 && count <= 64);
  for (int i = 0; i < count; i++) {
    int events = (watches[i].interest & BECKET_READABLE ? POLLIN : 0) | (watches[i].interest & BECKET_WRITABLE ? POLLOUT : 0);
    fds[i] = (struct pollfd){watches[i].fd, (short)events, 0};
  }
  for (int i = 0; i < count_of_peers; i++) fds[count++] = peers[i];
  const int64_t most = becket_timeout(loop);
  const int is_short = most >= 0 && most < GUARD;
  rc = poll(fds, (nfds_t)count, (int)(((is_short ? most : GUARD) + 999999) / (int64_t)MILLISECOND));
  CHECK(rc > 0 || (rc == 0 && is_short));
  while ((rc = becket_prepare(loop, 0)) > 0) dispatch_all();
  EQUAL(rc, 0);
  EQUAL(becket_wait(loop), 0);
  CHECK(becket_collect(loop) >= 0);
  dispatch_all();
}

/* What the kernel has received since the wait is in no socket any more: who sleeps elsewhere learns of it all the same, whether
 * something rides (that is sent when the sleep is prepared), or a stream was removed. */
static void received_before_a_sleep_elsewhere(int removes) {
  open_streams(&streams_16, &ring, 3);
  streams[0].does = removes ? IGNORES : FORWARDS;
  streams[0].then_writes_to = streams[1].fds[1];
  if (removes) streams[0].then_removes = &streams[2].handle;
  peer_writes(streams[0].fds[1], "ping");
  while (streams[1].data == 0) sleep_elsewhere(NULL, 0);
  EQUAL(streams[0].data, 1);
  if (!removes) peer_reads(streams[0].fds[1], 4);
  if (removes) close(streams[2].fds[0]);
  close_all();
}

/* What rides cannot be sent: who sleeps elsewhere watches for room. */
static void no_room_while_asleep_elsewhere(void) {
  open_streams(&streams_16, &ring, 1);
  unix_pair(SOCK_STREAM, streams[1].fds);
  add(&streams[1]);
  CHECK(becket_turn(loop, 0) >= 0);
  streams[0].does = FORWARDS;
  streams[0].to = streams[1].handle;
  const int64_t before = fill(streams[1].fds[0]);
  peer_writes(streams[0].fds[1], "abcdefgh");
  while (streams[0].data == 0) sleep_elsewhere(NULL, 0);
  EQUAL(becket_prepare(loop, BECKET_FOREVER), 0);
  peer_reads(streams[1].fds[1], before);
  uint64_t queued;
  for (EQUAL(becket_stream_queued(loop, streams[1].handle, &queued), 0); queued > 0;) {
    sleep_elsewhere(NULL, 0);
    EQUAL(becket_stream_queued(loop, streams[1].handle, &queued), 0);
  }
  peer_reads(streams[1].fds[1], 8);
  close_all();
}

/* Forwarded between the wait and the collect: it has not gone with that wait, and is not lost. */
static void forwarded_after_the_wait(void) {
  open_streams(&streams_16, &ring, 3);
  const int size = 4096;
  CHECK(setsockopt(streams[1].fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
  streams[0].does = KEEPS;
  const int64_t before = fill(streams[1].fds[0]);
  peer_writes(streams[0].fds[1], "abcdefgh");
  receive(&streams[0], 1);
  EQUAL(becket_prepare(loop, 0), 0);
  EQUAL(becket_wait(loop), 0);
  CHECK(becket_stream_forward(loop, streams[1].handle, streams[0].kept, 8) >= 0);
  EQUAL(becket_remove(loop, streams[2].handle), 0); /* (which tells the kernel what there is to do) */
  close(streams[2].fds[0]);
  CHECK(becket_collect(loop) >= 0);
  dispatch_all();
  peer_reads(streams[1].fds[1], before);
  uint64_t queued;
  for (EQUAL(becket_stream_queued(loop, streams[1].handle, &queued), 0); queued > 0;) {
    const int64_t start = now();
    CHECK(becket_turn(loop, GUARD) >= 0);
    CHECK(now() - start < GUARD);
    EQUAL(becket_stream_queued(loop, streams[1].handle, &queued), 0);
  }
  peer_reads(streams[1].fds[1], 8);
  close_all();
}

/* What rides counts for the timeout of the stream that it is sent to. */
static void sending_is_not_idle(void) {
  const int64_t start = now();
  open_streams(&streams_16, &ring, 2);
  streams[0].does = FORWARDS;
  streams[0].to = streams[1].handle;
  streams[1].sent = start;
  EQUAL(becket_io_timeout(loop, streams[1].handle, 50 * (int64_t)MILLISECOND), 0);
  for (int i = 0; now() - start < 120 * (int64_t)MILLISECOND; i++) {
    peer_writes(streams[0].fds[1], "ping");
    receive(&streams[0], i + 1);
    const int64_t before = now();
    CHECK(becket_turn(loop, 0) >= 0);
    peer_reads(streams[1].fds[1], 4);
    streams[1].sent = before;
    CHECK(becket_turn(loop, 5 * (int64_t)MILLISECOND) >= 0);
  }
  close_all();
}

/* The kernel has no buffer that datagrams need, and they not more than they can use. */
static void datagrams_while_one_is_kept(const becket_streams *of) {
  open_loop(of, &ring);
  memset(streams, 0, sizeof streams);
  for (int i = 0; i < 2; i++) {
    unix_pair(SOCK_DGRAM, streams[i].fds);
    add(&streams[i]);
  }
  for (int i = 0; i < 3; i++) CHECK(becket_turn(loop, 0) >= 0);
  streams[0].does = KEEPS;
  for (int i = 0; i < 2; i++) {
    peer_writes(streams[i].fds[1], "q");
    receive(&streams[i], 1);
  }
  EQUAL(becket_stream_buffers(loop), of->buffers - 1);
  close_all();
}

/* Removes all streams, and closes their descriptors, as another thread while the loop's is about to wait. */
static void *remove_all(void *unused) {
  for (int i = 0; i < MANY && streams[i].handle; i++) {
    EQUAL(becket_remove(loop, streams[i].handle), 0);
    close(streams[i].fds[0]);
  }
  return unused;
}

/* The same with one, and another socket has its number at once. */
static void *exchange(void *unused) {
  int fds[2];
  unix_pair(SOCK_STREAM, fds);
  peer_writes(fds[1], "precious");
  const int number = streams[0].fds[0];
  remove_all(NULL);
  close(streams[0].fds[1]);
  EQUAL(dup2(fds[0], number), number);
  close(fds[0]);
  streams[0] = (struct stream){.fds = {number, fds[1]}};
  add(&streams[0]);
  return unused;
}

static void in_another_thread(void *(*body)(void *)) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

/* What is to be received for a stream is not asked of the file that has its descriptor later. */
static void a_descriptor_is_used_again(void) {
  open_streams(&streams_16, &ring, 1);
  peer_writes(streams[0].fds[1], "x");
  receive(&streams[0], 1); /* which makes the kernel receive anew with the next wait */
  EQUAL(becket_prepare(loop, 0), 0);
  in_another_thread(exchange);
  EQUAL(becket_wait(loop), 0);
  CHECK(becket_collect(loop) >= 0);
  dispatch_all();
  receive(&streams[0], 1);
  EQUAL(streams[0].bytes, 8);
  close_all();
}

/* More are removed than the ring has room to cancel, while an operation is in flight: each file is let go all the same. */
static void more_are_removed_than_the_ring_holds(void) {
  char byte;
  int pipe_fds[2];
  becket_handle operation;
  struct stream reader = {.does = IGNORES};
  open_streams(&streams_16, &small_ring, MANY);
  EQUAL(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
  EQUAL(becket_op_read(loop, pipe_fds[0], &byte, 1, -1, on_stream, &reader, &operation), 0);
  for (int i = 0; i < 2; i++) CHECK(becket_turn(loop, 0) >= 0);
  EQUAL(becket_prepare(loop, 0), 0);
  in_another_thread(remove_all);
  EQUAL(becket_wait(loop), 0);
  CHECK(becket_collect(loop) >= 0);
  dispatch_all();
  for (int i = 0; i < 10; i++) CHECK(becket_turn(loop, 0) >= 0);
  for (int i = 0; i < MANY; i++) {
    struct pollfd it = {streams[i].fds[1], POLLIN, 0};
    EQUAL(poll(&it, 1, 20000), 1);
    EQUAL(recv(streams[i].fds[1], &byte, 1, 0), 0);
  }
  EQUAL(write(pipe_fds[1], "x", 1), 1);
  while (statistics_of(loop).operations_now > 0) CHECK(becket_turn(loop, GUARD) >= 0);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  close_all();
}

/* What was received for streams that were paused before they were told has a buffer each, and one is kept: the rest is enough. */
static void buffers_of_the_paused(void) {
  open_streams(&streams_4, &ring, 6);
  for (int i = 0; i < 2; i++) peer_writes(streams[i].fds[1], "ping");
  EQUAL(becket_prepare(loop, 0), 0);
  EQUAL(becket_wait(loop), 0);
  CHECK(becket_collect(loop) >= 0);
  for (int i = 0; i < 3; i++) EQUAL(becket_stream_pause(loop, streams[i].handle), 0);
  dispatch_all();
  streams[3].does = KEEPS;
  for (int i = 3; i < 5; i++) {
    peer_writes(streams[i].fds[1], "ping");
    receive(&streams[i], 1);
  }
  for (int i = 0; i < 2; i++) {
    EQUAL(streams[i].data, 0);
    EQUAL(becket_stream_resume(loop, streams[i].handle), 0);
    receive(&streams[i], 1);
  }
  close_all();
}

/* All write at once, and the kernel has too few buffers: some are waited for again, and not received for. Then any three keep
 * a buffer: the others receive into the one that the kernel may have. */
static void too_few_for_all_and_three_are_kept(void) {
  enum { COUNT = 5 };
  open_streams(&streams_4, &ring, COUNT);
  for (int choice = 0; choice < COUNT * COUNT * COUNT; choice++) {
    struct stream *keeping[] = {&streams[choice % COUNT], &streams[choice / COUNT % COUNT], &streams[choice / COUNT / COUNT]};
    if (keeping[0] == keeping[1] || keeping[1] == keeping[2] || keeping[2] == keeping[0]) continue;
    for (int i = 0; i < COUNT; i++) streams[i].data = 0;
    for (int i = 0; i < COUNT; i++) peer_writes(streams[i].fds[1], "ping");
    for (int i = 0; i < COUNT; i++) receive(&streams[i], 1);
    for (int i = 0; i < 3; i++) {
      keeping[i]->does = KEEPS;
      peer_writes(keeping[i]->fds[1], "ping");
      receive(keeping[i], 2);
      keeping[i]->does = IGNORES;
    }
    for (int i = 0; i < COUNT; i++) {
      if (streams[i].data == 2) continue;
      peer_writes(streams[i].fds[1], "ping");
      receive(&streams[i], 2);
    }
    for (int i = 0; i < 3; i++) EQUAL(becket_stream_release(loop, keeping[i]->kept), 0);
  }
  close_all();
}

/* ------------------------------------------------------------------------------------------------ the model */

enum { SIDES = 24, BUFFERS = 16, BUFFER = 4096, REQUESTS = 64, REQUEST = 600 };

/* A stream and its peer. What the peer writes follows from the stream's number and the position; what it has to read is kept. */
struct side {
  becket_handle handle;
  int fd, peer; /* peer: -1, it is closed */
  uint32_t number;
  int is_there;                                   /* it has been started */
  int removed, gone;                              /* no event may come any more */
  int paused, shut, closing, aborted;             /* what the program has asked for */
  int peer_shut, ended;                           /* the peer writes no more; that was told */
  int broken;                                     /* the connection was: what was on its way may be lost */
  int failed_before;                              /* it was when it was paused, and that was not told yet */
  uint64_t written, received;                     /* by the peer; of that */
  uint8_t *out;                                   /* what is sent to the peer */
  size_t out_count, out_room, read;
};

static struct side sides[SIDES];
static uint32_t numbers;

struct request {
  becket_send_request request;
  uint8_t data[REQUEST];
  size_t length;
  uint32_t used_by; /* 0: by none */
};

static struct request requests[REQUESTS];

/* Buffers that are kept, and what is in them. */
static struct {
  uint8_t *data; /* NULL: none */
  size_t count;
  uint8_t copy[BUFFER];
} kept[BUFFERS];

static int resets, threads, local; /* what may happen; local: all in sockets of AF_UNIX, in which nothing is ever on its way */
static int settling;               /* all is to come to rest */
static uint64_t random_state;

static uint32_t below(uint32_t end) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 33) % end;
}

static uint8_t byte_of(uint32_t number, uint64_t position) {
  uint64_t x = number * UINT64_C(0x9e3779b97f4a7c15) + position * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 29)) * UINT64_C(0x94d049bb133111eb);
  return (uint8_t)(x >> 40);
}

static int is_open(const struct side *side) { return side->is_there && !side->gone && !side->removed; }

static struct side *any_open(void) {
  for (int i = 0; i < 8; i++) {
    struct side *side = &sides[below(SIDES)];
    if (is_open(side)) return side;
  }
  return NULL;
}

/* The peer has to read this. */
static void expect(struct side *side, const uint8_t *data, size_t count) {
  if (count == 0) return;
  while (side->out_count + count > side->out_room) {
    side->out_room = side->out_room ? side->out_room * 2 : 65536;
    CHECK((side->out = realloc(side->out, side->out_room)) != NULL);
  }
  memcpy(side->out + side->out_count, data, count);
  side->out_count += count;
}

static int cannot_send(const struct side *side) { return side->shut || side->closing || side->broken; }

static void peer_reads_some(struct side *side, size_t most) {
  static uint8_t bytes[65536];
  if (side->peer < 0) return;
  ssize_t count = recv(side->peer, bytes, most, MSG_DONTWAIT);
  if (count < 0 && errno == EAGAIN) return;
  if (count < 0) {
    CHECK(errno == ECONNRESET || errno == EPIPE);
    CHECK(side->broken || side->gone || side->closing || side->removed);
    side->broken = 1;
    return;
  }
  CHECK(side->read + (size_t)count <= side->out_count);
  CHECK(count == 0 || memcmp(bytes, side->out + side->read, (size_t)count) == 0);
  side->read += (size_t)count;
  if (count > 0 || side->broken || side->removed) return;
  CHECK(side->shut || side->closing);
  EQUAL(side->read, side->out_count);
}

static void peer_writes_some(struct side *side) {
  uint8_t bytes[5000];
  if (side->peer_shut) return;
  const uint32_t length = 1 + below(below(3) ? 200 : 5000);
  for (uint32_t i = 0; i < length; i++) bytes[i] = byte_of(side->number, side->written + i);
  ssize_t count = send(side->peer, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  CHECK(count >= 0 || errno == EAGAIN || side->broken || side->closing || side->gone || side->removed);
  if (count > 0) side->written += (uint64_t)count;
  if (count < 0 && errno != EAGAIN) side->broken = 1; /* which is said once */
}

static void forward(struct side *to, uint8_t *data, size_t count) {
  uint8_t copy[BUFFER];
  memcpy(copy, data, count);
  const size_t from = below(4) == 0 ? below((uint32_t)count) : 0;
  const size_t length = below(4) == 0 ? below((uint32_t)(count - from) + 1) : count - from;
  int rc = becket_stream_forward(loop, to->handle, data + from, length);
  if (rc == -EPIPE) {
    CHECK(cannot_send(to));
    return;
  }
  CHECK(rc >= 0);
  for (int i = 0; i < BUFFERS; i++)
    if (kept[i].data == data) kept[i].data = NULL;
  expect(to, copy + from, length);
}

static void keep(uint8_t *data, size_t count) {
  for (int i = 0; i < BUFFERS; i++) {
    if (kept[i].data != NULL) continue;
    EQUAL(becket_stream_keep(loop, data), 0);
    kept[i].data = data;
    kept[i].count = count;
    memcpy(kept[i].copy, data, count);
    return;
  }
}

/* One of those that are kept; -1: none. They are what they were. */
static int any_kept(void) {
  int found = -1;
  const uint32_t start = below(BUFFERS);
  for (uint32_t i = 0; i < BUFFERS; i++) {
    const uint32_t place = (start + i) % BUFFERS;
    if (kept[place].data == NULL) continue;
    CHECK(memcmp(kept[place].data, kept[place].copy, kept[place].count) == 0);
    found = (int)place;
  }
  return found;
}

static void release(int place) {
  EQUAL(becket_stream_release(loop, kept[place].data + below((uint32_t)kept[place].count)), 0);
  kept[place].data = NULL;
}

static void send_some(struct side *side) {
  for (int i = 0; i < REQUESTS; i++) {
    struct request *request = &requests[i];
    if (request->used_by != 0) continue;
    request->length = below(REQUEST);
    for (size_t k = 0; k < request->length; k++) request->data[k] = (uint8_t)below(256);
    int rc = becket_stream_send(loop, side->handle, &request->request, request->data, request->length);
    if (rc == -EPIPE) {
      CHECK(cannot_send(side));
      return;
    }
    CHECK(rc >= 0);
    expect(side, request->data, request->length);
    if (rc != BECKET_SEND_DONE) request->used_by = side->number;
    return;
  }
}

static void close_side(struct side *side) {
  side->closing = 1;
  EQUAL(becket_stream_close(loop, side->handle), 0);
}

static void act_on(struct side *side) {
  int place;
  switch (below(15)) {
    case 0:
      side->failed_before = side->paused ? side->failed_before : becket_stream_send(loop, side->handle, NULL, NULL, 0) == -EPIPE;
      EQUAL(becket_stream_pause(loop, side->handle), 0);
      side->paused = 1;
      break;
    case 1:
    case 2:
      EQUAL(becket_stream_resume(loop, side->handle), 0);
      side->paused = 0;
      break;
    case 3:
    case 4:
    case 5:
      if ((place = any_kept()) >= 0) release(place);
      break;
    case 6:
    case 7:
      if ((place = any_kept()) >= 0) forward(side, kept[place].data, kept[place].count);
      break;
    case 8: send_some(side); break;
    case 14: EQUAL(becket_stream_batch(loop, side->handle, below(3) != 0), 0); break;
    case 9:
      if (below(6) == 0 && !side->shut && !side->closing) {
        int rc = becket_stream_shutdown(loop, side->handle);
        CHECK(rc >= 0 || (rc == -EPIPE && side->broken));
        side->shut = 1;
      }
      break;
    case 10:
      if (below(8) == 0 && !side->closing) close_side(side);
      break;
    case 11:
      if (below(12) == 0) {
        side->aborted = side->broken = 1;
        EQUAL(becket_stream_reset(loop, side->handle), 0);
      }
      break;
    case 12:
      if (below(12) == 0) {
        EQUAL(becket_remove(loop, side->handle), 0);
        side->removed = 1;
        for (int i = 0; i < REQUESTS; i++)
          if (requests[i].used_by == side->number) requests[i].used_by = 0;
        close(side->fd);
      }
      break;
    default:
      if (below(4) == 0) EQUAL(becket_set_level(loop, side->handle, (uint8_t)below(4)), 0);
      break;
  }
}

/* What a program does in a handler of this side's, or elsewhere (NULL). */
static void act(struct side *side) {
  for (uint32_t count = below(3); count > 0; count--) {
    struct side *on = side != NULL && below(2) ? side : any_open();
    if (on != NULL && is_open(on)) act_on(on);
  }
}

static void on_side(becket_loop *of, const becket_event *event, void *user) {
  struct side *side = user;
  EQUAL(event->kind, BECKET_KIND_STREAM);
  CHECK(is_open(side));
  if (event->flags & BECKET_STREAM_DATA) {
    uint8_t *data = event->data;
    const size_t count = (size_t)event->value;
    CHECK(!side->paused && !side->closing && !side->ended);
    CHECK(side->received + count <= side->written);
    for (size_t i = 0; i < count; i++) EQUAL(data[i], byte_of(side->number, side->received + i));
    side->received += count;
    const uint32_t what = below(10);
    if (what < (settling ? 9 : 5)) {
      struct side *to = below(2) ? side : any_open();
      if (to != NULL) forward(to, data, count);
    } else if (what < 7 && !settling) {
      keep(data, count);
    }
  } else if (event->flags & BECKET_STREAM_END) {
    CHECK(side->peer_shut && !side->paused);
    CHECK(side->received == side->written || side->broken);
    side->ended = 1;
    if (settling && !side->closing && below(2)) close_side(side);
  } else if (event->flags & BECKET_STREAM_SENT) {
    struct request *request = event->data;
    CHECK(request != NULL || side->broken); /* what was forwarded is told of only when it is lost */
    if (request != NULL) {
      EQUAL(request->used_by, side->number);
      CHECK(event->value == (int64_t)request->length || side->broken);
      request->used_by = 0;
    }
  } else if (event->flags & BECKET_STREAM_CLOSED) {
    CHECK(event->value == 0 || side->broken);
    CHECK(event->value == 0 || !side->paused || side->closing || side->aborted || side->ended || side->failed_before);
    side->gone = 1;
  }
  if (!settling && is_open(side)) act(side);
  if (below(40) == 0) CHECK(becket_poll(of, 0) >= 0);
}

static void start_side(struct side *side) {
  uint8_t *out = side->out;
  const size_t out_room = side->out_room;
  int fds[2], is_tcp = below(2) == 0 && !local;
  if (is_tcp) {
    tcp_pair_at_once(fds);
  } else {
    unix_pair(SOCK_STREAM, fds);
  }
  if (!is_tcp && !local && below(2)) {
    const int size = 4096;
    CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
  }
  *side = (struct side){.is_there = 1, .fd = fds[0], .peer = fds[1], .number = ++numbers, .out = out, .out_room = out_room};
  EQUAL(becket_stream_add(loop, side->fd, below(2) ? BECKET_TRUSTED : 0, on_side, side, &side->handle), 0);
  const uint32_t low = below(2000);
  if (below(2)) EQUAL(becket_stream_watermarks(loop, side->handle, low, low + below(3000)), 0);
  if (below(4) == 0) EQUAL(becket_set_level(loop, side->handle, (uint8_t)below(4)), 0);
}

static void end_peer(struct side *side) {
  for (int i = 0; i < 10 && side->peer >= 0 && !side->broken; i++) peer_reads_some(side, 65536);
  if (side->peer >= 0) close(side->peer);
  side->peer = -1;
}

static void peers_act(void) {
  for (uint32_t count = below(4); count > 0; count--) {
    struct side *side = &sides[below(SIDES)];
    if (!side->is_there || side->removed) continue;
    if (below(3)) {
      peer_writes_some(side);
    } else {
      peer_reads_some(side, 1 + below(8000));
    }
  }
  struct side *side = &sides[below(SIDES)];
  if (below(60) == 0 && is_open(side) && !side->peer_shut) {
    CHECK(shutdown(side->peer, SHUT_WR) == 0 || errno == ENOTCONN);
    side->peer_shut = 1;
  }
  if (resets && below(60) == 0 && is_open(side) && side->peer >= 0) {
    const struct linger linger = {1, 0};
    if (below(2)) CHECK(setsockopt(side->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    close(side->peer);
    side->peer = -1;
    side->peer_shut = side->broken = 1;
  }
  if (below(10) == 0 && !is_open(side)) {
    end_peer(side);
    start_side(side);
  }
}

/* Threads have one lock, and the loop's lets it go while it waits. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int is_over;

static void *act_in_another_thread(void *unused) {
  for (int over = 0; !over;) {
    CHECK(pthread_mutex_lock(&lock) == 0);
    over = is_over;
    if (!over) act(NULL);
    const uint32_t pause = below(200);
    CHECK(pthread_mutex_unlock(&lock) == 0);
    usleep(pause);
  }
  return unused;
}

static void turn_of_model(int64_t timeout) {
  const uint32_t how = threads ? 0 : below(6);
  if (how >= 3) {
    CHECK(becket_turn(loop, timeout) >= 0);
    return;
  }
  if (how == 2) {
    CHECK(becket_poll(loop, timeout) >= 0);
  } else {
    int rc;
    while ((rc = becket_prepare(loop, timeout)) > 0) dispatch_all();
    EQUAL(rc, 0);
    if (threads) CHECK(pthread_mutex_unlock(&lock) == 0);
    rc = becket_wait(loop);
    if (threads) CHECK(pthread_mutex_lock(&lock) == 0);
    EQUAL(rc, 0);
    CHECK(becket_collect(loop) >= 0);
  }
  dispatch_all();
}

/* Whether something is still to happen to a side. */
static int is_pending(const struct side *side) {
  if (!side->is_there || side->removed) return 0;
  if (!side->broken && side->read != side->out_count) return 1;
  if (side->gone) return 0;
  if (side->closing) return 1;
  return side->peer_shut ? !side->ended : !side->broken && side->received != side->written;
}

static int any_pending(void) {
  int count = 0;
  for (int i = 0; i < SIDES; i++) count += is_pending(&sides[i]);
  return count;
}

/* Whether the next wait has something to receive, and may not sleep for long: what is still to be sent, for which it may need the
 * buffers, has room. (Peers have read all there is.) */
static int must_receive(void) {
  int answer = 0;
  if (!local) return 0;
  for (int i = 0; i < SIDES; i++) {
    const struct side *side = &sides[i];
    if (!side->is_there || side->removed) continue;
    if (!side->broken && side->out_count - side->read > 16384) return 0;
    answer |= !side->gone && !side->closing && !side->broken && side->received != side->written;
  }
  return answer;
}

static void say_what_is_pending(void) {
  for (int i = 0; i < SIDES; i++) {
    const struct side *side = &sides[i];
    if (!is_pending(side)) continue;
    fprintf(stderr, "pending: number %u, received %llu of %llu, read %llu of %llu, shut %d, closing %d, peer_shut %d, buffers %d\n",
            side->number, (unsigned long long)side->received, (unsigned long long)side->written,
            (unsigned long long)side->read, (unsigned long long)side->out_count, side->shut, side->closing, side->peer_shut,
            becket_stream_buffers(loop));
  }
}

/* All that was written is received, all that was sent arrives, all that ends is told; and all buffers are free. */
static void settle(uint32_t buffers) {
  const int elsewhere = below(3) == 0;
  int64_t progress = now();
  settling = 1;
  for (int i = 0; i < BUFFERS; i++)
    if (kept[i].data != NULL) release(i);
  for (int i = 0; i < SIDES; i++) {
    if (!is_open(&sides[i])) continue;
    EQUAL(becket_stream_resume(loop, sides[i].handle), 0);
    sides[i].paused = 0;
  }
  while (any_pending()) {
    struct pollfd peers[SIDES];
    int count = 0;
    uint64_t before = 0, after = 0;
    for (int i = 0; i < SIDES; i++) before += sides[i].read + sides[i].received;
    for (int i = 0; i < SIDES; i++) {
      struct side *side = &sides[i];
      if (side->peer < 0 || !side->is_there || side->removed || side->broken) continue;
      for (int k = 0; k < 8; k++) peer_reads_some(side, 65536);
      if (side->read != side->out_count) peers[count++] = (struct pollfd){side->peer, POLLIN, 0};
    }
    if (!any_pending()) break;
    if (elsewhere) {
      sleep_elsewhere(peers, count);
    } else {
      const int64_t start = now();
      const int may_sleep = !must_receive();
      turn_of_model(may_sleep ? 20 * (int64_t)MILLISECOND : GUARD);
      CHECK(may_sleep || now() - start < GUARD);
    }
    for (int i = 0; i < SIDES; i++) after += sides[i].read + sides[i].received;
    if (after != before) progress = now();
    if (now() - progress >= GUARD) say_what_is_pending();
    CHECK(now() - progress < GUARD);
  }
  for (int i = 0; i < 3; i++) turn_of_model(0);
  EQUAL(becket_stream_buffers(loop), buffers);
  settling = 0;
}

static void model(uint64_t seed) {
  static _Alignas(16) char block[1 << 18];
  static char context[80];
  static const uint32_t numbers_of_buffers[] = {1, 2, 3, 4, 5, 8, 16};
  random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
  for (int i = 0; i < 5; i++) (void)below(2);
  resets = below(2) == 0;
  threads = below(4) == 0;
  local = below(3) == 0;
  const uint32_t buffers = numbers_of_buffers[below(7)], size = UINT32_C(256) << below(5), which_ring = below(3);
  snprintf(context, sizeof context, "%s, seed %llu%s%s%s", backend_name(backend), (unsigned long long)seed,
           resets ? ", resets" : "", threads ? ", threads" : "", local ? ", local" : "");
  check_context = context;
  memset(requests, 0, sizeof requests);
  memset(kept, 0, sizeof kept);
  numbers = 0;
  for (int i = 0; i < SIDES; i++) sides[i].is_there = 0, sides[i].peer = -1;
  const becket_streams table = {sizeof table, block, sizeof block, SIDES, buffers, size};
  const becket_config config = {.size = sizeof config,
                                .backend = backend,
                                .streams = &table,
                                .ring = which_ring == 0 ? &small_ring : which_ring == 1 ? &ring : NULL,
                                .budget = below(3) ? 0 : 1 + below(10)};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  for (int i = 0; i < SIDES; i++)
    if (below(2)) start_side(&sides[i]);
  pthread_t thread;
  is_over = 0;
  if (threads) {
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK(pthread_create(&thread, NULL, act_in_another_thread, NULL) == 0);
  }
  for (uint32_t rounds = 200 + below(400); rounds > 0; rounds--) {
    peers_act();
    if (below(4) == 0) act(NULL);
    turn_of_model(below(3) ? 0 : below(2) * (int64_t)MILLISECOND);
    if (!threads && below(150) == 0) settle(buffers);
    (void)any_kept();
  }
  if (threads) {
    is_over = 1;
    CHECK(pthread_mutex_unlock(&lock) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    threads = 0;
  }
  settle(buffers);
  for (int i = 0; i < SIDES; i++)
    if (is_open(&sides[i]) && below(2) && !sides[i].closing) close_side(&sides[i]);
  if (below(2)) settle(buffers);
  EQUAL(becket_loop_close(loop), 0);
  for (int i = 0; i < SIDES; i++) {
    if (sides[i].peer >= 0) close(sides[i].peer);
    sides[i].peer = -1;
  }
}

int main(int count, char **arguments) {
  const int under_valgrind = getenv("TEST_UNDER_VALGRIND") != NULL;
  uint64_t seeds = under_valgrind ? 2 : 12, first = 0;
  uint32_t only = 0;
  if (count > 1) seeds = strtoull(arguments[1], NULL, 0);
  if (count > 2) first = strtoull(arguments[2], NULL, 0);
  if (count > 3) only = (uint32_t)strtoul(arguments[3], NULL, 0);
  CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
  while ((backend = next_backend(backend)) != 0) {
    if (only != 0 && backend != only) continue;
    check_context = backend_name(backend);
    alarm(300); /* a hang is a failure */
    if (count == 1) {
      its_own_buffers_ride();
      others_wait_for_what_rides();
      sent_when_run_returns();
      run_ends_after_what_rides();
      received_before_a_sleep_elsewhere(0);
      received_before_a_sleep_elsewhere(1);
      no_room_while_asleep_elsewhere();
      forwarded_after_the_wait();
      sending_is_not_idle();
      datagrams_while_one_is_kept(&streams_2);
      datagrams_while_one_is_kept(&streams_4);
      a_descriptor_is_used_again();
      more_are_removed_than_the_ring_holds();
      buffers_of_the_paused();
      too_few_for_all_and_three_are_kept();
    }
    for (uint64_t seed = first; seed < first + seeds; seed++) {
      alarm(300);
      model(seed);
    }
  }
  for (int i = 0; i < SIDES; i++) free(sides[i].out);
  return 0;
}
