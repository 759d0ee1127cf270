/* httpd: an HTTP/1.1 file server on becket that never allocates, and never waits for a disk.
 *
 * A connection is one source of the loop and one entry of a fixed pool; what it reads of a file goes through one of a few
 * blocks, which it has for a moment only. All of it is in .bss, sized below. When all connections are taken, new clients
 * wait in the kernel's backlog: the listener is paused, and costs nothing meanwhile. When all blocks are taken, clients
 * wait for one in a FIFO; one that does not take what it asked for gives its block back (httpd_blocks.h).
 *
 *   accepted ──▶ IDLE ──first byte──▶ REQUEST ──complete, answered──▶ IDLE
 *                                    │     ▲
 *         a file: file_find()        │     │ all sent
 *            ┌───────────────────────┤     │
 *            ▼                       ▼     │
 *          DISK ──opened, read──▶ WRITING ─┴─last answer sent──▶ CLOSING ──end of input──▶ closed
 *            ▲                       │
 *            └──────next block───────┘
 *
 * In DISK a connection waits for a block, then for the operation that it is for: the opening of a file, a read. It does so
 * for a bounded time, then the operation is cancelled; and as no file can be had back from a kernel that waits for a dead
 * disk, its client is sent away a little later, and connection and block are kept until the kernel is done with them. The
 * other states are those in which the client is waited for, and each has its own bound on time: IDLE the idle timeout, which
 * any event extends; the others a fixed deadline, which nothing extends, so that a client that sends, or takes, a byte now
 * and then does not hold its slot. Of a file the deadline is for one block's worth.
 *
 * Sending a block takes as long as ten small answers, and the loop looks at its timers between turns: so turns are short, and
 * who gets a file comes behind timers and small answers, on a level of its own. Files lose nothing by that.
 *
 * http_request.h parses, http_file.h decides what a request for a file means, beneath.h opens what lies beneath the root
 * and nothing else, httpd_page.h is the page at "/_status"; here is what a server does between them. */
#define _GNU_SOURCE          /* accept4 */
#define _FILE_OFFSET_BITS 64 /* files above 2 GiB, on 32-bit systems too */

#include <arpa/inet.h>
#include <becket.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "beneath.h"
#include "http_file.h"
#include "http_request.h"
#include "httpd_blocks.h"
#include "httpd_lateness.h"
#include "httpd_page.h"
#include "httpd_text.h"

#define CONNECTIONS_MAX 1000 /* select(2) knows 1024 fds; the rest is for the listener and the loop's own */
#define SOURCES_MAX     (CONNECTIONS_MAX + 5) /* the listener, its timer, two signals, the timer of --lateness-ms */
#define BLOCKS_MAX      64                    /* of files, in memory at once; as many operations at once */
#define BLOCK_SIZE      65536
#define BLOCKS_DEFAULT  16 /* more keep no disk busier, but the loop: what the kernel has read it copies in the loop's own time */
#define OUTPUT_SIZE     8192 /* answers to pipelined requests gather here and leave in one system call */
#define ANSWER_MAX      4096 /* the largest answer that is written into it: /_status.json with its map of the slots */
#define LOCATION_MAX    2048 /* of a redirect: three bytes for each of a name, and the query */
#define QUERY_MAX       1024 /* a longer one is left out there */
#define BODY_MAX        (1024 * 1024) /* bytes of request body that are read and dropped before it is 413 */
#define BUDGET          4  /* events of a turn */
#define LEVEL_FILES     1  /* of connections that have a file, and of its reads */
#define LEVEL_LISTENER  2  /* new clients after the work at hand */
#define ACCEPT_MAX      64            /* connections taken in one event, so that the others have their turn */
#define MILLISECOND     UINT64_C(1000000)
#define ACCEPT_RETRY    (100 * MILLISECOND) /* after EMFILE: somebody else's fds may become free unnoticed */
#define CLOSING_TIME    (1000 * MILLISECOND)
#define INDEX           "index.html"

enum state { FREE, IDLE, REQUEST, DISK, WRITING, CLOSING };
static const char state_letters[] = ".irdwc"; /* in /_status.json */

enum resource { ERROR_PAGE, HELLO, STATUS, PAGE, FILE_BYTES, REDIRECT };

struct connection {
  becket_handle handle;
  int fd;
  uint32_t input_start, input_end;
  uint32_t output_end;
  size_t sent;        /* of the output and then of the page, if page_follows */
  bool page_follows;  /* the page is sent from where it lies, after the output; no answer is begun meanwhile */
  bool last;          /* no further request: the connection is closed when the output is sent */
  bool head_complete; /* the request is known, its body or its file is awaited */
  bool finding;       /* its file is looked for; the head stays in the input until then */
  bool deadline_armed;
  bool stalled; /* it has a deadline for taking what is on its way */
  bool cancelled; /* its operation was asked to end, after too long a time */
  bool abandoned; /* and did not: its client has been sent away */
  struct http_request request;
  uint64_t body_left;
  uint16_t status; /* of the answer */
  uint8_t resource;

  int file_fd;                 /* of the file whose bytes follow the output; -1: none does */
  uint32_t block_at, block_end; /* the bytes of its block that are to be sent */
  struct block_client block;
  becket_handle operation;     /* that is under way with the block; 0: none is */
  uint64_t file_at, file_end;  /* what is still to be read */
  uint64_t piece_end;          /* one block's worth: to here the deadline counts */
  struct http_file file;       /* the version that is answered */
  const char *media_type;
  char *path; /* in the input, as long as it is needed: beneath the root, decoded, ended by a NUL */
  const char *query; /* behind its question mark, for a redirect */
  uint32_t query_size;

