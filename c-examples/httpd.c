/* httpd: an HTTP/1.1 server on becket that never allocates.
 *
 * A connection is one source of the loop and one block of a fixed pool; both are in .bss, sized below. When all are
 * taken, new clients wait in the kernel's backlog: the listener is paused, and costs nothing meanwhile.
 *
 *   accepted ──▶ IDLE ──first byte──▶ REQUEST ──complete, answered──▶ IDLE
 *                                        │ ▲
 *                answer does not fit the │ │ all sent
 *                     socket: send_all() ▼ │
 *                                      WRITING ──last answer sent──▶ CLOSING ──end of input──▶ closed
 *
 * Each state has its own bound on time: IDLE the idle timeout, which any event extends; the others a fixed deadline,
 * which nothing extends, so that a client that sends, or takes, a byte now and then does not hold its slot.
 *
 * http_request.h parses, httpd_page.h is the page at "/"; here is what a server does between the two. */
#define _GNU_SOURCE /* accept4 */

#include <arpa/inet.h>
#include <becket.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "http_request.h"
#include "httpd_page.h"

#define CONNECTIONS_MAX 1000 /* select(2) knows 1024 fds; the rest is for the listener and the loop's own */
#define SOURCES_MAX     (CONNECTIONS_MAX + 4) /* the listener, its timer, two signals */
#define OUTPUT_SIZE     8192 /* answers to pipelined requests gather here and leave in one system call */
#define ANSWER_MAX      3072 /* the largest answer that is written into it: /status with its map of the slots */
#define BODY_MAX        (1024 * 1024) /* bytes of request body that are read and dropped before it is 413 */
#define ACCEPT_MAX      64            /* connections taken in one event, so that the others have their turn */
#define MILLISECOND     UINT64_C(1000000)
#define ACCEPT_RETRY    (100 * MILLISECOND) /* after EMFILE: somebody else's fds may become free unnoticed */
#define CLOSING_TIME    (1000 * MILLISECOND)

enum state { FREE, IDLE, REQUEST, WRITING, CLOSING };
static const char state_letters[] = ".irwc"; /* in /status */

enum resource { ERROR_TEXT, HELLO, STATUS, PAGE };

struct connection {
  becket_handle handle;
  int fd;
  uint32_t input_start, input_end;
  uint32_t output_end;
  size_t sent;        /* of the output and then of the page, if page_follows */
  bool page_follows;  /* the page is sent from where it lies, after the output; no answer is begun meanwhile */
  bool last;          /* no further request: the connection is closed when the output is sent */
  bool head_complete; /* the request is known, its body is awaited */
  bool deadline_armed;
  struct http_request request;
  uint64_t body_left;
  uint16_t status; /* of the answer */
  uint8_t resource;
  char input[HTTP_HEAD_MAX];
  char output[OUTPUT_SIZE];
};

static BECKET_MEMORY(memory, SOURCES_MAX, 0, 0);
static BECKET_RING(ring, 256); /* for io_uring, which else takes the kernel's memory */
static struct connection pool[CONNECTIONS_MAX];
static uint8_t states[CONNECTIONS_MAX];       /* beside the pool: blocks that were never used stay untouched */
static uint16_t free_blocks[CONNECTIONS_MAX]; /* a stack */
static uint32_t free_count;

static struct {
  const char *address;
  uint64_t port, connections, request_timeout_ms, idle_timeout_ms;
  uint32_t backend;
} options = {"127.0.0.1", 8080, CONNECTIONS_MAX, 10000, 30000, BECKET_BACKEND_AUTO};

static becket_loop *loop;
static becket_handle listener, accept_retry;
static int listener_fd;
static bool out_of_fds; /* accept said EMFILE or the like: pause until a connection closes or the timer fires */
static bool stopping, stopped_hard;
static uint64_t started_at;
static struct {
  uint64_t accepted, requests, refused, timed_out, pauses, bytes_in, bytes_out;
  uint32_t open, open_max;
} counters;

