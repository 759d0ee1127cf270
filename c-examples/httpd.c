/* httpd: an HTTP/1.1 file server on becket that never allocates, and never waits for a disk.
 *
 * A connection is one of the loop's streams and one entry of a fixed pool; what it reads of a file goes through one of a few
 * blocks, which it has for a moment only. All of it is in .bss, sized below. When there is no room for another stream, new
 * clients wait in the kernel's backlog: the listener sees to that. When all blocks are taken, clients wait for one in a FIFO;
 * one that does not take what it asked for gives its block back (httpd_blocks.h), and keeps a little of what was in it.
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
 * A request is parsed where it was received; what is left of it then is kept until the rest arrives. What arrives in DISK
 * and WRITING is kept too, and when that is more than a head's worth, the stream is paused: the client has to wait.
 *
 * In DISK a connection waits for a block, then for the operation that it is for: the opening of a file, a read. It does so
 * for a bounded time, then the operation is cancelled; and as no file can be had back from a kernel that waits for a dead
 * disk, its client is sent away a little later, and connection and block are kept until the kernel is done with them. The
 * other states are those in which the client is waited for, and each has its own bound on time: IDLE the idle timeout, which
 * any event extends; the others a fixed deadline, which nothing extends, so that a client that sends, or takes, a byte now
 * and then does not hold its slot. Of a file the deadline is for one block's worth, or for what was kept of one.
 *
 * Sending a block takes as long as ten small answers, and the loop looks at its timers between turns: so turns are short, and
 * who gets a file comes behind timers and small answers, on a level of its own. Files lose nothing by that.
 *
 * http_request.h parses, http_file.h decides what a request for a file means, beneath.h opens what lies beneath the root
 * and nothing else, httpd_page.h is the page at "/_status"; here is what a server does between them. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* files above 2 GiB, on 32-bit systems too */

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
#define SOURCES_MAX     (CONNECTIONS_MAX + 4) /* the listener, two signals, the timer of --lateness-ms */
#define BLOCKS_MAX      64                    /* of files, in memory at once; as many operations at once */
#define BLOCK_SIZE      65536
#define BLOCKS_DEFAULT  16 /* more keep no disk busier, but the loop: what the kernel has read it copies in the loop's own time */
#define RECEIVE_SIZE    4096 /* bytes that one event brings at most */
#define OUTPUT_SIZE     8192 /* answers to pipelined requests gather here and leave in one system call */
#define ANSWER_MAX      4096 /* the largest answer that is written into it: /_status.json with its map of the slots */
#define LOCATION_MAX    2048 /* of a redirect: three bytes for each of a name, and the query */
#define QUERY_MAX       1024 /* a longer one is left out there */
#define BODY_MAX        (1024 * 1024) /* bytes of request body that are read and dropped before it is 413 */
#define BUDGET          4  /* events of a turn */
#define LEVEL_FILES     1  /* of connections that have a file, and of its reads */
#define LEVEL_LISTENER  2  /* new clients after the work at hand */
#define MILLISECOND     UINT64_C(1000000)
#define CLOSING_TIME    (1000 * MILLISECOND)
#define STOPPING_TIME   (50 * MILLISECOND) /* for a request that may be on its way when a signal ends the server */
#define DAY_MS          86400000
#define INDEX           "index.html"

enum state { FREE, IDLE, REQUEST, DISK, WRITING, CLOSING };
static const char state_letters[] = ".irdwc"; /* in /_status.json */

enum resource { ERROR_PAGE, HELLO, STATUS, PAGE, FILE_BYTES, REDIRECT };

struct connection {
  _Alignas(16) becket_handle stream; /* 0: there is none any more, and an operation is waited for */
  char *input;          /* what has been received and not consumed: in the loop's buffer, or in that below */
  enum state state;
  uint32_t input_size;
  uint32_t output_at, output_end;
  bool page_follows;  /* the page is sent from where it lies, after the output */
  bool paused, ended; /* receiving; the client sends no more */
  bool last;          /* no further request: the connection is closed when the output is sent */
  bool head_complete; /* the request is known, its body or its file is awaited */
  bool finding;       /* its file is looked for */
  bool deadline_armed;
  bool kept; /* the output is what was kept of a block */
  bool cancelled; /* its operation was asked to end, after too long a time */
  struct http_request request;
  uint32_t head_size; /* of a request for a file, which stays in the input until it is answered */
  uint64_t body_left;
  uint16_t status; /* of the answer */
  uint8_t resource;