  char input[HTTP_HEAD_MAX];
  char output[OUTPUT_SIZE];
};

/* What a block is used for. */
union block {
  struct beneath walk;
  unsigned char bytes[BLOCK_SIZE];
};

static BECKET_MEMORY(memory, SOURCES_MAX, 0, BLOCKS_MAX); /* an operation is for a block, so there is room for it */
static BECKET_AIO(aio, BLOCKS_MAX); /* for POSIX AIO, of a library that has it */
static BECKET_RING(ring, 256); /* for io_uring, which else takes the kernel's memory */
static struct connection pool[CONNECTIONS_MAX];
static uint8_t states[CONNECTIONS_MAX];       /* beside the pool: entries that were never used stay untouched */
static uint16_t free_entries[CONNECTIONS_MAX]; /* a stack */
static uint32_t free_count;
static BECKET_POOL(block_pool, BLOCKS_MAX, sizeof(union block));
static struct blocks blocks = {.pool = &block_pool};

/* In the order of BECKET_BACKEND_AUTO, _SELECT, …; the last has two names. */
static const char *const backends[] = {"auto", "select", "poll", "epoll", "uring", "io_uring", NULL};
/* In the order of BECKET_FILES_AUTO, _IO_URING, …; behind them pread(2) in the handler, for which everybody waits. */
static const char *const files_names[] = {"auto", "uring", "aio", "aio-signal", "read", NULL};
enum { FILES_IN_HANDLER = BECKET_FILES_AIO_SIGNAL + 1 };
/* How files are opened: at once when the kernel knows all names without a disk, else by an operation; always by one; by a walk,
 * each step of which is an operation. */
enum { OPEN_AUTO, OPEN_BY_OPERATION, OPEN_BY_WALK };
static const char *const open_names[] = {"auto", "operation", "walk", NULL};

static struct {
  const char *address, *root;
  uint64_t port, connections, blocks, send_buffer, request_timeout_ms, idle_timeout_ms, disk_timeout_ms, lateness_ms;
  uint32_t backend, files, open;
} options = {.address = "127.0.0.1",
             .port = 8080,
             .connections = CONNECTIONS_MAX,
             .blocks = BLOCKS_DEFAULT,
             .request_timeout_ms = 10000,
             .idle_timeout_ms = 30000,
             .disk_timeout_ms = 30000,
             .backend = BECKET_BACKEND_AUTO};

static becket_loop *loop;
static becket_handle listener, accept_retry;
static int listener_fd;
static int root_fd = -1; /* none: no files */
static uint32_t open_how;
static bool files_in_handler;
static bool files_above; /* fds of files are moved above those that select(2) can wait for */
static bool out_of_fds; /* accept said EMFILE or the like: pause until a connection closes or the timer fires */
static bool stopping, stopped_hard;
static uint64_t started_at;
static struct lateness lateness;
static struct {
  uint64_t accepted, requests, refused, timed_out, pauses, bytes_in, bytes_out, files, walks, reads, cut_short;
  uint32_t open, open_max, files_open;
} counters;

static void connection_advance(struct connection *connection);
static void connection_resume(struct connection *connection);
static void connection_close(struct connection *connection);

/* ---- Answers ---------------------------------------------------------------------------------------------------- */

static const char *reason(unsigned status) {
  switch (status) {
  case 200: return "200 OK";
  case 206: return "206 Partial Content";
  case 301: return "301 Moved Permanently";
  case 304: return "304 Not Modified";
  case 400: return "400 Bad Request";
  case 403: return "403 Forbidden";
  case 404: return "404 Not Found";
  case 405: return "405 Method Not Allowed";
  case 408: return "408 Request Timeout";
  case 412: return "412 Precondition Failed";
  case 413: return "413 Content Too Large";
  case 414: return "414 URI Too Long";
  case 416: return "416 Range Not Satisfiable";
  case 417: return "417 Expectation Failed";
  case 431: return "431 Request Header Fields Too Large";
  case 500: return "500 Internal Server Error";
  case 501: return "501 Not Implemented";
  case 503: return "503 Service Unavailable";
  default: return "505 HTTP Version Not Supported";
  }
}

static const char *explanation(unsigned status) {
  switch (status) {
  case 301: return "What you asked for is a folder; its address ends with a slash.";
  case 403: return "This is not served to you.";
  case 404: return "There is nothing of this name here.";
  case 405: return "Here you can GET and HEAD.";
  case 408: return "Your request did not arrive in time.";
  case 412: return "The file is not the version that you know.";
  case 416: return "The file has no such bytes.";
  case 500: return "The file could not be read.";
  case 503: return "There is too much to do at the moment. Please try again.";
  default: return "The server did not understand, or does not want, this request.";
  }
}

/* An error page, which repeats nothing of the request. */
static size_t error_page(char *room, size_t size, unsigned status) {
  struct text text = {room, room + size};
  put(&text, "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
             "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<title>");
  put(&text, reason(status));
  put(&text, "</title>\n<style>:root { color-scheme: light dark; } body { font: 16px/1.6 system-ui, sans-serif; "
             "max-width: 34em; margin: 18vh auto; padding: 0 1.5em; } h1 { letter-spacing: -.02em; }</style>\n<h1>");
  put(&text, reason(status));
  put(&text, "</h1>\n<p>");
  put(&text, explanation(status));
  put(&text, "</p>\n</html>\n");
  return (size_t)(text.at - room);
}

