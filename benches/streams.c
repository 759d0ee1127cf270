/* Echo servers that do the same: becket's streams on each backend, and loops written by hand on epoll and io_uring.
 *
 *   streams WAY [BUFFER]      WAY: raw-epoll, raw-io_uring, becket-select, becket-poll, becket-epoll, becket-io_uring,
 *                                  each-epoll, each-io_uring, batch-epoll, batch-io_uring
 *
 * each: every 64 bytes are answered by a request of their own, from a copy; batch: and those are gathered.
 * BUFFER: the most bytes that are received at once, 256 to 65536 (4096). Prints its port, and ends when all clients that it had
 * have gone; then it prints the processor time that it took, in nanoseconds. With STEPS in the environment
 * it stops itself first: steps.c counts from there. The loops by hand know what a bound from above needs, and no more: they believe the system. */
#define _GNU_SOURCE
#include <becket.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 10100
#define BUFFER_MAX  65536
#define BUFFERS_MAX 1024

static size_t buffer_size = 4096;
static uint32_t buffers = 1024; /* of the loops that receive into many: fewer where each is larger */
static long clients;            /* that are there now */

static _Noreturn void fail(const char *what, int code) {
  fprintf(stderr, "streams: %s: %s\n", what, strerror(code < 0 ? -code : errno));
  exit(EXIT_FAILURE);
}

static void ready(int listener) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) fail("getsockname", 0);
  printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);
  if (getenv("STEPS") != NULL) raise(SIGSTOP);
}

/* Small answers are not held back, whoever sends them: what is accepted inherits it. */
static void no_delay(int listener) {
  int on = 1;
  if (setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) fail("TCP_NODELAY", 0);
}

static int listen_by_hand(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
    fail("listen", 0);
  no_delay(listener);
  return listener;
}

/* ---- becket ---- */

static BECKET_STREAMS(all_streams, CONNECTIONS, BUFFERS_MAX, BUFFER_MAX);
static BECKET_MEMORY(memory, CONNECTIONS + 1, 0, 0);
static BECKET_RING(ring, 1024);

/* Every 64 bytes, and those that are left, are sent by a request of their own. */
enum { MESSAGE = 64 };
static struct answer {
  becket_send_request request; /* comes first: an event leads to it */
  char bytes[MESSAGE];
} *unused_answer;
static BECKET_POOL(answers, 8192, sizeof(struct answer));
static bool each, batch;

static void must(const char *what, int code) {
  if (code < 0) fail(what, code);
}

static void answer_each(becket_loop *loop, becket_handle stream, const char *bytes, size_t size) {
  while (size > 0) {
    size_t length = size < MESSAGE ? size : MESSAGE;
    struct answer *answer = unused_answer != NULL ? unused_answer : becket_pool_get(&answers);
    if (answer == NULL) fail("answers", -ENOBUFS);
    memcpy(answer->bytes, bytes, length);
    int rc = becket_stream_send(loop, stream, &answer->request, answer->bytes, length);
    must("send", rc);
    unused_answer = rc == BECKET_SEND_DONE ? answer : NULL;
    bytes += length, size -= length;
  }
}

static void on_stream(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  if (each && (event->flags & BECKET_STREAM_SENT)) {
    must("put", becket_pool_put(&answers, event->data));
  } else if (each && (event->flags & BECKET_STREAM_DATA)) {
    answer_each(loop, event->handle, event->data, (size_t)event->value);
  } else if (event->flags & BECKET_STREAM_DATA) {
    int rc = becket_stream_forward(loop, event->handle, event->data, (size_t)event->value);
    if (rc == BECKET_SEND_FULL) must("pause", becket_stream_pause(loop, event->handle));
    if (rc < 0 && rc != -EPIPE) fail("forward", rc);
  } else if (event->flags & BECKET_STREAM_LOW) {
    must("resume", becket_stream_resume(loop, event->handle));
  } else if (event->flags & BECKET_STREAM_SENT) { /* it could not be */
    must("reset", becket_stream_reset(loop, event->handle));
  } else if (event->flags & BECKET_STREAM_END) {
    must("close", becket_stream_close(loop, event->handle));
  } else if (event->flags & BECKET_STREAM_CLOSED) {
    if (--clients == 0) must("stop", becket_stop(loop));
  }
}