  becket_send_request sending; /* all that is being sent, in these parts */
  struct iovec parts[1 + PAGE_PARTS];

  int file_fd;                 /* of the file whose bytes follow the output; -1: none does */
  uint32_t block_at, block_end; /* the bytes of its block that are to be sent */
  struct block_client block;
  becket_handle operation;     /* that is under way with the block; 0: none is */
  uint64_t file_at, file_end;  /* what is still to be read */
  struct http_file file;       /* the version that is answered */
  const char *media_type;
  uint32_t path, query, query_size; /* in the head; the path ended by a NUL, the query only for a redirect */

  char buffer[HTTP_HEAD_MAX + RECEIVE_SIZE];
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
static BECKET_STREAMS(streams, CONNECTIONS_MAX, 33, RECEIVE_SIZE); /* one, but for io_uring, which receives by itself */
static struct connection pool[CONNECTIONS_MAX + BLOCKS_MAX]; /* one that has ended may wait for an operation still */
static uint32_t links[sizeof pool / sizeof *pool];
static becket_pool connections = {
    sizeof connections, pool, links, sizeof *pool, sizeof pool / sizeof *pool, .taken = 0};
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
static becket_handle listener; /* 0: no new clients any more */
static int root_fd = -1; /* none: no files */
static uint32_t open_how;
static bool files_in_handler;
static bool files_above; /* fds of files are moved above those that select(2) can wait for */
static bool stopping, stopped_hard;
static uint64_t started_at;
static struct lateness lateness;
static struct {
  uint64_t accepted, requests, refused, timed_out, pauses, bytes_in, bytes_out, files, walks, reads, cut_short;
  uint32_t files_open;
} counters;

static void connection_advance(struct connection *connection);

/* ---- Answers ---------------------------------------------------------------------------------------------------- */

static const struct status {
  unsigned code;
  const char *reason, *explanation; /* NULL: the last one's */
} statuses[] = {
    {200, "200 OK", NULL},
    {206, "206 Partial Content", NULL},
    {301, "301 Moved Permanently", "What you asked for is a folder; its address ends with a slash."},
    {304, "304 Not Modified", NULL},
    {400, "400 Bad Request", NULL},
    {403, "403 Forbidden", "This is not served to you."},
    {404, "404 Not Found", "There is nothing of this name here."},
    {405, "405 Method Not Allowed", "Here you can GET and HEAD."},
    {408, "408 Request Timeout", "Your request did not arrive in time."},
    {412, "412 Precondition Failed", "The file is not the version that you know."},
    {413, "413 Content Too Large", NULL},
    {414, "414 URI Too Long", NULL},
    {416, "416 Range Not Satisfiable", "The file has no such bytes."},
    {417, "417 Expectation Failed", NULL},
    {431, "431 Request Header Fields Too Large", NULL},
    {500, "500 Internal Server Error", "The file could not be read."},
    {501, "501 Not Implemented", NULL},
    {503, "503 Service Unavailable", "There is too much to do at the moment. Please try again."},
    {505, "505 HTTP Version Not Supported", "The server did not understand, or does not want, this request."},
};

static const struct status *status_find(unsigned code) {
  const struct status *status = statuses;
  while (status->code != code && status->code != 505) status++;
  return status;
}

/* An error page, which repeats nothing of the request. */
static size_t error_page(char *room, size_t size, unsigned code) {
  const struct status *status = status_find(code);
  const char *explanation = status->explanation != NULL ? status->explanation : status_find(505)->explanation;
  struct text text = {room, room + size};
  put(&text, "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
             "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<title>");
  put(&text, status->reason);
  put(&text, "</title>\n<style>:root { color-scheme: light dark; } body { font: 16px/1.6 system-ui, sans-serif; "
             "max-width: 34em; margin: 18vh auto; padding: 0 1.5em; } h1 { letter-spacing: -.02em; }</style>\n<h1>");
  put(&text, status->reason);
  put(&text, "</h1>\n<p>");
  put(&text, explanation);
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
  const struct {
    const char *name;
    uint64_t value;
  } fields[] = {
      {"uptime_ns", becket_now(loop) - started_at}, {"connections", connections.taken},
      {"connections_peak", connections.mark}, {"connections_max", options.connections},
      {"connection_bytes", sizeof(struct connection)}, {"accepted", counters.accepted},
      {"requests", counters.requests}, {"refused", counters.refused}, {"timed_out", counters.timed_out},
      {"accept_pauses", counters.pauses}, {"bytes_in", counters.bytes_in}, {"bytes_out", counters.bytes_out},
      {"files_answered", counters.files}, {"files_open", counters.files_open},
      {"files_cut_short", counters.cut_short}, {"walks", counters.walks}, {"reads", counters.reads},
      {"operations", s.operations}, {"operations_inline", s.operations_inline}, {"operations_now", s.operations_now},
      {"blocks", options.blocks}, {"blocks_used", options.blocks - (uint64_t)becket_pool_left(&block_pool)},
      {"blocks_waiting", blocks.waiting_count}, {"blocks_taken_away", blocks.taken_away}, {"block_bytes", BLOCK_SIZE},
      {"turns", s.turns}, {"events_io", s.events_stream + s.events_listener}, {"events_timer", s.events_timer},
      {"events_signal", s.events_signal}, {"waiting_ns", s.waiting_ns}, {"working_ns", s.working_ns},
      {"stale_dropped", s.stale_dropped}, {"queued", s.queued}, {"queued_max", s.queued_max}, {"sources", s.sources},
      {"sources_max", s.sources_max}, {"loop_bytes", sizeof memory_block},
  };
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) put_field(&text, fields[i].name, fields[i].value);
  if (options.lateness_ms > 0) {
    put_field(&text, "lateness_samples", lateness.samples);
    put_field(&text, "lateness_p50_ns", lateness_percentile(&lateness, 500));
    put_field(&text, "lateness_p99_ns", lateness_percentile(&lateness, 990));
    put_field(&text, "lateness_p999_ns", lateness_percentile(&lateness, 999));
    put_field(&text, "lateness_max_ns", lateness.max);
  }
  put(&text, ",\"slots\":\""); /* one letter each, as many as were ever in use at once */
  for (uint32_t i = 0; i < connections.mark; i++) put_bytes(&text, &state_letters[pool[i].state], 1);
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
  const char *path = connection->input + connection->path, *slash = strrchr(path, '/');
  put(text, "\r\nLocation: ./");
  for (const char *at = slash != NULL ? slash + 1 : path; *at != '\0'; at++) {
    const char code[] = {'%', "0123456789ABCDEF"[(unsigned char)*at >> 4], "0123456789ABCDEF"[*at & 15]};
    bool plain = http_is_alphanumeric(*at) || strchr("-._~", *at) != NULL;
    put_bytes(text, plain ? at : code, plain ? 1 : sizeof code);
  }
  put(text, connection->query_size > 0 ? "/?" : "/");
  put_bytes(text, connection->input + connection->query, connection->query_size);
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
  put(&text, status_find(connection->status)->reason);
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
static void route(struct connection *connection) {
  const char *head = connection->input;
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
    must(becket_io_deadline(loop, connection->stream, delay_ns), "deadline");
  connection->deadline_armed = arm;
}

/* The first bytes of the input are done with. */
static void input_take(struct connection *connection, uint32_t size) {
  connection->input += size;
  connection->input_size -= size;
}

/* The input is kept: at the front of its buffer, so that there is room for more. */
static void input_keep(struct connection *connection) {
  if (connection->input_size > 0 && connection->input != connection->buffer)
    memmove(connection->buffer, connection->input, connection->input_size);
  connection->input = connection->buffer;
}

static bool is_busy(const struct connection *connection) {
  return connection->state == DISK || connection->state == WRITING;
}

/* Who does not take does not give either, when there may be no room for it. */
static void set_state(struct connection *connection, enum state state) {
  connection->state = state;
  bool pause = is_busy(connection) && connection->input_size > HTTP_HEAD_MAX;
  if (pause == connection->paused) return;
  connection->paused = pause;
  must(pause ? becket_stream_pause(loop, connection->stream) : becket_stream_resume(loop, connection->stream), "pause");
}

static void file_found(struct connection *connection, int fd);

/* ---- Files ------------------------------------------------------------------------------------------------------ */

/* Whose it is. */
static struct connection *connection_of(struct block_client *client) {
  return (struct connection *)(void *)((char *)client - offsetof(struct connection, block));
}

/* A block has become this client's while it waited: its turn comes with the loop's next. */
static void hand_over(struct block_client *client) {
  if (client != NULL) must(becket_trigger(loop, connection_of(client)->stream, 0), "trigger");
}

/* One has begun to wait for a block, or holds one that it cannot use: whose is to be taken? on_sent() will give it. */
static void blocks_settle(void) {
  struct block_client *client = block_recall(&blocks);
  if (client != NULL)
    must(becket_stream_cancel(loop, connection_of(client)->stream, &connection_of(client)->sending), "cancel");
}

static bool take_block(struct connection *connection) {
  bool has = block_take(&blocks, &connection->block);
  if (!has) blocks_settle();
  return has;
}

/* A block is needed elsewhere. A little of what is in it stays here, so that the stream tells when its client takes more. */
static void block_return(struct connection *connection) {
  size_t left = connection->output_end - connection->output_at, bytes = connection->block_end - connection->block_at;
  size_t kept = bytes < OUTPUT_SIZE - left ? bytes : OUTPUT_SIZE - left;
  memmove(connection->output, connection->output + connection->output_at, left);
  memcpy(connection->output + left, (char *)connection->block.block + connection->block_at, kept);
  connection->output_at = 0;
  connection->output_end = (uint32_t)(left + kept);
  connection->kept = left + kept > 0;
  connection->file_at -= bytes - kept; /* the rest is read again */
  connection->block_at = connection->block_end = 0;
  hand_over(block_give(&blocks, &connection->block));
}

/* The file has been answered, or the connection is gone. Closing what was only read from writes nothing, so it is done at
 * once. (The last close of a large file that was deleted meanwhile frees it, which takes a moment.) */
static void file_close(struct connection *connection) {
  if (connection->file_fd >= 0) {
    close(connection->file_fd);
    connection->file_fd = -1;
    counters.files_open--;
    if (connection->stream != 0) must(becket_set_level(loop, connection->stream, 0), "level");
  }
  connection->block_at = connection->block_end = 0;
  hand_over(block_give(&blocks, &connection->block));
}

/* Its slot is free. */
static void connection_free(struct connection *connection) {
  file_close(connection);
  connection->state = FREE;
  must(becket_pool_put(&connections, connection), "pool");
  if (connections.taken == 0 && listener == 0) must(becket_stop(loop), "stop");
}

/* Everything has been said, or cannot be: on_closed() is next. */
static void connection_close(struct connection *connection) {
  must(becket_stream_close(loop, connection->stream), "close");
  set_state(connection, CLOSING);
}

/* Waits for a block, or for what is done with it. */
static void disk_wait(struct connection *connection) {
  set_state(connection, DISK);
  set_deadline(connection, options.disk_timeout_ms * MILLISECOND);
}

/* What was waited for has come, or the operation has ended. False: nobody is there any more for what it brings. */
static bool disk_done(struct connection *connection) {
  connection->operation = 0;
  connection->cancelled = false;
  if (connection->state == DISK)
    set_deadline(connection, BECKET_NEVER);
  else if (connection->stream == 0)
    connection_free(connection);
  return connection->state == DISK;
}

/* It was waited for long enough. */
static void disk_late(struct connection *connection) {
  if (connection->operation == 0) { /* for a block */
    counters.timed_out++;
    if (connection->finding) {
      file_found(connection, -ECANCELED);
      connection_advance(connection);
    } else {
      connection_close(connection);
    }
  } else if (!connection->cancelled) {
    counters.timed_out++;
    connection->cancelled = true;
    must(becket_op_cancel(loop, connection->operation), "cancel");
    set_deadline(connection, CLOSING_TIME);
  } else { /* on_closed() leaves it to the operation */
    connection_close(connection);
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
  const char *head = connection->input, *path = head + connection->path;
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
      connection->media_type = http_media_type(path, strlen(path));
      connection->file_at = verdict.first;
      connection->file_end = verdict.end;
      if (verdict.status != 304 && request->method == HTTP_METHOD_GET && verdict.first < verdict.end) {
        /* It was opened so that a FIFO would not be waited for. With this on, io_uring answers EAGAIN for a file whose
         * file system cannot say in advance whether it will wait. */
        (void)fcntl(fd, F_SETFL, 0);
        connection->file_fd = fd;
        counters.files_open++;
        must(becket_set_level(loop, connection->stream, LEVEL_FILES), "level");
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
  if (connection->state != DISK && code == 0) beneath_stop(walk);
  if (connection->state != DISK && code > 0) close(code);
  if (disk_done(connection) && walk_on(connection, code)) connection_advance(connection);
}

static bool walk_begin(struct connection *connection) {
  counters.walks++;
  const char *path = connection->input + connection->path;
  return walk_on(connection, beneath_start(connection->block.block, root_fd, path, strlen(path)));
}

static void on_opened(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  if (connection->state != DISK && event->value >= 0) close((int)event->value);
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
  input_keep(connection); /* an operation reads the path when it gets to it */
  if (!take_block(connection)) return false;
  if (open_how == OPEN_BY_WALK) return walk_begin(connection);
  const struct open_how *how = (const struct open_how *)(const void *)&beneath_how;
  int code = becket_op_openat2(loop, root_fd, connection->input + connection->path, how, sizeof beneath_how, on_opened,
                               connection, &connection->operation);
  if (code < 0) file_found(connection, code); /* ECANCELED: the loop ends */
  return code < 0;
}

/* Asks for the file at the path of the request. False: it is waited for, in DISK.
 *
 * What the kernel can tell from its cache of names (RESOLVE_CACHED) is not worth an operation, and is opened here and now. */
static bool file_find(struct connection *connection) {
  static struct beneath walk; /* used between here and the end of this call */
  const struct http_request *request = &connection->request;
  char *path = connection->input + request->path;
  int size = http_path_decode(path, request->path_size);
  if (size < 0) {
    connection->status = (uint16_t)-size;
    connection->resource = ERROR_PAGE;
    return true;
  }
  const char *query = path + request->path_size + 1; /* behind a question mark, or the blank where there is none */
  connection->query = request->path + request->path_size + 1;
  connection->query_size = 0;
  if (query[-1] == '?')
    while (query[connection->query_size] != ' ') connection->query_size++;
  while (size > 0 && *path == '/') path++, size--; /* the root is the first slash, and several are one */
  if (size == 0 || path[size - 1] == '/') {
    _Static_assert(sizeof INDEX <= sizeof " HTTP/1.1\r\n" - 1, "there is room for it where the request line ends");
    memcpy(path + size, INDEX, sizeof INDEX); /* over a query */
    size += (int)sizeof INDEX - 1;
    connection->query_size = 0;
  }
  if (connection->query_size > QUERY_MAX) connection->query_size = 0;
  path[size] = '\0';
  connection->path = (uint32_t)(path - connection->input);
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

static void connection_resume(struct connection *connection);

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
  bool empty = !connection->kept && connection->block_at == connection->block_end;
  if (!empty || connection->file_at == connection->file_end) return SENT;
  /* Those that wait have the block before it is used again: so a long file is no reason to wait for its end. */
  if (connection->block_end > 0 && blocks.waiting_count > 0) hand_over(block_give(&blocks, client));
  connection->block_at = connection->block_end = 0;
  if (!take_block(connection)) return AWAITS_DISK;
  uint64_t left = connection->file_end - connection->file_at;
  size_t size = left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE;
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

/* Serves the requests that lie in the input. True: it stopped because the output is full, not for want of input. */
static bool serve(struct connection *connection) {
  while (!connection->last || connection->head_complete) {
    /* With the head complete, a file is found and not yet answered, or there is none. */
    bool follows = connection->page_follows || (connection->file_fd >= 0 && !connection->head_complete);
    if (follows || OUTPUT_SIZE - connection->output_end < ANSWER_MAX) return true;
    if (!connection->head_complete) {
      int result = http_request_parse(&connection->request, connection->input, connection->input_size);
      if (result == 0) return false;
      if (result > 0) {
        route(connection);
        connection->head_complete = true;
        connection->head_size = connection->resource == FILE_BYTES ? (uint32_t)result : 0;
        if (connection->head_size == 0) input_take(connection, (uint32_t)result);
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
        if (!file_find(connection)) return false;
      }
    }
    uint64_t left = connection->body_left, size = connection->input_size;
    connection->body_left -= size < left ? size : left;
    input_take(connection, (uint32_t)(left - connection->body_left));
    if (connection->body_left > 0) return false;
    answer(connection);
    input_take(connection, connection->head_size);
    connection->head_complete = false;
    memset(&connection->request, 0, sizeof connection->request);
    set_deadline(connection, BECKET_NEVER);
  }
  return false;
}

/* So many bytes were sent: of the output, and then of the page, which is sent as a whole, or of the block. */
static void sent(struct connection *connection, size_t bytes) {
  size_t output = connection->output_end - connection->output_at;
  counters.bytes_out += bytes;
  connection->output_at += (uint32_t)(bytes < output ? bytes : output);
  if (bytes < output) return;
  if (!connection->page_follows) connection->block_at += (uint32_t)(bytes - output);
  connection->output_at = connection->output_end = 0;
  connection->page_follows = connection->kept = false;
  if (connection->block_at == connection->block_end) set_deadline(connection, BECKET_NEVER);
}

/* Sends what is there: the output, then the page or what the block holds. GONE; AWAITS_CLIENT: not all of it went now, and
 * on_sent() goes on; or SENT. */
static enum progress send_some(struct connection *connection) {
  size_t output = connection->output_end - connection->output_at, block = connection->block_end - connection->block_at;
  struct iovec *part = connection->parts;
  *part++ = (struct iovec){connection->output + connection->output_at, output};
  if (block > 0) *part++ = (struct iovec){(char *)connection->block.block + connection->block_at, block};
  for (size_t i = 0; connection->page_follows && i < PAGE_PARTS; i++)
    *part++ = (struct iovec){(void *)(uintptr_t)page[i].bytes, page[i].size}; /* it is only read */
  if (output + block == 0) return SENT;
  int code = becket_stream_sendv(loop, connection->stream, &connection->sending, connection->parts,
                                 (int)(part - connection->parts));
  if (code != BECKET_SEND_DONE) return code < 0 ? GONE : AWAITS_CLIENT;
  size_t size = 0;
  for (const struct iovec *at = connection->parts; at < part; at++) size += at->iov_len;
  sent(connection, size);
  return SENT;
}

/* Reads and sends in turn, one block at most that is read in the handler: then the others have their turn. */
static enum progress send_all(struct connection *connection) {
  uint64_t reads = counters.reads;
  while (connection->file_fd >= 0) {
    if (files_in_handler && counters.reads > reads && connection->file_at < connection->file_end) {
      hand_over(&connection->block); /* to itself */
      return AWAITS_DISK;
    }
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
    if (!connection->deadline_armed) set_deadline(connection, options.request_timeout_ms * MILLISECOND);
    block_stall(&blocks, &connection->block);
    blocks_settle();
    set_state(connection, WRITING);
    break;
  case SENT: break;
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

  bool begun = connection->input_size > 0 || connection->head_complete;
  bool last = connection->last || (stopping && !begun);
  if (connection->ended || (last && becket_stream_shutdown(loop, connection->stream) < 0)) {
    connection_close(connection); /* every complete request before the end has been answered */
  } else if (last) {
    /* A close with unread input would reset the connection, and the reset can overtake the answer (RFC 9112,
     * 9.6): end our side, then drop what still comes until the client has ended its own. */
    set_state(connection, CLOSING);
    set_deadline(connection, CLOSING_TIME);
  } else {
    set_state(connection, begun ? REQUEST : IDLE);
    if (begun && !connection->deadline_armed) set_deadline(connection, options.request_timeout_ms * MILLISECOND);
  }
}

/* It may go on: its block has come, or what it reads, or the client has taken what was sent. */
static void connection_resume(struct connection *connection) {
  if (connection->finding ? open_begin(connection) : connection_send(connection)) connection_advance(connection);
}

/* ---- What the stream tells -------------------------------------------------------------------------------------- */

static void on_data(struct connection *connection, char *data, size_t size) {
  counters.bytes_in += size;
  if (connection->state == CLOSING) return;
  if (connection->input_size == 0) { /* it is parsed where it lies */
    connection->input = data;
  } else { /* there is room: a head that fills HTTP_HEAD_MAX is 431, and of a body nothing stays; if busy, it is paused */
    input_keep(connection);
    memcpy(connection->buffer + connection->input_size, data, size);
  }
  connection->input_size += (uint32_t)size;
  if (is_busy(connection))
    set_state(connection, connection->state);
  else
    connection_advance(connection);
  input_keep(connection);
}

static void on_sent(struct connection *connection, int64_t result) {
  if (connection->state != WRITING) return; /* it is being closed */
  if (result < 0) {
    connection_close(connection);
    return;
  }
  sent(connection, (size_t)result);
  if (connection->block.state == BLOCK_RECALLED) block_return(connection);
  block_resume(&blocks, &connection->block);
  connection_resume(connection);
}

static void on_closed(struct connection *connection) {
  connection->stream = 0;
  connection->state = CLOSING;
  if (connection->operation == 0)
    connection_free(connection);
  else
    must(becket_op_cancel(loop, connection->operation), "cancel"); /* disk_done() is next */
}

static void on_deadline(struct connection *connection) {
  if (!connection->deadline_armed) return;
  connection->deadline_armed = false;
  if (connection->state == REQUEST || connection->state == WRITING) counters.timed_out++;
  switch (connection->state) {
  case DISK: disk_late(connection); break;
  case REQUEST:
    refuse(connection, 408);
    connection_advance(connection);
    break;
  case WRITING:
    must(becket_stream_reset(loop, connection->stream), "reset");
    set_state(connection, CLOSING);
    break;
  default: connection_close(connection); /* what is on its way is the kernel's to deliver */
  }
}

static void on_connection(becket_loop *l, const becket_event *event, void *user) {
  (void)l;
  struct connection *connection = user;
  if ((event->flags & BECKET_STREAM_CLOSED) != 0) {
    on_closed(connection);
    return;
  }
  if ((event->flags & BECKET_STREAM_DATA) != 0) on_data(connection, event->data, (size_t)event->value);
  if ((event->flags & BECKET_STREAM_SENT) != 0) on_sent(connection, event->value);
  if ((event->flags & BECKET_STREAM_END) != 0) {
    connection->ended = true;
    if (!is_busy(connection)) connection_close(connection);
  }
  if ((event->flags & BECKET_TRIGGERED) != 0 && connection->state == DISK && connection->operation == 0) {
    (void)disk_done(connection);
    connection_resume(connection);
  } else if ((event->flags & BECKET_DEADLINE) != 0) {
    on_deadline(connection);
  }
  if ((event->flags & BECKET_TIMEOUT) != 0 && connection->state == IDLE) /* in the other states the deadline decides */
    connection_close(connection);
}

/* ---- The listener ----------------------------------------------------------------------------------------------- */

/* No new clients any more; those that have not asked for anything are gone soon. */
static void listener_close(void) {
  must(becket_listener_close(loop, listener), "close");
  listener = 0;
  for (uint32_t i = 0; i < connections.mark; i++)
    if (pool[i].state == IDLE) must(becket_io_timeout(loop, pool[i].stream, STOPPING_TIME), "timeout");
  if (connections.taken == 0) must(becket_stop(loop), "stop");
}

static void on_listener(becket_loop *l, const becket_event *event, void *user) {
  (void)user;
  if (event->value < 0) { /* it has paused, or there was no client when it was triggered */
    if (stopping)
      listener_close();
    else if (event->value != -ENOSPC)
      counters.pauses++;
    return;
  }
  if (stopping) must(becket_trigger(l, listener, 0), "trigger"); /* is there another one? */
  struct connection *connection = becket_pool_get(&connections); /* there is one more than streams and operations */
  memset(connection, 0, offsetof(struct connection, buffer));
  int code = becket_stream_add(l, (int)event->value, BECKET_TRUSTED, on_connection, connection, &connection->stream);
  if (code < 0) { /* select: an fd above FD_SETSIZE, when this process was started with many open */
    SAY(STDERR_FILENO, "connection dropped: ", becket_strerror(code));
    close((int)event->value);
    must(becket_pool_put(&connections, connection), "pool");
    return;
  }
  must(becket_io_timeout(l, connection->stream, options.idle_timeout_ms * MILLISECOND), "timeout");
  connection->input = connection->buffer;
  connection->file_fd = -1;
  connection->state = IDLE;
  counters.accepted++;
}

static void listener_open(char text[static BECKET_ADDRESS_TEXT_BYTES]) {
  char port[21];
  struct text address = {text, text + BECKET_ADDRESS_TEXT_BYTES - 1};
  put(&address, options.address);
  put(&address, ":");
  put_number(&address, options.port);
  *address.at = '\0';
  const becket_listen_options listen = {.size = sizeof listen, .flags = BECKET_LISTEN_FOR_STREAMS};
  int code = becket_listen(loop, text, &listen, on_listener, NULL, &listener);
  if (code == -EINVAL) FAIL(2, "--address takes an IPv4 address such as 127.0.0.1, not ", options.address);
  if (code == -EADDRINUSE)
    FAIL(1, "port ", number_text(options.port, port), " on ", options.address, " is taken by another program: ",
         "stop that one, or choose another port with --port N (--port 0 finds a free one)");
  if (code < 0) FAIL(1, "cannot listen on ", text, ": ", becket_strerror(code));
  /* Both are inherited by what is accepted. An answer is one send: there is nothing to gather. */
  int fd = becket_listener_fd(loop, listener), on = 1, send_buffer = (int)options.send_buffer;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
      (send_buffer > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) < 0))
    FAIL(1, "cannot set up the socket: ", becket_strerror(-errno));
  must(becket_listener_text(loop, listener, text, BECKET_ADDRESS_TEXT_BYTES), "address");
  must(becket_set_level(loop, listener, LEVEL_LISTENER), "level");
}

/* SIGINT, SIGTERM: accept what has already been promised, answer what has been asked, then end. Again: end now. */
static void on_signal(becket_loop *l, const becket_event *event, void *user) {
  (void)event, (void)user;
  if (stopping) {
    stopped_hard = true;
    must(becket_stop(l), "stop");
  } else {
    stopping = true;
    must(becket_trigger(l, listener, 0), "trigger");
  }
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

/* What takes a text, a number within bounds, or one of several names. */
static const struct option {
  const char *name;
  const char **text;
  uint64_t *number, least, most;
  uint32_t *choice;
  const char *const *choices;
  const char *told;
} option_table[] = {
    {"--root", .text = &options.root},
    {"--port", .number = &options.port, .most = 65535},
    {"--address", .text = &options.address},
    {"--backend", .choice = &options.backend, .choices = backends, .told = "auto, select, poll, epoll or uring"},
    {"--files", .choice = &options.files, .choices = files_names, .told = "auto, uring, aio, aio-signal or read"},
    {"--open", .choice = &options.open, .choices = open_names, .told = "auto, operation or walk"},
    {"--connections", .number = &options.connections, .least = 1, .most = CONNECTIONS_MAX},
    {"--blocks", .number = &options.blocks, .least = 1, .most = BLOCKS_MAX},
    {"--send-buffer", .number = &options.send_buffer, .most = 1 << 30},
    {"--request-timeout-ms", .number = &options.request_timeout_ms, .least = 1, .most = DAY_MS},
    {"--idle-timeout-ms", .number = &options.idle_timeout_ms, .least = 1, .most = DAY_MS},
    {"--disk-timeout-ms", .number = &options.disk_timeout_ms, .least = 1, .most = DAY_MS},
    {"--lateness-ms", .number = &options.lateness_ms, .most = 60000},
};

static void read_options(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--help") == 0) exit(write(STDOUT_FILENO, usage, sizeof usage - 1) < 0);
    const struct option *option = option_table, *end = option + sizeof option_table / sizeof *option;
    while (option < end && strcmp(name, option->name) != 0) option++;
    if (option == end) FAIL(2, "no such option: ", name, " (--help lists them)");
    if (++i == count) FAIL(2, name, " takes a value (--help lists the options)");
    const char *value = arguments[i];
    if (option->text != NULL) *option->text = value;
    if (option->number != NULL) *option->number = option_number(name, value, option->least, option->most);
    if (option->choice == NULL) continue;
    const char *const *choice = option->choices;
    while (*choice != NULL && strcmp(value, *choice) != 0) choice++;
    *option->choice = (uint32_t)(choice - option->choices);
    if (*choice == NULL) FAIL(2, name, " takes ", option->told, ", not '", value, "'");
  }
  if (options.backend > BECKET_BACKEND_IO_URING) options.backend = BECKET_BACKEND_IO_URING; /* by its other name */
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
  char number[21], address[BECKET_ADDRESS_TEXT_BYTES];
  read_options(count, arguments);
  block_pool.count = (uint32_t)options.blocks;

  becket_streams room = streams;
  room.streams = (uint32_t)options.connections;
  becket_config config = {
      .size = sizeof config, .backend = options.backend, .aio = &aio, .streams = &room, .budget = BUDGET};
  config.files = options.root == NULL || options.files == FILES_IN_HANDLER ? BECKET_FILES_NONE : options.files;
  if (config.backend == BECKET_BACKEND_IO_URING) config.ring = &ring; /* with `auto` it would be the choice then */
  int code = becket_loop_init(&loop, &memory, &config);
  if (code < 0)
    FAIL(1, "cannot make a loop with --backend ", backends[options.backend], " and --files ", files_names[options.files],
         ": ", becket_strerror(code));
  started_at = becket_now(loop);
  listener_open(address);
  if (options.root != NULL) root_open();
  if (options.lateness_ms > 0) lateness_open();
  becket_handle signals[2];
  must(becket_signal_add(loop, SIGINT, on_signal, NULL, &signals[0]), "SIGINT");
  must(becket_signal_add(loop, SIGTERM, on_signal, NULL, &signals[1]), "SIGTERM");

  SAY(STDOUT_FILENO, "open http://", address, "/ (backend ", becket_backend_name(loop), ", ",
      number_text(options.connections, number), " connections",
      root_fd < 0 ? "" : ", files by ", root_fd < 0 ? "" : files_name(), ")");
  must(becket_run(loop), "run");
  must(becket_loop_drain(loop, BECKET_FOREVER), "drain"); /* of a second signal: the reads that are under way */
  must(becket_loop_close(loop), "close");
  SAY(STDOUT_FILENO, "stopped after ", number_text(counters.requests, number), " requests");
  return stopped_hard ? 1 : 0;
}