static void connection_advance(struct connection *connection);

/* ---- Text, without stdio: a FILE allocates its buffer, and numbers are all that is formatted here -------------- */

struct text {
  char *at, *end;
};

static void put_bytes(struct text *text, const char *bytes, size_t size) {
  size_t room = (size_t)(text->end - text->at);
  size = size < room ? size : room; /* cut, never beyond; the sizes above leave room */
  memcpy(text->at, bytes, size);
  text->at += size;
}

static inline void put(struct text *text, const char *string) {
  put_bytes(text, string, strlen(string));
}

static void put_number(struct text *text, uint64_t number) {
  char digits[20];
  size_t first = sizeof digits;
  do digits[--first] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  put_bytes(text, digits + first, sizeof digits - first);
}

static void put_field(struct text *text, const char *name, uint64_t number) {
  put(text, ",\"");
  put(text, name);
  put(text, "\":");
  put_number(text, number);
}

/* One line, in one write: "httpd: " and the parts until NULL. A terminal that is gone is no reason to stop. */
static void say(int fd, const char *const *parts) {
  char line[512];
  struct text text = {line, line + sizeof line - 1};
  put(&text, "httpd: ");
  while (*parts != NULL) put(&text, *parts++);
  *text.at++ = '\n';
  if (write(fd, line, (size_t)(text.at - line)) < 0) return;
}
#define SAY(fd, ...)    say(fd, (const char *const[]){__VA_ARGS__, NULL})
#define FAIL(code, ...) (SAY(STDERR_FILENO, __VA_ARGS__), exit(code))

static const char *number_text(uint64_t number, char room[static 21]) {
  struct text text = {room, room + 20};
  put_number(&text, number);
  *text.at = '\0';
  return room;
}

/* A negative answer of becket that a correct program never gets: say where, and stop. */
static void must(int code, const char *what) {
  if (code < 0) FAIL(1, what, ": ", becket_strerror(code));
}

/* ---- Answers ---------------------------------------------------------------------------------------------------- */

static const char *reason(unsigned status) {
  switch (status) {
  case 200: return "200 OK";
  case 400: return "400 Bad Request";
  case 404: return "404 Not Found";
  case 405: return "405 Method Not Allowed";
  case 408: return "408 Request Timeout";
  case 413: return "413 Content Too Large";
  case 414: return "414 URI Too Long";
  case 417: return "417 Expectation Failed";
  case 431: return "431 Request Header Fields Too Large";
  case 501: return "501 Not Implemented";
  default: return "505 HTTP Version Not Supported";
  }
}

/* The loop at work, as the page draws it. */
static size_t status_json(char *room, size_t size) {
  struct text text = {room, room + size};
  becket_statistics s = {.size = sizeof s};
  must(becket_loop_statistics(loop, &s), "statistics");
  put(&text, "{\"version\":\"");
  put(&text, becket_version());
  put(&text, "\",\"backend\":\"");
  put(&text, becket_backend_name(loop));
  put(&text, "\"");
  put_field(&text, "uptime_ns", becket_now(loop) - started_at);
  put_field(&text, "connections", counters.open);
  put_field(&text, "connections_peak", counters.open_max);
  put_field(&text, "connections_max", options.connections);
  put_field(&text, "connection_bytes", sizeof(struct connection));
  put_field(&text, "accepted", counters.accepted);
  put_field(&text, "requests", counters.requests);
  put_field(&text, "refused", counters.refused);
  put_field(&text, "timed_out", counters.timed_out);
  put_field(&text, "accept_pauses", counters.pauses);
  put_field(&text, "bytes_in", counters.bytes_in);
  put_field(&text, "bytes_out", counters.bytes_out);
  put_field(&text, "turns", s.turns);
  put_field(&text, "events_io", s.events_io);
  put_field(&text, "events_timer", s.events_timer);
  put_field(&text, "events_signal", s.events_signal);
  put_field(&text, "waiting_ns", s.waiting_ns);
  put_field(&text, "working_ns", s.working_ns);
  put_field(&text, "stale_dropped", s.stale_dropped);
  put_field(&text, "queued", s.queued);
  put_field(&text, "queued_max", s.queued_max);
  put_field(&text, "sources", s.sources);
  put_field(&text, "sources_max", s.sources_max);
  put_field(&text, "loop_bytes", sizeof memory_block);
  put(&text, ",\"slots\":\""); /* one letter each, as many as were ever in use at once */
  for (uint32_t i = 0; i < counters.open_max; i++) put_bytes(&text, &state_letters[states[i]], 1);
  put(&text, "\"}\n");
  return (size_t)(text.at - room);
}