static void on_listener(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  becket_handle stream;
  must("listener", (int)event->value);
  must("stream", becket_stream_add(loop, (int)event->value, BECKET_TRUSTED, on_stream, NULL, &stream));
  must("watermarks", becket_stream_watermarks(loop, stream, 0, (uint32_t)buffer_size));
  if (batch) must("batch", becket_stream_batch(loop, stream, 1));
  clients++;
}

static void with_becket(uint32_t backend) {
  becket_streams room = all_streams;
  room.buffers = buffers;
  room.buffer_size = (uint32_t)buffer_size;
  becket_config config = {.size = sizeof config, .backend = backend, .streams = &room};
  if (backend == BECKET_BACKEND_IO_URING) config.ring = &ring;
  const becket_listen_options options = {.size = sizeof options, .flags = BECKET_LISTEN_FOR_STREAMS};
  becket_loop *loop;
  becket_handle listener;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("listen", becket_listen(loop, "127.0.0.1:0", &options, on_listener, NULL, &listener));
  no_delay(becket_listener_fd(loop, listener));
  ready(becket_listener_fd(loop, listener));
  must("run", becket_run(loop));
  must("close", becket_loop_close(loop));
}

/* ---- epoll, by hand ---- */

/* What a peer did not take in yet. */
struct rest {
  size_t at, end;
  char bytes[];
};

static struct rest *rests[2 * CONNECTIONS]; /* by fd */

static void watch(int set, int how, int fd, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(set, how, fd, &event) < 0) fail("epoll_ctl", 0);
}

static void drop(int fd) {
  free(rests[fd]);
  rests[fd] = NULL;
  close(fd); /* which takes it out of the set */
  clients--;
}

static void answer(int set, int fd, const char *bytes, size_t size) {
  ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
  if (sent == (ssize_t)size) return;
  if (sent < 0 && errno != EAGAIN) return drop(fd);
  size_t begin = sent < 0 ? 0 : (size_t)sent;
  struct rest *rest = rests[fd] = malloc(sizeof *rest + size - begin);
  if (rest == NULL) fail("malloc", 0);
  *rest = (struct rest){.end = size - begin};
  memcpy(rest->bytes, bytes + begin, rest->end);
  watch(set, EPOLL_CTL_MOD, fd, EPOLLOUT);
}