/* Who reads the files. */
static const char *files_name(void) {
  return root_fd < 0 ? "none" : files_in_handler ? "read" : becket_files_name(loop);
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
  put(&text, "\",\"files\":\"");
  put(&text, files_name());
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
  put_field(&text, "files_answered", counters.files);
  put_field(&text, "files_open", counters.files_open);
  put_field(&text, "files_cut_short", counters.cut_short);
  put_field(&text, "walks", counters.walks);
  put_field(&text, "reads", counters.reads);
  put_field(&text, "operations", s.operations);
  put_field(&text, "operations_inline", s.operations_inline);
  put_field(&text, "operations_now", s.operations_now);
  put_field(&text, "blocks", options.blocks);
  put_field(&text, "blocks_used", options.blocks - (uint64_t)becket_pool_left(&block_pool));
  put_field(&text, "blocks_waiting", blocks.waiting_count);
  put_field(&text, "blocks_taken_away", blocks.taken_away);
  put_field(&text, "block_bytes", BLOCK_SIZE);
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
  if (options.lateness_ms > 0) {
    put_field(&text, "lateness_samples", lateness.samples);
    put_field(&text, "lateness_p50_ns", lateness_percentile(&lateness, 500));
    put_field(&text, "lateness_p99_ns", lateness_percentile(&lateness, 990));
    put_field(&text, "lateness_p999_ns", lateness_percentile(&lateness, 999));
    put_field(&text, "lateness_max_ns", lateness.max);
  }
  put(&text, ",\"slots\":\""); /* one letter each, as many as were ever in use at once */
  for (uint32_t i = 0; i < counters.open_max; i++) put_bytes(&text, &state_letters[states[i]], 1);
  put(&text, "\"}\n");
  return (size_t)(text.at - room);
}

/* The fields that say which version of a file it is. */
static void put_validators(struct text *text, const struct http_file *file) {
  char tag[HTTP_ETAG_MAX], date[HTTP_DATE_SIZE];
  put(text, "\r\nETag: ");
  put_bytes(text, tag, http_etag_write(file, tag));
  put(text, "\r\nLast-Modified: ");
  http_date_write(file->modified, date);
  put_bytes(text, date, sizeof date);
}

/* The address with the slash that was missing, relative to the one that was asked for: so it cannot lead to another server,
 * which "//other/" would. At most LOCATION_MAX bytes: a name was opened, so it has no more than NAME_MAX. */
static void put_location(struct text *text, const struct connection *connection) {
  const char *slash = strrchr(connection->path, '/');
  put(text, "\r\nLocation: ./");
  for (const char *at = slash != NULL ? slash + 1 : connection->path; *at != '\0'; at++) {
    const char code[] = {'%', "0123456789ABCDEF"[(unsigned char)*at >> 4], "0123456789ABCDEF"[*at & 15]};
    bool plain = http_is_alphanumeric(*at) || strchr("-._~", *at) != NULL;
    put_bytes(text, plain ? at : code, plain ? 1 : sizeof code);
  }
  put(text, connection->query_size > 0 ? "/?" : "/");
  put_bytes(text, connection->query, connection->query_size);
}

static int64_t wall_clock(void) {
  struct timespec now;
  return clock_gettime(CLOCK_REALTIME, &now) < 0 ? 0 : now.tv_sec;
}

/* Appends the answer to the request at hand. serve() has seen to it that ANSWER_MAX bytes are free. */
static void answer(struct connection *connection) {
  static char scratch[ANSWER_MAX - 512]; /* used between here and the copy below: the loop has one thread */
  const char *type = "text/html; charset=utf-8";
  const char *body = scratch;
  uint64_t body_size = 0;
  switch (connection->resource) {
  case HELLO:
    type = "text/plain; charset=utf-8";
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
  case FILE_BYTES:
    type = connection->media_type;
    body_size = connection->file_end - connection->file_at;
    counters.files++;
    break;
  default: body_size = error_page(scratch, sizeof scratch - LOCATION_MAX, connection->status);
  }
  counters.requests++;
  if (connection->status >= 400) counters.refused++;
  /* A client that asks before it sends its body gets the answer at once, and may or may not send: nobody knows where
   * its next request would begin. */
  const struct http_request *request = &connection->request;
  if (stopping || !http_request_persists(request) || request->expect_continue) connection->last = true;

  struct text text = {connection->output + connection->output_end, connection->output + OUTPUT_SIZE};
  put(&text, "HTTP/1.1 ");
  put(&text, reason(connection->status));
  if (connection->status != 304) {
    put(&text, "\r\nContent-Type: ");
    put(&text, type);
    put(&text, "\r\nContent-Length: ");
    put_number(&text, body_size);
  }
  if (connection->status == 405) put(&text, "\r\nAllow: GET, HEAD");
  if (connection->status == 503) put(&text, "\r\nRetry-After: 1");
  if (connection->resource == REDIRECT) put_location(&text, connection);
  if (connection->resource == FILE_BYTES) {
    char date[HTTP_DATE_SIZE];
    http_date_write(wall_clock(), date);
    put(&text, "\r\nDate: ");
    put_bytes(&text, date, sizeof date);
    put_validators(&text, &connection->file);
    if (connection->status != 304) put(&text, "\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff");
  }
  if (connection->status == 206 || connection->status == 416) {
    put(&text, "\r\nContent-Range: bytes ");
    if (connection->status == 206) {
      put_number(&text, connection->file_at);
      put(&text, "-");
      put_number(&text, connection->file_end - 1);
    } else {
      put(&text, "*");
    }
    put(&text, "/");
    put_number(&text, connection->file.size);
  }
  if (connection->last)
    put(&text, "\r\nConnection: close");
  else if (request->minor == 0) /* there, keeping the connection is what must be said */
    put(&text, "\r\nConnection: keep-alive");
  put(&text, "\r\n\r\n");
  if (connection->resource == PAGE)
    connection->page_follows = request->method != HTTP_METHOD_HEAD;
  else if (connection->resource != FILE_BYTES && request->method != HTTP_METHOD_HEAD)
    put_bytes(&text, body, (size_t)body_size);
  connection->output_end = (uint32_t)(text.at - connection->output);
}