/* Appends the answer to the request at hand. serve() has seen to it that ANSWER_MAX bytes are free. */
static void answer(struct connection *connection) {
  static char scratch[ANSWER_MAX - 512]; /* used between here and the copy below: the loop has one thread */
  const char *type = "text/plain; charset=utf-8";
  const char *body = scratch;
  size_t body_size = 0;
  switch (connection->resource) {
  case HELLO:
    body = "Hello, world!";
    body_size = 13;
    break;
  case STATUS:
    type = "application/json\r\nCache-Control: no-store";
    body_size = status_json(scratch, sizeof scratch);
    break;
  case PAGE:
    type = "text/html; charset=utf-8\r\nCache-Control: no-cache\r\nContent-Security-Policy: default-src 'none'; "
           "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    for (size_t i = 0; i < PAGE_PARTS; i++) body_size += page[i].size;
    break;
  default:
    body = reason(connection->status);
    body_size = strlen(body);
    counters.refused++;
  }
  counters.requests++;
  /* A client that asks before it sends its body gets the answer at once, and may or may not send: nobody knows where
   * its next request would begin. */
  const struct http_request *request = &connection->request;
  if (stopping || !http_request_persists(request) || request->expect_continue) connection->last = true;

  struct text text = {connection->output + connection->output_end, connection->output + OUTPUT_SIZE};
  put(&text, "HTTP/1.1 ");
  put(&text, reason(connection->status));
  put(&text, "\r\nContent-Type: ");
  put(&text, type);
  put(&text, "\r\nContent-Length: ");
  put_number(&text, body_size);
  if (connection->status == 405) put(&text, "\r\nAllow: GET, HEAD");
  if (connection->last)
    put(&text, "\r\nConnection: close");
  else if (request->minor == 0) /* there, keeping the connection is what must be said */
    put(&text, "\r\nConnection: keep-alive");
  put(&text, "\r\n\r\n");
  if (request->method != HTTP_METHOD_HEAD) {
    if (connection->resource == PAGE)
      connection->page_follows = true;
    else
      put_bytes(&text, body, body_size);
  }
  connection->output_end = (uint32_t)(text.at - connection->output);
}

static void refuse(struct connection *connection, int status) {
  connection->status = (uint16_t)status;
  connection->resource = ERROR_TEXT;
  connection->last = true; /* where the next request would begin is not known */
  answer(connection);
}

/* The head is complete: which answer will it be? */
static void route(struct connection *connection, const char *head) {
  const struct http_request *request = &connection->request;
  const char *path = request->path_size > 0 ? head + request->path : "/";
  size_t size = request->path_size > 0 ? request->path_size : 1;
  connection->status = 200;
  connection->resource = ERROR_TEXT;
  if (request->method == HTTP_METHOD_UNKNOWN)
    connection->status = 501;
  else if (request->method == HTTP_METHOD_OTHER)
    connection->status = 405;
  else if (size == 1)
    connection->resource = PAGE;
  else if (size == 6 && memcmp(path, "/hello", 6) == 0)
    connection->resource = HELLO;
  else if (size == 7 && memcmp(path, "/status", 7) == 0)
    connection->resource = STATUS;
  else
    connection->status = 404;
  connection->body_left = request->expect_continue ? 0 : request->content_length; /* no resource here wants a body */
}