static void go_on(int set, int fd) {
  struct rest *rest = rests[fd];
  ssize_t sent = send(fd, rest->bytes + rest->at, rest->end - rest->at, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return drop(fd);
  if (sent > 0) rest->at += (size_t)sent;
  if (rest->at < rest->end) return;
  free(rest);
  rests[fd] = NULL;
  watch(set, EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void by_hand_epoll(void) {
  static char buffer[BUFFER_MAX];
  struct epoll_event events[256];
  int listener = listen_by_hand(), set = epoll_create1(EPOLL_CLOEXEC);
  if (set < 0) fail("epoll_create1", 0);
  watch(set, EPOLL_CTL_ADD, listener, EPOLLIN);
  ready(listener);
  do {
    int count = epoll_wait(set, events, 256, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait", 0);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int client;
        while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
          if (client >= 2 * CONNECTIONS) fail("accept4", -EMFILE);
          watch(set, EPOLL_CTL_ADD, client, EPOLLIN);
          clients++;
        }
      } else if (rests[fd] != NULL) {
        go_on(set, fd);
      } else {
        ssize_t size = recv(fd, buffer, buffer_size, 0);
        if (size > 0) answer(set, fd, buffer, (size_t)size);
        else if (size == 0 || errno != EAGAIN) drop(fd);
      }
    }
  } while (clients > 0);
}

/* ---- io_uring, by hand ----
 *
 * Multishot accept and receive, into buffers that the kernel chooses. A send is made, from the buffer that it was received into,
 * in the same system call that waits next; it does not block, and has a completion only when it fell short. So after that call
 * whatever was not told of has been sent. What fell short, the kernel goes on with by itself. One send of a connection at a time:
 * what it received meanwhile waits in order. Who reads nothing keeps the buffers: this is a bound, not a server. */

enum { ENTRIES = 1024, ACCEPT, RECEIVE, SEND, GO_ON };

static struct {
  int fd;
  unsigned *sq_head, *sq_tail, *cq_head, *cq_tail, entries, mask, cq_mask, filled, submitted;
  struct io_uring_sqe *sqes;
  struct io_uring_cqe *cqes;
  struct io_uring_buf_ring *free; /* buffers that the kernel may use */
  char *bytes;
  uint16_t free_tail;
} uring;

static struct uring_connection {
  int32_t first, last, next_starved; /* buffers that wait to be sent; -1: none */
  uint32_t begin;                    /* of the first, what was sent */
  uint8_t sending, fell_short, queued, armed, ended, open;
} places[2 * CONNECTIONS]; /* by fd */
static int32_t next_buffer[BUFFERS_MAX];
static uint32_t sizes[BUFFERS_MAX];
static int touched[2 * CONNECTIONS], touched_count; /* connections that there is something to do for */
static int sent[ENTRIES * 16], sent_count;          /* those with a send in the submission that is under way */
static bool more;                                   /* one of them has another buffer to send after that: there is no time to wait */
static int starved = -1;                            /* those that wait for a buffer, by next_starved */

static void enter(unsigned wait) {
  __atomic_store_n(uring.sq_tail, uring.filled, __ATOMIC_RELEASE);
  long taken = syscall(SYS_io_uring_enter, uring.fd, uring.filled - uring.submitted, wait, IORING_ENTER_GETEVENTS, NULL, 0);
  if (taken >= 0) uring.submitted += (unsigned)taken;
  else if (errno != EINTR) fail("io_uring_enter", 0);
}

static struct io_uring_sqe *entry(uint8_t opcode, int fd, uint64_t what) {
  if (uring.filled - __atomic_load_n(uring.sq_head, __ATOMIC_ACQUIRE) == uring.entries) enter(0);
  struct io_uring_sqe *sqe = &uring.sqes[uring.filled++ & uring.mask];
  memset(sqe, 0, sizeof *sqe);
  sqe->opcode = opcode;
  sqe->fd = fd;
  sqe->user_data = what << 32 | (uint32_t)fd;
  return sqe;
}

static void receive(int fd) {
  struct io_uring_sqe *sqe = entry(IORING_OP_RECV, fd, RECEIVE);
  sqe->ioprio = IORING_RECV_MULTISHOT;
  sqe->flags = IOSQE_BUFFER_SELECT;
  places[fd].armed = 1;
}

static void give(int32_t buffer) { /* to the kernel; told by tell() */
  struct io_uring_buf *place = &uring.free->bufs[uring.free_tail++ & (buffers - 1)];
  place->addr = (uint64_t)(uintptr_t)(uring.bytes + (size_t)buffer * buffer_size);
  place->len = (uint32_t)buffer_size;
  place->bid = (uint16_t)buffer;
}

static void tell(void) { __atomic_store_n(&uring.free->tail, uring.free_tail, __ATOMIC_RELEASE); }

static void touch(int fd) {
  if (places[fd].queued) return;
  places[fd].queued = 1;
  touched[touched_count++] = fd;
}

static void uring_open(void) {
  struct io_uring_params params = {.cq_entries = 16 * ENTRIES,
                                   .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                                            IORING_SETUP_CQSIZE};
  uring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &params);
  if (uring.fd < 0) fail("io_uring_setup", 0);
  size_t ring_bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
  size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  if (cq_bytes > ring_bytes) ring_bytes = cq_bytes;
  const int access = PROT_READ | PROT_WRITE, how = MAP_SHARED | MAP_POPULATE, own = MAP_PRIVATE | MAP_ANONYMOUS;
  char *rings = mmap(NULL, ring_bytes, access, how, uring.fd, IORING_OFF_SQ_RING);
  uring.sqes = mmap(NULL, params.sq_entries * sizeof *uring.sqes, access, how, uring.fd, IORING_OFF_SQES);
  uring.free = mmap(NULL, buffers * sizeof(struct io_uring_buf), access, own, -1, 0);
  uring.bytes = mmap(NULL, buffers * buffer_size, access, own, -1, 0);
  if (rings == MAP_FAILED || uring.sqes == MAP_FAILED || uring.free == MAP_FAILED || uring.bytes == MAP_FAILED) fail("mmap", 0);
  uring.sq_head = (unsigned *)(rings + params.sq_off.head), uring.sq_tail = (unsigned *)(rings + params.sq_off.tail);
  uring.cq_head = (unsigned *)(rings + params.cq_off.head), uring.cq_tail = (unsigned *)(rings + params.cq_off.tail);
  uring.cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
  uring.entries = params.sq_entries, uring.mask = params.sq_entries - 1, uring.cq_mask = params.cq_entries - 1;
  unsigned *array = (unsigned *)(rings + params.sq_off.array);
  for (unsigned i = 0; i < params.sq_entries; i++) array[i] = i;
  struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)uring.free, .ring_entries = buffers};
  if (syscall(SYS_io_uring_register, uring.fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0) fail("io_uring_register", 0);
  for (uint32_t i = 0; i < buffers; i++) give((int32_t)i);
  tell();
}