static void refuse(struct connection *connection, int status) {
  connection->status = (uint16_t)status;
  connection->resource = ERROR_PAGE;
  connection->last = true; /* where the next request would begin is not known */
  connection->head_complete = false;
  answer(connection);
}

static bool is_path(const char *path, size_t size, const char *expected) {
  return size == strlen(expected) && memcmp(path, expected, size) == 0;
}

/* The head is complete: which answer will it be? Of a file only file_find() can tell. */
static void route(struct connection *connection, const char *head) {
  const struct http_request *request = &connection->request;
  const char *path = request->path_size > 0 ? head + request->path : "/";
  size_t size = request->path_size > 0 ? request->path_size : 1;
  connection->status = 200;
  connection->resource = ERROR_PAGE;
  if (request->method == HTTP_METHOD_UNKNOWN)
    connection->status = 501;
  else if (request->method == HTTP_METHOD_OTHER)
    connection->status = 405;
  else if (is_path(path, size, "/hello"))
    connection->resource = HELLO;
  else if (is_path(path, size, "/_status.json"))
    connection->resource = STATUS;
  else if (is_path(path, size, "/_status") || (root_fd < 0 && size == 1))
    connection->resource = PAGE;
  else if (root_fd >= 0)
    connection->resource = FILE_BYTES;
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

/* One direction at a time: who does not take does not give either. In DISK, none. */
static uint32_t interest(enum state state) {
  return state == DISK ? 0 : state == WRITING ? BECKET_WRITABLE : BECKET_READABLE;
}

static void set_state(struct connection *connection, enum state state) {
  uint8_t *now = &states[connection - pool];
  if (interest((enum state)*now) != interest(state))
    must(becket_io_modify(loop, connection->handle, interest(state)), "modify");
  *now = (uint8_t)state;
}

static void listener_update(void);
static void file_found(struct connection *connection, int fd);

/* ---- Files ------------------------------------------------------------------------------------------------------ */

/* A block has become this client's while it waited: its turn comes with the loop's next. */
static void hand_over(struct block_client *client) {
  if (client == NULL) return;
  struct connection *connection = (struct connection *)(void *)((char *)client - offsetof(struct connection, block));
  must(becket_trigger(loop, connection->handle, 0), "trigger");
}

/* The file has been answered, or the connection is gone. Closing what was only read from writes nothing, so it is done at
 * once. (The last close of a large file that was deleted meanwhile frees it, which takes a moment.) */
static void file_close(struct connection *connection) {
  if (connection->file_fd >= 0) {
    close(connection->file_fd);
    connection->file_fd = -1;
    counters.files_open--;
    must(becket_set_level(loop, connection->handle, 0), "level");
  }
  connection->block_at = connection->block_end = 0;
  hand_over(block_give(&blocks, &connection->block));
}

/* Waits for a block, or for what is done with it. A client that is stalled has its own deadline first: this is its doing. */
static void disk_wait(struct connection *connection) {
  set_state(connection, DISK);
  if (!connection->stalled) set_deadline(connection, options.disk_timeout_ms * MILLISECOND);
}

/* What was waited for has come, or the operation has ended. False: there is no client any more, and now no connection. */
static bool disk_done(struct connection *connection) {
  connection->operation = 0;
  connection->cancelled = false;
  if (connection->abandoned) {
    connection_close(connection);
    return false;
  }
  if (!connection->stalled) set_deadline(connection, BECKET_NEVER);
  return true;
}

/* It was waited for long enough. */
static void disk_late(struct connection *connection) {
  if (connection->stalled) { /* not yet */
    connection->stalled = false;
    set_deadline(connection, options.disk_timeout_ms * MILLISECOND);
  } else if (connection->operation == 0) { /* for a block */
    counters.timed_out++;
    if (!connection->finding) {
      connection_close(connection);
      return;
    }
    file_found(connection, -ECANCELED);
    connection_advance(connection);
  } else if (!connection->cancelled) {
    counters.timed_out++;
    connection->cancelled = true;
    must(becket_op_cancel(loop, connection->operation), "cancel");
    set_deadline(connection, CLOSING_TIME);
  } else {
    connection->abandoned = true;
    (void)shutdown(connection->fd, SHUT_RDWR);
  }
}

static uint16_t status_of(int code) {
  switch (code) {
  case -ENOENT:
  case -ENOTDIR:
  case -ENAMETOOLONG:
  case -ELOOP: return 404;
  case -EACCES:
  case -EPERM:
  case -EXDEV: /* it leads out */
  case -ENXIO: /* a socket, a device that is not there */
  case -ENODEV: return 403;
  case -EMFILE:
  case -ENFILE:
  case -ENOMEM:
  case -ECANCELED: return 503; /* the disk did not answer in time, or the server ends */
  default: return 500;
  }
}

/* The file is open, or `fd` says why not: what will the answer be? The head lies where it was parsed, and fstat(2) of an open
 * file asks no disk. */
static void file_found(struct connection *connection, int fd) {
  if (files_above && fd >= 0) {
    int above = fcntl(fd, F_DUPFD_CLOEXEC, FD_SETSIZE); /* EMFILE, EINVAL: it stays where it is */
    if (above >= 0) close(fd), fd = above;
  }
  const struct http_request *request = &connection->request;
  const char *head = connection->input + connection->input_start - request->line;
  struct stat stat;
  connection->finding = false;
  connection->resource = ERROR_PAGE;
  if (fd < 0) {
    connection->status = status_of(fd);
  } else if (fstat(fd, &stat) < 0) {
    connection->status = 500;
  } else if (S_ISDIR(stat.st_mode)) {
    connection->status = 301;
    connection->resource = REDIRECT;
  } else if (!S_ISREG(stat.st_mode)) {
    connection->status = 403;
  } else {
    connection->file = (struct http_file){.size = (uint64_t)stat.st_size,
                                          .inode = (uint64_t)stat.st_ino,
                                          .modified = (int64_t)stat.st_mtim.tv_sec,
                                          .modified_ns = (uint32_t)stat.st_mtim.tv_nsec};
    struct http_verdict verdict = http_file_verdict(request, head, &connection->file, wall_clock());
    connection->status = (uint16_t)verdict.status;
    if (verdict.status == 200 || verdict.status == 206 || verdict.status == 304) {
      connection->resource = FILE_BYTES;
      connection->media_type = http_media_type(connection->path, strlen(connection->path));
      connection->file_at = connection->piece_end = verdict.first;
      connection->file_end = verdict.end;
      if (verdict.status != 304 && request->method == HTTP_METHOD_GET && verdict.first < verdict.end) {
        /* It was opened so that a FIFO would not be waited for. With this on, io_uring answers EAGAIN for a file whose
         * file system cannot say in advance whether it will wait. */
        (void)fcntl(fd, F_SETFL, 0);
        connection->file_fd = fd;
        counters.files_open++;
        must(becket_set_level(loop, connection->handle, LEVEL_FILES), "level");
        return;
      }
    }
  }
  if (fd >= 0) close(fd);
  file_close(connection); /* it may have a block, from the walk */
}

static void on_step(becket_loop *l, const becket_event *event, void *user);

/* Takes the walk in the connection's block on, until a name has to be waited for. True: it has ended, and the file is found or
 * is not. `code`: how it stands. */
static bool walk_on(struct connection *connection, int code) {
  struct beneath *walk = connection->block.block;
  if (code == 0) code = beneath_next(walk);
  if (code == 0) {
    code = becket_op_openat(loop, walk->dirfd, walk->name, walk->flags, 0, on_step, connection, &connection->operation);
    if (code == 0) return false;
    beneath_stop(walk); /* ECANCELED: the loop ends */
  }
  file_found(connection, code);
  return true;
}

static void on_step(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  struct beneath *walk = connection->block.block;
  int code = beneath_opened(walk, (int)event->value);
  if (connection->abandoned && code == 0) beneath_stop(walk);
  if (connection->abandoned && code > 0) close(code);
  if (disk_done(connection) && walk_on(connection, code)) connection_advance(connection);
}

static bool walk_begin(struct connection *connection) {
  counters.walks++;
  return walk_on(connection,
                 beneath_start(connection->block.block, root_fd, connection->path, strlen(connection->path)));
}

static void on_opened(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  if (connection->abandoned && event->value >= 0) close((int)event->value);
  if (!disk_done(connection)) return;
  if (event->value == -EAGAIN) { /* something was renamed on the way: the walk need not judge ".." by that */
    if (!walk_begin(connection)) return;
  } else {
    file_found(connection, (int)event->value);
  }
  connection_advance(connection);
}

/* Opens the file by operations, once there is a block: for the walk, and for what is read then. True: it is found, or not. */
static bool open_begin(struct connection *connection) {
  if (!block_take(&blocks, &connection->block)) return false;
  if (open_how == OPEN_BY_WALK) return walk_begin(connection);
  int code = becket_op_openat2(loop, root_fd, connection->path, (const struct open_how *)(const void *)&beneath_how,
                               sizeof beneath_how, on_opened, connection, &connection->operation);
  if (code < 0) file_found(connection, code); /* ECANCELED: the loop ends */
  return code < 0;
}

/* Asks for the file at the path of the request. False: it is waited for, in DISK.
 *
 * What the kernel can tell from its cache of names (RESOLVE_CACHED) is not worth an operation, and is opened here and now. */
static bool file_find(struct connection *connection, char *head) {
  static struct beneath walk; /* used between here and the end of this call */
  const struct http_request *request = &connection->request;
  char *path = head + request->path;
  int size = http_path_decode(path, request->path_size);
  if (size < 0) {
    connection->status = (uint16_t)-size;
    connection->resource = ERROR_PAGE;
    return true;
  }
  connection->query = path + request->path_size + 1; /* behind a question mark, or the blank where there is none */
  connection->query_size = 0;
  if (connection->query[-1] == '?')
    while (connection->query[connection->query_size] != ' ') connection->query_size++;
  while (size > 0 && *path == '/') path++, size--; /* the root is the first slash, and several are one */
  if (size == 0 || path[size - 1] == '/') {
    _Static_assert(sizeof INDEX <= sizeof " HTTP/1.1\r\n" - 1, "there is room for it where the request line ends");
    memcpy(path + size, INDEX, sizeof INDEX); /* over a query */
    size += (int)sizeof INDEX - 1;
    connection->query_size = 0;
  }
  if (connection->query_size > QUERY_MAX) connection->query_size = 0;
  path[size] = '\0';
  connection->path = path;
  connection->finding = true;
  set_deadline(connection, BECKET_NEVER); /* the client has said all that it has to */
  int fd = -EAGAIN;
  if (files_in_handler) /* and opened there */
    fd = open_how == OPEN_BY_WALK ? beneath_walk(&walk, root_fd, path, (size_t)size)
                                  : beneath_openat2(root_fd, path, false);
  else if (open_how == OPEN_AUTO)
    fd = beneath_openat2(root_fd, path, true);
  if (fd == -EAGAIN && !files_in_handler) return open_begin(connection);
  file_found(connection, fd);
  return true;
}

/* What was read of a file. False: less than was promised; the client learns it by the end of the connection. */
static bool piece_take(struct connection *connection, int64_t result) {
  if (result <= 0) {
    counters.cut_short++;
    return false;
  }
  connection->block_at = 0;
  connection->block_end = (uint32_t)result;
  connection->file_at += (uint64_t)result;
  return true;
}

static void on_read(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  if (!disk_done(connection)) return;
  if (piece_take(connection, event->value))
    connection_resume(connection);
  else
    connection_close(connection);
}

enum progress { GONE, AWAITS_DISK, AWAITS_CLIENT, SENT };

/* Reads on, if there is more and the block is empty. SENT: there is something to send, or nothing to be read. */
static enum progress piece_read(struct connection *connection) {
  struct block_client *client = &connection->block;
  if (client->block == NULL && connection->block_at < connection->block_end) {
    /* The block was taken away with this in it. */
    connection->file_at -= connection->block_end - connection->block_at;
    connection->block_at = connection->block_end = 0;
  }
  if (connection->block_at < connection->block_end || connection->file_at == connection->file_end) return SENT;
  if (connection->file_at == connection->piece_end) {
    uint64_t left = connection->file_end - connection->file_at;
    connection->piece_end += left < BLOCK_SIZE ? left : BLOCK_SIZE;
    connection->stalled = false;
    set_deadline(connection, BECKET_NEVER);
    /* Those that wait have the block before it is used again: so a long file is no reason to wait for its end. */
    if (blocks.waiting_count > 0) hand_over(block_give(&blocks, client));
  }
  if (!block_take(&blocks, client)) return AWAITS_DISK;
  size_t size = (size_t)(connection->piece_end - connection->file_at);
  counters.reads++;
  if (files_in_handler) {
    ssize_t result = pread(connection->file_fd, client->block, size, (off_t)connection->file_at);
    return piece_take(connection, result) ? SENT : GONE;
  }
  int code = becket_op_read(loop, connection->file_fd, client->block, size, (int64_t)connection->file_at, on_read,
                            connection, &connection->operation);
  if (code < 0) return GONE; /* ECANCELED: the loop ends */
  must(becket_set_level(loop, connection->operation, LEVEL_FILES), "level");
  return AWAITS_DISK;
}

/* ---- One connection, again -------------------------------------------------------------------------------------- */

static void connection_close(struct connection *connection) {
  file_close(connection);
  must(becket_io_close(loop, connection->handle), "close");
  states[connection - pool] = FREE;
  free_entries[free_count++] = (uint16_t)(connection - pool);
  counters.open--;
  out_of_fds = false; /* this one is free */
  if (!stopping)
    listener_update();
  else if (counters.open == 0)
    must(becket_stop(loop), "stop");
}

/* Serves the requests that lie in the input. True: it stopped because the output is full, not for want of input. */
static bool serve(struct connection *connection) {
  while (!connection->last || connection->head_complete) {
    /* With the head complete, a file is found and not yet answered, or there is none. */
    bool follows = connection->page_follows || (connection->file_fd >= 0 && !connection->head_complete);
    if (follows || OUTPUT_SIZE - connection->output_end < ANSWER_MAX) return true;
    char *head = connection->input + connection->input_start;
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
      if (connection->resource == FILE_BYTES) {
        /* A body means nothing here. It is not waited for with a file open: the answer comes, and then the end. */
        if (connection->body_left > 0) connection->last = true;
        connection->body_left = 0;
        if (!file_find(connection, head)) return false;
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

/* Sends what is there: the output, then the page or what the block holds. GONE, AWAITS_CLIENT: the socket takes no more
 * now, or SENT. */
static enum progress send_some(struct connection *connection) {
  struct iovec vector[2 + PAGE_PARTS];
  const struct block_client *client = &connection->block;
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
  size_t before = left; /* the bytes of the block */
  if (connection->block_at < connection->block_end) {
    vector[count].iov_base = (char *)client->block + connection->block_at;
    vector[count++].iov_len = connection->block_end - connection->block_at;
    left += connection->block_end - connection->block_at;
  }
  if (left > 0) {
    struct msghdr message = {.msg_iov = vector};
    message.msg_iovlen = count;
    ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL); /* a closed peer is EPIPE, not SIGPIPE */
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? AWAITS_CLIENT : GONE;
    counters.bytes_out += (uint64_t)sent;
    size_t of_output = (size_t)sent < before ? (size_t)sent : before;
    connection->sent += of_output;
    connection->block_at += (uint32_t)((size_t)sent - of_output);
    if ((size_t)sent < left) return AWAITS_CLIENT;
  }
  connection->sent = 0;
  connection->output_end = 0;
  connection->page_follows = false;
  return SENT;
}

/* Reads and sends in turn, one block at most that is read in the handler: then the others have their turn. */
static enum progress send_all(struct connection *connection) {
  block_resume(&blocks, &connection->block);
  uint64_t reads = counters.reads;
  while (connection->file_fd >= 0) {
    if (counters.reads > reads && connection->file_at < connection->file_end) return AWAITS_CLIENT;
    enum progress progress = piece_read(connection);
    if (progress == SENT) progress = send_some(connection);
    if (progress != SENT) return progress;
    if (connection->file_at == connection->file_end) file_close(connection);
  }
  return send_some(connection);
}

/* Sends all, or as much as can be, and sees to it that it goes on. True: all is sent. */
static bool connection_send(struct connection *connection) {
  enum progress progress = send_all(connection);
  switch (progress) {
  case GONE: connection_close(connection); break;
  case AWAITS_DISK: disk_wait(connection); break;
  case AWAITS_CLIENT:
    if (!connection->stalled) set_deadline(connection, options.request_timeout_ms * MILLISECOND);
    connection->stalled = true;
    hand_over(block_stall(&blocks, &connection->block));
    set_state(connection, WRITING);
    break;
  case SENT:
    if (connection->stalled) set_deadline(connection, BECKET_NEVER);
    connection->stalled = false;
  }
  return progress == SENT;
}

/* Serves and sends in turn until one side, or the disk, must be waited for. Each round consumes input, of which there is one
 * buffer, so this ends. */
static void connection_advance(struct connection *connection) {
  bool more;
  do {
    more = serve(connection);
    if (connection->finding) {
      disk_wait(connection);
      return;
    }
    if (!connection_send(connection)) return;
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

/* It may go on: its block has come, or what it reads. */
static void connection_resume(struct connection *connection) {
  if (connection->finding) {
    if (open_begin(connection)) connection_advance(connection);
  } else if (connection_send(connection)) connection_advance(connection);
}

static void on_connection(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  enum state state = (enum state)states[connection - pool];
  if (state == DISK) { /* paused: neither the client's doing nor its silence matters now */
    if ((event->flags & BECKET_TRIGGERED) != 0 && connection->operation == 0) {
      if (disk_done(connection)) connection_resume(connection);
    } else if ((event->flags & BECKET_DEADLINE) != 0 && connection->deadline_armed) {
      connection->deadline_armed = false;
      disk_late(connection);
    }
  } else if ((event->flags & BECKET_DEADLINE) != 0 && connection->deadline_armed) {
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
    if (connection_send(connection)) connection_advance(connection);
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
  struct connection *connection = &pool[free_entries[free_count - 1]];
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
  connection->finding = connection->stalled = connection->cancelled = connection->abandoned = false;
  connection->operation = 0;
  connection->file_fd = -1;
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
  int send_buffer = (int)options.send_buffer;
  if (send_buffer > 0 && setsockopt(listener_fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) < 0)
    FAIL(1, "cannot set the send buffer: ", becket_strerror(-errno)); /* inherited as well */
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
  must(becket_set_level(loop, listener, LEVEL_LISTENER), "level");
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
    "  --root DIR               serve the files beneath DIR\n"
    "  --port N                 port to listen on, 0 for any free one (8080)\n"
    "  --address A              IPv4 address to listen on (127.0.0.1)\n"
    "  --backend B              select, poll, epoll, uring or auto (auto)\n"
    "  --files F                who reads files: uring, aio, aio-signal, or auto for the best of them; or read, in the\n"
    "                           handler, where everybody waits for the disk (auto)\n"
    "  --open O                 how files are opened beneath DIR: by an operation; by a walk, where there is no openat2; or\n"
    "                           auto, which is at once for names that the kernel has in its cache (auto)\n"
    "  --connections N          clients served at the same time, 1 to 1000 (1000)\n"
    "  --blocks N               blocks of 64 KiB that files go through, 1 to 64 (16)\n"
    "  --send-buffer N          bytes that the kernel keeps for a client that is slow (0: what it likes)\n"
    "  --request-timeout-ms N   from a request's first byte to its last, and to send an answer (10000)\n"
    "  --idle-timeout-ms N      between requests (30000)\n"
    "  --disk-timeout-ms N      for a file to be opened, and for each block of it to be read (30000)\n"
    "  --lateness-ms N          measure how late a timer of this period is (0: do not)\n"
    "  --help                   this text\n"
    "Then open http://127.0.0.1:8080/_status for the loop at work; /_status.json is the same as JSON, /hello says hello.\n";

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

/* The place of a value among the names. */
static uint32_t option_name(const char *name, const char *value, const char *const *names, const char *text) {
  for (uint32_t i = 0; names[i] != NULL; i++)
    if (strcmp(value, names[i]) == 0) return i;
  FAIL(2, name, " takes ", text, ", not '", value, "'");
}

static void read_options(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--help") == 0) exit(write(STDOUT_FILENO, usage, sizeof usage - 1) < 0);
    const char *value = i + 1 < count ? arguments[++i] : NULL;
    static const char *const names[] = {"--port",        "--address",     "--backend",
                                        "--connections", "--blocks",      "--request-timeout-ms",
                                        "--root",        "--lateness-ms", "--idle-timeout-ms",
                                        "--files",       "--open",        "--send-buffer",
                                        "--disk-timeout-ms"};
    size_t option = 0;
    while (option < sizeof names / sizeof names[0] && strcmp(name, names[option]) != 0) option++;
    if (option == sizeof names / sizeof names[0]) FAIL(2, "no such option: ", name, " (--help lists them)");
    if (value == NULL) FAIL(2, name, " takes a value (--help lists the options)");
    switch (option) {
    case 0: options.port = option_number(name, value, 0, 65535); break;
    case 1: options.address = value; break;
    case 2:
      options.backend = option_name(name, value, backends, "auto, select, poll, epoll or uring");
      if (options.backend > BECKET_BACKEND_IO_URING) options.backend = BECKET_BACKEND_IO_URING;
      break;
    case 3: options.connections = option_number(name, value, 1, CONNECTIONS_MAX); break;
    case 4: options.blocks = option_number(name, value, 1, BLOCKS_MAX); break;
    case 5: options.request_timeout_ms = option_number(name, value, 1, 86400000); break;
    case 6: options.root = value; break;
    case 7: options.lateness_ms = option_number(name, value, 0, 60000); break;
    case 8: options.idle_timeout_ms = option_number(name, value, 1, 86400000); break;
    case 9: options.files = option_name(name, value, files_names, "auto, uring, aio, aio-signal or read"); break;
    case 12: options.disk_timeout_ms = option_number(name, value, 1, 86400000); break;
    case 11: options.send_buffer = option_number(name, value, 0, 1 << 30); break;
    default: options.open = option_name(name, value, open_names, "auto, operation or walk");
    }
  }
}

/* ---- The root, and the timer of --lateness-ms ------------------------------------------------------------------- */

static void root_open(void) {
  root_fd = open(options.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root_fd < 0) FAIL(1, "cannot open ", options.root, ": ", becket_strerror(-errno));
  files_in_handler = options.files == FILES_IN_HANDLER || strcmp(becket_files_name(loop), "none") == 0;
  open_how = options.open;
  int whole = beneath_openat2(root_fd, ".", false), cached = beneath_openat2(root_fd, ".", true);
  if (whole < 0)
    open_how = OPEN_BY_WALK; /* before Linux 5.6, or another system */
  else if (cached < 0 && cached != -EAGAIN && open_how == OPEN_AUTO)
    open_how = OPEN_BY_OPERATION; /* before Linux 5.12 */
  if (whole >= 0) close(whole);
  if (cached >= 0) close(cached);
  /* Each connection may have a file open. It is no error when that is more than we may have: then it is 503. */
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
  files_above = strcmp(becket_backend_name(loop), "select") == 0;
}

static uint64_t monotonic(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) < 0) return 0;
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void on_lateness(becket_loop *l, const becket_event *event, void *user) {
  (void)l, (void)user;
  lateness_record(&lateness, monotonic(), (uint64_t)event->value); /* when it is handled, not when it was collected */
}

static void lateness_open(void) {
  becket_handle timer;
  uint64_t period = options.lateness_ms * MILLISECOND, first;
  must(becket_timer_add(loop, period, period, on_lateness, NULL, &timer), "timer");
  must(becket_timer_deadline(loop, timer, &first), "timer");
  lateness_start(&lateness, first, period);
}

int main(int count, char **arguments) {
  char number[21], connections[21];
  read_options(count, arguments);
  for (uint32_t i = 0; i < options.connections; i++) /* the first on top */
    free_entries[free_count++] = (uint16_t)(options.connections - 1 - i);
  block_pool.count = (uint32_t)options.blocks;

  becket_config config = {.size = sizeof config, .backend = options.backend, .aio = &aio, .budget = BUDGET};
  config.files = options.root == NULL || options.files == FILES_IN_HANDLER ? BECKET_FILES_NONE : options.files;
  if (config.backend == BECKET_BACKEND_IO_URING) config.ring = &ring; /* with `auto` it would be the choice then */
  int code = becket_loop_init(&loop, &memory, &config);
  if (code < 0)
    FAIL(1, "cannot make a loop with --backend ", backends[options.backend], " and --files ", files_names[options.files],
         ": ", becket_strerror(code));
  started_at = becket_now(loop);
  listener_open();
  must(becket_timer_add(loop, BECKET_NEVER, 0, on_accept_retry, NULL, &accept_retry), "timer");
  if (options.root != NULL) root_open();
  if (options.lateness_ms > 0) lateness_open();
  becket_handle signals[2];
  must(becket_signal_add(loop, SIGINT, on_signal, NULL, &signals[0]), "SIGINT");
  must(becket_signal_add(loop, SIGTERM, on_signal, NULL, &signals[1]), "SIGTERM");

  SAY(STDOUT_FILENO, "open http://", options.address, ":", number_text(options.port, number), "/ (backend ",
      becket_backend_name(loop), ", ", number_text(options.connections, connections), " connections",
      root_fd < 0 ? "" : ", files by ", root_fd < 0 ? "" : files_name(), ")");
  must(becket_run(loop), "run");
  must(becket_loop_drain(loop, BECKET_FOREVER), "drain"); /* of a second signal: the reads that are under way */
  must(becket_loop_close(loop), "close");
  SAY(STDOUT_FILENO, "stopped after ", number_text(counters.requests, number), " requests");
  return stopped_hard ? 1 : 0;
}