/* ---- One connection --------------------------------------------------------------------------------------------- */

static void set_deadline(struct connection *connection, uint64_t delay_ns) {
  bool arm = delay_ns != BECKET_NEVER;
  if (arm || connection->deadline_armed) /* a request that arrives whole never gets here */
    must(becket_io_deadline(loop, connection->handle, delay_ns), "deadline");
  connection->deadline_armed = arm;
}

static void set_state(struct connection *connection, enum state state) {
  uint8_t *now = &states[connection - pool];
  if ((*now == WRITING) != (state == WRITING)) /* one direction at a time: who does not take does not give either */
    must(becket_io_modify(loop, connection->handle, state == WRITING ? BECKET_WRITABLE : BECKET_READABLE), "modify");
  *now = (uint8_t)state;
}

static void listener_update(void);

static void connection_close(struct connection *connection) {
  must(becket_io_close(loop, connection->handle), "close");
  states[connection - pool] = FREE;
  free_blocks[free_count++] = (uint16_t)(connection - pool);
  counters.open--;
  out_of_fds = false; /* this one is free */
  if (!stopping)
    listener_update();
  else if (counters.open == 0)
    must(becket_stop(loop), "stop");
}

/* Serves the requests that lie in the input. True: it stopped because the output is full, not for want of input. */
static bool serve(struct connection *connection) {
  while (!connection->last) {
    if (connection->page_follows || OUTPUT_SIZE - connection->output_end < ANSWER_MAX) return true;
    const char *head = connection->input + connection->input_start;
    size_t size = connection->input_end - connection->input_start;
    if (!connection->head_complete) {
      int result = http_request_parse(&connection->request, head, size);
      if (result == 0) return false;
      if (result > 0) {
        route(connection, head);
        connection->input_start += (uint32_t)result;
        size -= (size_t)result;
        connection->head_complete = true;
        if (connection->body_left > BODY_MAX) result = -413;
      }
      if (result < 0) {
        refuse(connection, -result);
        return false;
      }
    }
    size_t skipped = size < connection->body_left ? size : (size_t)connection->body_left;
    connection->input_start += (uint32_t)skipped;
    connection->body_left -= skipped;
    if (connection->body_left > 0) return false;
    answer(connection);
    connection->head_complete = false;
    memset(&connection->request, 0, sizeof connection->request);
    set_deadline(connection, BECKET_NEVER);
  }
  return false;
}

/* Sends what is there. 1: all of it; 0: the socket takes no more now; -1: the peer is gone. */
static int send_all(struct connection *connection) {
  struct iovec vector[1 + PAGE_PARTS];
  size_t left = 0, count = 0, skip = connection->sent;
  for (size_t i = 0; i <= (connection->page_follows ? PAGE_PARTS : 0); i++) {
    const char *bytes = i == 0 ? connection->output : page[i - 1].bytes;
    size_t size = i == 0 ? connection->output_end : page[i - 1].size;
    size_t skipped = skip < size ? skip : size;
    skip -= skipped;
    if (skipped == size) continue;
    vector[count].iov_base = (void *)(uintptr_t)(bytes + skipped); /* sendmsg only reads */
    vector[count++].iov_len = size - skipped;
    left += size - skipped;
  }
  if (left > 0) {
    struct msghdr message = {.msg_iov = vector};
    message.msg_iovlen = count;
    ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL); /* a closed peer is EPIPE, not SIGPIPE */
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
    counters.bytes_out += (uint64_t)sent;
    connection->sent += (size_t)sent;
    if ((size_t)sent < left) return 0;
  }
  connection->sent = 0;
  connection->output_end = 0;
  connection->page_follows = false;
  return 1;
}

/* Serves and sends in turn until one side must be waited for. Each round consumes input, of which there is one
 * buffer, so this ends. */