static void on_received(int fd, const struct io_uring_cqe *cqe) {
  struct uring_connection *place = &places[fd];
  if (cqe->flags & IORING_CQE_F_BUFFER) {
    int32_t buffer = (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    sizes[buffer] = (uint32_t)(cqe->res > 0 ? cqe->res : 0);
    next_buffer[buffer] = -1;
    if (place->first < 0) place->first = buffer;
    else next_buffer[place->last] = buffer;
    place->last = buffer;
  }
  if (!(cqe->flags & IORING_CQE_F_MORE)) {
    place->armed = 0;
    if (cqe->res == -ENOBUFS) {
      place->next_starved = starved;
      starved = fd;
    } else if (cqe->res <= 0) {
      place->ended = 1;
    } else {
      receive(fd);
    }
  }
  touch(fd);
}

/* The first buffer of a connection has been sent. */
static void on_sent(struct uring_connection *place) {
  int32_t buffer = place->first;
  place->first = next_buffer[buffer];
  place->begin = 0;
  place->sending = 0;
  give(buffer);
}

static void send_next(int fd, struct uring_connection *place) {
  bool again = place->fell_short;
  struct io_uring_sqe *sqe = entry(IORING_OP_SEND, fd, again ? GO_ON : SEND);
  sqe->addr = (uint64_t)(uintptr_t)(uring.bytes + (size_t)place->first * buffer_size + place->begin);
  sqe->len = sizes[place->first] - place->begin;
  sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL | (again ? 0 : MSG_DONTWAIT);
  sqe->flags = again ? 0 : IOSQE_CQE_SKIP_SUCCESS;
  place->sending = 1;
  if (again) return;
  sent[sent_count++] = fd;
  if (next_buffer[place->first] >= 0) more = true;
}

static void by_hand_io_uring(void) {
  int listener = listen_by_hand();
  uring_open();
  ready(listener);
  entry(IORING_OP_ACCEPT, listener, ACCEPT)->ioprio = IORING_ACCEPT_MULTISHOT;
  do {
    enter(more ? 0 : 1);
    more = false;
    unsigned head = *uring.cq_head, tail = __atomic_load_n(uring.cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
      const struct io_uring_cqe *cqe = &uring.cqes[head & uring.cq_mask];
      int fd = (int)(uint32_t)cqe->user_data;
      struct uring_connection *place = &places[fd];
      switch (cqe->user_data >> 32) {
        case ACCEPT:
          if (cqe->res < 0 || cqe->res >= 2 * CONNECTIONS || !(cqe->flags & IORING_CQE_F_MORE)) fail("accept", cqe->res);
          places[cqe->res] = (struct uring_connection){.first = -1, .open = 1};
          receive(cqe->res);
          clients++;
          break;
        case RECEIVE: on_received(fd, cqe); break;
        case SEND: /* it fell short, or failed */
          if (cqe->res < 0 && cqe->res != -EAGAIN) place->ended = 1;
          else place->begin += (uint32_t)(cqe->res > 0 ? cqe->res : 0);
          place->fell_short = 1;
          break;
        default: /* and now the kernel has sent it, or failed */
          place->fell_short = 0;
          if (cqe->res < (int)(sizes[place->first] - place->begin)) place->ended = 1;
          on_sent(place);
          touch(fd);
      }
    }
    __atomic_store_n(uring.cq_head, head, __ATOMIC_RELEASE);
    /* Whatever was submitted has been sent, but for what was told. */
    for (int i = 0; i < sent_count; i++) {
      struct uring_connection *place = &places[sent[i]];
      if (!place->fell_short) on_sent(place);
      else if (place->ended) on_sent(place), place->fell_short = 0;
      if (place->first >= 0 || place->ended) touch(sent[i]);
      if (place->fell_short) place->sending = 0;
    }
    sent_count = 0;
    for (int i = 0; i < touched_count; i++) {
      int fd = touched[i];
      struct uring_connection *place = &places[fd];
      place->queued = 0;
      if (!place->open || place->sending) continue;
      if (place->first >= 0) {
        send_next(fd, place);
      } else if (place->ended && !place->armed) {
        place->open = 0;
        close(fd);
        clients--;
      }
    }
    touched_count = 0;
    tell();
    for (; starved >= 0; starved = places[starved].next_starved) receive(starved);
  } while (clients > 0);
}

int main(int argc, char **argv) {
  static const char *const ways[] = {"raw-epoll",   "becket-select", "becket-poll",
                                     "becket-epoll", "becket-io_uring", "raw-io_uring", "each-epoll",
                                     "each-io_uring", "batch-epoll", "batch-io_uring"};
  unsigned way = 0;
  if (argc > 2) buffer_size = strtoul(argv[2], NULL, 10);
  while (argc > 1 && way < sizeof ways / sizeof *ways && strcmp(argv[1], ways[way]) != 0) way++;
  if (argc < 2 || way == sizeof ways / sizeof *ways || buffer_size < 256 || buffer_size > BUFFER_MAX || buffer_size % 16 != 0) {
    fputs("usage: streams raw-epoll|raw-io_uring|{becket|each|batch}-BACKEND [BUFFER]\n", stderr);
    return 2;
  }
  while ((size_t)buffers * buffer_size > 8u << 20) buffers /= 2;
  if (way == 0) by_hand_epoll();
  else if (way == 5) by_hand_io_uring();
  else if (way < 5) with_becket(way); /* BECKET_BACKEND_SELECT, … */
  else {
    each = true;
    batch = way > 7;
    with_becket(way % 2 == 0 ? BECKET_BACKEND_EPOLL : BECKET_BACKEND_IO_URING);
  }
  struct timespec time;
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) < 0) fail("clock_gettime", 0);
  printf("%llu\n", (unsigned long long)time.tv_sec * 1000000000 + (unsigned long long)time.tv_nsec);
  return EXIT_SUCCESS;
}