static void connection_advance(struct connection *connection) {
  bool more;
  do {
    more = serve(connection);
    int sent = send_all(connection);
    if (sent < 0) {
      connection_close(connection);
      return;
    }
    if (sent == 0) { /* the deadline holds for this block of output, a few kilobytes */
      set_state(connection, WRITING);
      set_deadline(connection, options.request_timeout_ms * MILLISECOND);
      return;
    }
  } while (more);

  uint32_t size = connection->input_end - connection->input_start;
  bool begun = size > 0 || connection->head_complete;
  if (connection->last || (stopping && !begun)) {
    /* A close with unread input would reset the connection, and the reset can overtake the answer (RFC 9112,
     * 9.6): end our side, then drop what still comes until the client has ended its own. */
    if (shutdown(connection->fd, SHUT_WR) < 0) {
      connection_close(connection);
      return;
    }
    set_state(connection, CLOSING);
    set_deadline(connection, CLOSING_TIME);
    return;
  }
  /* What remains is the beginning of a request: to the front, so that there is room for the rest. */
  if (size > 0 && connection->input_start > 0)
    memmove(connection->input, connection->input + connection->input_start, size);
  connection->input_start = 0;
  connection->input_end = size;
  set_state(connection, begun ? REQUEST : IDLE);
  if (begun && !connection->deadline_armed) set_deadline(connection, options.request_timeout_ms * MILLISECOND);
}

static void connection_receive(struct connection *connection) {
  bool closing = states[connection - pool] == CLOSING;
  if (closing) connection->input_end = 0;
  /* Once an event: with more to come the next turn brings us back, after the others. There is room: a head that
   * fills the input is 431, and of a body nothing stays. */
  ssize_t size =
      recv(connection->fd, connection->input + connection->input_end, HTTP_HEAD_MAX - connection->input_end, 0);
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
    if (stopping && states[connection - pool] == IDLE) connection_close(connection); /* nothing was asked */
    return;
  }
  if (size <= 0) { /* 0: the end, and every complete request before it has been answered */
    connection_close(connection);
    return;
  }
  counters.bytes_in += (uint64_t)size;
  connection->input_end += (uint32_t)size;
  if (!closing) connection_advance(connection);
}

static void on_connection(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  enum state state = (enum state)states[connection - pool];
  if ((event->flags & BECKET_DEADLINE) != 0 && connection->deadline_armed) {
    if (state != CLOSING) counters.timed_out++;
    if (state == REQUEST) {
      refuse(connection, 408);
      connection_advance(connection);
    } else { /* WRITING, CLOSING: everything has been said, or cannot be */
      connection_close(connection);
    }
  } else if ((event->flags & BECKET_TIMEOUT) != 0) {
    if (state == IDLE) /* in the other states the deadline decides */
      connection_close(connection);
  } else if (state == WRITING) {
    int sent = send_all(connection);
    if (sent < 0) {
      connection_close(connection);
    } else if (sent > 0) {
      set_deadline(connection, BECKET_NEVER);
      connection_advance(connection);
    }
  } else {
    connection_receive(connection); /* also with ERROR or HANGUP: recv says what there is to know */
  }
}

/* ---- The listener ----------------------------------------------------------------------------------------------- */

/* Paused, it costs nothing and the clients wait in the backlog; readable and not taken, it would spin. */
static void listener_update(void) {
  bool accepting = counters.open < options.connections && !out_of_fds;
  must(becket_io_modify(loop, listener, accepting ? BECKET_READABLE : 0), "listener");
}

/* False: no more for now. */
static bool accept_one(void) {
  int fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      out_of_fds = true;
      counters.pauses++;
      must(becket_timer_arm(loop, accept_retry, ACCEPT_RETRY, 0), "timer");
    }
    return errno == ECONNABORTED || errno == EINTR; /* that one is gone; the next may be there */
  }
  struct connection *connection = &pool[free_blocks[free_count - 1]];
  int code = becket_io_add(loop, fd, BECKET_READABLE | BECKET_TRUSTED, on_connection, connection, &connection->handle);
  if (code < 0) { /* select: an fd above FD_SETSIZE, when this process was started with many open */
    SAY(STDERR_FILENO, "connection dropped: ", becket_strerror(code));
    close(fd);
    return true;
  }
  must(becket_io_timeout(loop, connection->handle, options.idle_timeout_ms * MILLISECOND), "timeout");
  free_count--;
  connection->fd = fd;
  connection->input_start = connection->input_end = connection->output_end = 0;
  connection->sent = 0;
  connection->page_follows = connection->last = connection->head_complete = connection->deadline_armed = false;
  memset(&connection->request, 0, sizeof connection->request);
  states[connection - pool] = IDLE;
  counters.accepted++;
  if (++counters.open > counters.open_max) counters.open_max = counters.open;
  return true;
}

static void on_listener(becket_loop *l, const becket_event *event, void *user) {
  (void)l, (void)event, (void)user;
  for (int i = 0; i < ACCEPT_MAX && counters.open < options.connections && accept_one(); i++) {
  }
  listener_update();
}

static void on_accept_retry(becket_loop *l, const becket_event *event, void *user) {
  (void)l, (void)event, (void)user;
  out_of_fds = false;
  if (!stopping) listener_update();
}

static void listener_open(void) {
  char port[21];
  number_text(options.port, port);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  if (inet_pton(AF_INET, options.address, &address.sin_addr) != 1)
    FAIL(2, "--address takes an IPv4 address such as 127.0.0.1, not ", options.address);
  int on = 1;
  socklen_t size = sizeof address;
  listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener_fd < 0 || setsockopt(listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
      /* inherited by what is accepted: an answer is one send, there is nothing to gather */
      setsockopt(listener_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
    FAIL(1, "cannot make a socket: ", becket_strerror(-errno));
  if (bind(listener_fd, (struct sockaddr *)&address, size) < 0 || listen(listener_fd, SOMAXCONN) < 0) {
    if (errno == EADDRINUSE)
      FAIL(1, "port ", port, " on ", options.address, " is taken by another program: stop that one, or choose another ",
           "port with --port N (--port 0 finds a free one)");
    FAIL(1, "cannot listen on ", options.address, " port ", port, ": ", becket_strerror(-errno));
  }
  if (getsockname(listener_fd, (struct sockaddr *)&address, &size) < 0)
    FAIL(1, "getsockname: ", becket_strerror(-errno));
  options.port = ntohs(address.sin_port);
  must(becket_io_add(loop, listener_fd, BECKET_READABLE, on_listener, NULL, &listener), "listener");
  must(becket_set_level(loop, listener, 2), "level"); /* new clients after the work at hand */
}

/* SIGINT, SIGTERM: accept what has already been promised, answer what has been asked, then end. Again: end now. */
static void on_signal(becket_loop *l, const becket_event *event, void *user) {
  (void)event, (void)user;
  if (stopping) {
    stopped_hard = true;
    must(becket_stop(l), "stop");
    return;
  }
  while (counters.open < options.connections && accept_one()) {
  }
  stopping = true;
  must(becket_io_close(l, listener), "close");
  if (counters.open == 0) must(becket_stop(l), "stop");
  for (uint32_t i = 0; i < counters.open_max; i++)
    if (states[i] == IDLE) connection_receive(&pool[i]); /* a request may be waiting unread; else this closes it */
}

/* ---- Start ------------------------------------------------------------------------------------------------------ */

static const char usage[] =
    "usage: httpd [options]\n"
    "  --port N                 port to listen on, 0 for any free one (8080)\n"
    "  --address A              IPv4 address to listen on (127.0.0.1)\n"
    "  --backend B              select, poll, epoll, uring or auto (auto)\n"
    "  --connections N          clients served at the same time, 1 to 1000 (1000)\n"
    "  --request-timeout-ms N   from a request's first byte to its last, and to send an answer (10000)\n"
    "  --idle-timeout-ms N      between requests (30000)\n"
    "  --help                   this text\n"
    "Then open http://127.0.0.1:8080/ for the loop at work; /status is the same as JSON, /hello says hello.\n";

static uint64_t option_number(const char *name, const char *value, uint64_t least, uint64_t most) {
  char from[21], to[21];
  uint64_t number = 0;
  size_t digits = 0;
  while (digits < 10 && value[digits] >= '0' && value[digits] <= '9')
    number = number * 10 + (uint64_t)(value[digits++] - '0');
  if (digits == 0 || value[digits] != '\0' || number < least || number > most)
    FAIL(2, name, " takes a number from ", number_text(least, from), " to ", number_text(most, to), ", not '", value,
         "'");
  return number;
}

static void read_options(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--help") == 0) exit(write(STDOUT_FILENO, usage, sizeof usage - 1) < 0);
    const char *value = i + 1 < count ? arguments[++i] : NULL;
    /* In the order of BECKET_BACKEND_AUTO, _SELECT, …; the last has two names. */
    static const char *const backends[] = {"auto", "select", "poll", "epoll", "uring", "io_uring"};
    static const char *const names[] = {
        "--port", "--address", "--backend", "--connections", "--request-timeout-ms", "--idle-timeout-ms"};
    size_t option = 0;
    while (option < sizeof names / sizeof names[0] && strcmp(name, names[option]) != 0) option++;
    if (option == sizeof names / sizeof names[0]) FAIL(2, "no such option: ", name, " (--help lists them)");
    if (value == NULL) FAIL(2, name, " takes a value (--help lists the options)");
    switch (option) {
    case 0: options.port = option_number(name, value, 0, 65535); break;
    case 1: options.address = value; break;
    case 2:
      options.backend = 0;
      while (options.backend < sizeof backends / sizeof backends[0] && strcmp(value, backends[options.backend]) != 0)
        options.backend++;
      if (options.backend == sizeof backends / sizeof backends[0])
        FAIL(2, "--backend takes auto, select, poll, epoll or uring, not '", value, "'");
      if (options.backend > BECKET_BACKEND_IO_URING) options.backend = BECKET_BACKEND_IO_URING;
      break;
    case 3: options.connections = option_number(name, value, 1, CONNECTIONS_MAX); break;
    case 4: options.request_timeout_ms = option_number(name, value, 1, 86400000); break;
    default: options.idle_timeout_ms = option_number(name, value, 1, 86400000); break;
    }
  }
}

int main(int count, char **arguments) {
  char number[21], connections[21];
  read_options(count, arguments);
  for (uint32_t i = 0; i < options.connections; i++) /* the first block on top */
    free_blocks[free_count++] = (uint16_t)(options.connections - 1 - i);

  becket_config config = {.size = sizeof config, .backend = options.backend};
  if (config.backend == BECKET_BACKEND_IO_URING) config.ring = &ring; /* with `auto` it would be the choice then */
  int code = becket_loop_init(&loop, &memory, &config);
  if (code < 0) FAIL(1, "cannot make the loop: ", becket_strerror(code));
  started_at = becket_now(loop);
  listener_open();
  must(becket_timer_add(loop, BECKET_NEVER, 0, on_accept_retry, NULL, &accept_retry), "timer");
  becket_handle signals[2];
  must(becket_signal_add(loop, SIGINT, on_signal, NULL, &signals[0]), "SIGINT");
  must(becket_signal_add(loop, SIGTERM, on_signal, NULL, &signals[1]), "SIGTERM");

  SAY(STDOUT_FILENO, "open http://", options.address, ":", number_text(options.port, number), "/ (backend ",
      becket_backend_name(loop), ", ", number_text(options.connections, connections), " connections)");
  must(becket_run(loop), "run");
  must(becket_loop_close(loop), "close");
  SAY(STDOUT_FILENO, "stopped after ", number_text(counters.requests, number), " requests");
  return stopped_hard ? 1 : 0;
}
