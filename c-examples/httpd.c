/* httpd: an HTTP/1.1 file server on becket that never allocates, and never waits for a disk.
 *
 * A connection is one of the loop's streams and one entry of a fixed pool. What it does is one task, serve(), from the first
 * byte of a request until there is nothing more to do; what its stream tells lets the task go on. All memory is in .bss, sized
 * below. When there is no room for another stream, new clients wait in the kernel's backlog: the listener sees to that.
 *
 *   accepted ──▶ IDLE ──first byte──▶ REQUEST ──complete, answered──▶ IDLE, or after the last one CLOSING ──▶ closed
 *                                      │    ▲
 *                     a file is opened │    │ all is sent
 *                         or read      ▼    │
 *                                    DISK ⇄ WRITING
 *
 * A request is parsed where it was received; what is left of it then is kept until the rest arrives. What arrives in DISK
 * and WRITING is kept too, and when that is more than a head's worth, the stream is paused: the client has to wait.
 *
 * What the kernel has in memory, names as well as bytes, is had at once. For the rest there are operations, with one of a few
 * blocks: whoever finds none waits in a FIFO. A block is held while the disk is waited for, and sent from; a client that
 * does not take all of it loses it when they become scarce, keeps a little of what was in it, and has the rest read again. So
 * slow clients never keep the others waiting.
 *
 * Each state has a bound on time: IDLE the idle timeout, which any event extends; the others a fixed deadline, which nothing
 * extends, so that a client that sends, or takes, a byte now and then does not hold its slot. Of a file it is for one block's
 * worth. After its time an operation is cancelled; and as no file can be had back from a kernel that waits for a dead disk, its
 * client is sent away a little later, and connection and block are kept until the kernel is done with them.
 *
 * Sending a block takes as long as ten small answers, and the loop looks at its timers between turns: so a turn ends after so
 * much work, and who waits with a file comes behind timers and small answers, on a level of its own.
 *
 * http_request.h parses, http_file.h decides what a request for a file means, beneath.h opens what lies beneath the root
 * and nothing else, httpd_opened.h keeps it open for a moment, httpd_page.h is the page at "/_status"; here is what a server does
 * between them. */
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
#include "http_status.h"
#include "httpd_lateness.h"
#include "httpd_opened.h"
#include "httpd_options.h"
#include "httpd_page.h"
#include "httpd_text.h"

#ifndef RWF_NOWAIT /* preadv2(2): only what is in memory; not in every C library */
#define RWF_NOWAIT 8
#endif

#define SOURCES_MAX     (CONNECTIONS_MAX + 5) /* the listener, two signals, two timers */
#define BLOCK_SIZE      65536
#define PIECE_LEAST     16384 /* what is read for a client that takes little at a time */
#define RECEIVE_SIZE    4096 /* bytes that one event brings at most */
#define OUTPUT_SIZE     8192 /* answers to pipelined requests gather here and leave in one system call */
#define ANSWER_MAX      4096 /* the largest answer that is written into it: /_status.json with its map of the slots */
#define LOCATION_MAX    2048 /* of a redirect: three bytes for each of a name, and the query */
#define QUERY_MAX       1024 /* a longer one is left out there */
#define BODY_MAX        (1024 * 1024) /* bytes of request body that are read and dropped before it is 413 */
#define TURN_WORK       128 /* events of a turn; sending this many bytes is as much work as one more: */
#define EVENT_WORTH     512
#define LEVEL_FILES     1  /* of connections that wait with a file, and of its reads */
#define MILLISECOND     UINT64_C(1000000)
#define CLOSING_TIME    (1000 * MILLISECOND)
#define STOPPING_TIME   (50 * MILLISECOND) /* for a request that may be on its way when a signal ends the server */
#define INDEX           "index.html"

enum state { FREE, IDLE, REQUEST, DISK, WRITING, CLOSING };
static const char state_letters[] = ".irdwc"; /* in /_status.json */

enum resource { ERROR_PAGE, HELLO, STATUS, PAGE, FILE_BYTES, REDIRECT };

/* What has to be done before the next answer: receive; open a file; send the answers that are there. */
enum step { MORE_INPUT, FILE_WAITS, SEND };

/* What a block is used for. */
union block {
  struct beneath walk;
  unsigned char bytes[BLOCK_SIZE];
};

struct connection {
  _Alignas(16) becket_task task; /* serve() */
  becket_handle stream; /* 0: there is none any more, and an operation is waited for */
  char *input;          /* what has been received and not consumed: in the loop's buffer, or in that below */
  enum state state;
  uint32_t input_size;
  bool paused, ended; /* receiving; the client sends no more */
  bool behind;        /* at the level of files */
  bool deadline_armed, late; /* its operation was asked to end, after too long a time */
  bool last;          /* no further request: the connection is closed when the output is sent */
  bool head_complete; /* the request is known, its body or its file is awaited */
  struct http_request request;
  uint32_t head_size; /* of a request for a file, which stays in the input until it is answered */
  uint32_t path, query, query_size; /* in it; the path ended by a NUL, the query only for a redirect */
  uint64_t body_left;
  uint16_t status; /* of the answer */
  uint8_t resource;

  becket_send_request sending; /* all that is being sent, in these parts */
  struct iovec parts[1 + PAGE_PARTS];
  int64_t sent;         /* what came of it: bytes, or an error; ON_ITS_WAY */
  uint32_t output_size; /* then follows the page, from where it lies, or what was read of a file */
  uint32_t piece_size;
  uint32_t piece_most;  /* that is read at once: the whole block, but for a client that could not take it */
  bool page_follows;
  enum step step;

  int file_fd;                /* of the file that is being answered; -1: none is */
  struct opened *opened;      /* it is one of those that are kept; NULL: it is this connection's */
  uint64_t file_at, file_end; /* what is still to be read */
  struct http_file file;      /* the version */
  const char *media_type;
  bool file_blocks;    /* for an engine that reads it */
  bool read_here;      /* the piece was had at once: others have their turn before the next */
  bool cut;            /* the block was taken away; what was kept of it goes first */
  bool waits;          /* for a block, in the FIFO */
  union block *block;  /* NULL: it has none */
  struct connection *next, *previous;

  char buffer[HTTP_HEAD_MAX + RECEIVE_SIZE];
  char output[OUTPUT_SIZE];
};
#define ON_ITS_WAY INT64_MIN

static BECKET_MEMORY(memory, SOURCES_MAX, 0, BLOCKS_MAX); /* an operation is for a block, so there is room for it */
static BECKET_AIO(aio, BLOCKS_MAX); /* for POSIX AIO, of a library that has it */
static BECKET_RING(ring, 256); /* for io_uring, which else takes the kernel's memory */
static BECKET_STREAMS(streams, CONNECTIONS_MAX, 33, RECEIVE_SIZE); /* one, but for io_uring, which receives by itself */
static struct connection pool[CONNECTIONS_MAX + BLOCKS_MAX]; /* one that has ended may wait for an operation still */
static uint32_t links[sizeof pool / sizeof *pool];
static becket_pool connections = {
    sizeof connections, pool, links, sizeof *pool, sizeof pool / sizeof *pool, .taken = 0};
static BECKET_POOL(blocks, BLOCKS_MAX, sizeof(union block));
static struct {
  struct connection *first, *last;
  uint32_t count;
} waiting; /* for a block; while anybody does, none is free */

static becket_loop *loop;
static becket_handle listener; /* 0: no new clients any more */
static becket_handle opened_timer; /* armed while files are kept open */
static int root_fd = -1; /* none: no files */
static uint32_t open_how;
static bool files_in_handler;
static bool files_kept; /* for a moment; not for POSIX AIO of glibc, where requests of one fd wait for each other */
static bool files_above; /* fds of files are moved above those that select(2) can wait for */
static bool stopping, stopped_hard;
static uint64_t started_at;
static struct lateness lateness;
static struct {
  uint64_t accepted, requests, refused, timed_out, pauses, bytes_in, bytes_out, files, walks, reads, taken_away, cut_short;
  uint32_t files_open;
} counters;

/* ---- Answers ---------------------------------------------------------------------------------------------------- */

/* Who reads the files. */
static const char *files_name(void) {
  return root_fd < 0 ? "none" : files_in_handler ? "read" : becket_files_name(loop);
}

/* The loop at work, as the page draws it. */
static void status_json(struct text *text) {
  becket_statistics s = {.size = sizeof s};
  must(becket_loop_statistics(loop, &s), "statistics");
  PUT(text, "{\"version\":\"", becket_version(), "\",\"backend\":\"", becket_backend_name(loop), "\",\"files\":\"",
      files_name(), "\"");
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
      {"blocks", options.blocks}, {"blocks_used", blocks.taken},
      {"blocks_waiting", waiting.count}, {"blocks_taken_away", counters.taken_away}, {"block_bytes", BLOCK_SIZE},
      {"turns", s.turns}, {"events_io", s.events_stream + s.events_listener}, {"events_timer", s.events_timer},
      {"events_signal", s.events_signal}, {"waiting_ns", s.waiting_ns}, {"working_ns", s.working_ns},
      {"stale_dropped", s.stale_dropped}, {"queued", s.queued}, {"queued_max", s.queued_max}, {"sources", s.sources},
      {"sources_max", s.sources_max}, {"loop_bytes", sizeof memory_block},
  };
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) put_field(text, fields[i].name, fields[i].value);
  if (options.lateness_ms > 0) {
    put_field(text, "lateness_samples", lateness.samples);
    put_field(text, "lateness_p50_ns", lateness_percentile(&lateness, 500));
    put_field(text, "lateness_p99_ns", lateness_percentile(&lateness, 990));
    put_field(text, "lateness_p999_ns", lateness_percentile(&lateness, 999));
    put_field(text, "lateness_max_ns", lateness.max);
  }
  put(text, ",\"slots\":\""); /* one letter each, as many as were ever in use at once */
  for (uint32_t i = 0; i < connections.mark; i++) put_bytes(text, &state_letters[pool[i].state], 1);
  put(text, "\"}\n");
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

/* Appends the answer to the request at hand. answer_all() has seen to it that ANSWER_MAX bytes are free. */
static void answer(struct connection *connection) {
  static char scratch[ANSWER_MAX - 512]; /* used between here and the copy below: the loop has one thread */
  struct text body = {scratch, scratch + sizeof scratch};
  const char *type = "text/html; charset=utf-8";
  uint64_t follows = 0;
  switch (connection->resource) {
  case HELLO:
    type = "text/plain; charset=utf-8";
    put(&body, "Hello, world!");
    break;
  case STATUS:
    type = "application/json\r\nCache-Control: no-store";
    status_json(&body);
    break;
  case PAGE:
    type = "text/html; charset=utf-8\r\nCache-Control: no-cache\r\nContent-Security-Policy: default-src 'none'; "
           "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    for (size_t i = 0; i < PAGE_PARTS; i++) follows += page[i].size;
    break;
  case FILE_BYTES:
    type = connection->media_type;
    follows = connection->file_end - connection->file_at;
    counters.files++;
    break;
  default: http_error_page(&body, connection->status);
  }
  counters.requests++;
  if (connection->status >= 400) counters.refused++;
  /* A client that asks before it sends its body gets the answer at once, and may or may not send: nobody knows where
   * its next request would begin. */
  const struct http_request *request = &connection->request;
  if (stopping || !http_request_persists(request) || request->expect_continue) connection->last = true;

  struct text text = {connection->output + connection->output_size, connection->output + OUTPUT_SIZE};
  put(&text, "HTTP/1.1 ");
  put(&text, http_status_find(connection->status)->reason);
  if (connection->status != 304) {
    put(&text, "\r\nContent-Type: ");
    put(&text, type);
    put(&text, "\r\nContent-Length: ");
    put_number(&text, follows + (uint64_t)(body.at - scratch));
  }
  if (connection->status == 405) put(&text, "\r\nAllow: GET, HEAD");
  if (connection->status == 503) put(&text, "\r\nRetry-After: 1");
  if (connection->resource == REDIRECT) put_location(&text, connection);
  if (connection->resource == FILE_BYTES) {
    const struct http_validators *validators = http_validators_of(&connection->file);
    put(&text, "\r\nDate: ");
    put_bytes(&text, http_date_at(time(NULL)), HTTP_DATE_SIZE);
    put_bytes(&text, validators->fields, validators->size);
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
  connection->page_follows = connection->resource == PAGE && request->method != HTTP_METHOD_HEAD;
  if (connection->page_follows) connection->piece_size = (uint32_t)follows;
  if (request->method != HTTP_METHOD_HEAD) put_bytes(&text, scratch, (size_t)(body.at - scratch));
  connection->output_size = (uint32_t)(text.at - connection->output);
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

static void serve(becket_task *task);
static void on_served(becket_task *task);

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
static void pause_or_resume(struct connection *connection) {
  bool pause = is_busy(connection) && connection->input_size > HTTP_HEAD_MAX;
  if (pause == connection->paused) return;
  connection->paused = pause;
  must(pause ? becket_stream_pause(loop, connection->stream) : becket_stream_resume(loop, connection->stream), "pause");
}

/* It waits. Who has a file comes behind the others then. */
static void set_state(struct connection *connection, enum state state) {
  connection->state = state;
  bool behind = is_busy(connection) && connection->file_fd >= 0;
  if (behind != connection->behind) must(becket_set_level(loop, connection->stream, behind ? LEVEL_FILES : 0), "level");
  connection->behind = behind;
  pause_or_resume(connection);
}

/* For a block, or for what is done with it. */
static void disk_wait(struct connection *connection) {
  connection->late = false;
  set_state(connection, DISK);
  set_deadline(connection, options.disk_timeout_ms * MILLISECOND);
}

/* Everything has been said, or cannot be: on_closed() is next. */
static void connection_close(struct connection *connection) {
  must(becket_stream_close(loop, connection->stream), "close");
  set_state(connection, CLOSING);
}

/* What its task awaits may have come. False: it awaits an operation, and nothing else. */
static bool connection_wake(struct connection *connection) {
  int code = becket_task_wake(&connection->task, 0);
  if (code == -ESRCH) code = becket_task_start(loop, &connection->task, serve, on_served);
  if (code != -EBUSY) must(code, "task");
  return code == 0;
}

/* ---- Blocks ----------------------------------------------------------------------------------------------------- */

static void waiting_remove(struct connection *connection) {
  *(connection->previous != NULL ? &connection->previous->next : &waiting.first) = connection->next;
  *(connection->next != NULL ? &connection->next->previous : &waiting.last) = connection->previous;
  connection->waits = false;
  waiting.count--;
}

/* A block is needed. False: there is none, and the task goes on when one may have come. O(1), as what follows. */
static bool block_take(struct connection *connection) {
  if (connection->block != NULL || connection->waits) return connection->block != NULL;
  connection->block = becket_pool_get(&blocks);
  if (connection->block != NULL) return true;
  connection->next = NULL;
  connection->previous = waiting.last;
  *(waiting.last != NULL ? &waiting.last->next : &waiting.first) = connection;
  waiting.last = connection;
  waiting.count++;
  connection->waits = true;
  disk_wait(connection);
  return false;
}

/* None is needed any more. Who has waited longest has it, and its turn with the loop's next. */
static void block_give(struct connection *connection) {
  if (connection->waits) waiting_remove(connection);
  if (connection->block == NULL) return;
  struct connection *next = waiting.first;
  if (next != NULL) {
    waiting_remove(next);
    next->block = connection->block;
    must(becket_trigger(loop, next->stream, 0), "trigger");
  } else {
    must(becket_pool_put(&blocks, connection->block), "pool");
  }
  connection->block = NULL;
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

static void on_opened_timer(becket_loop *l, const becket_event *event, void *user) {
  (void)event, (void)user;
  opened_end(becket_now(l));
  if (opened_count > 0) must(becket_timer_arm(l, opened_timer, OPENED_TIME, 0), "timer");
}

/* It may be fds that lack: those that are kept are given back. Whether there were any. */
static bool fds_freed(int64_t code) { return (code == -EMFILE || code == -ENFILE) && opened_end(UINT64_MAX) > 0; }

/* The file has been answered, or the connection is gone. Closing what was only read from writes nothing, so it is done at
 * once. (The last close of a large file that was deleted meanwhile frees it, which takes a moment.) */
static void file_close(struct connection *connection) {
  if (connection->file_fd >= 0) {
    if (connection->opened != NULL)
      connection->opened->users--;
    else
      close(connection->file_fd);
    connection->file_fd = -1;
    counters.files_open--;
  }
  block_give(connection);
}

/* The file is open, or `fd` says why not: what will the answer be? It may be one that was kept, or that may be, since it was found
 * this moment. The head lies where it was parsed, and fstat(2) of an open file asks no disk. */
static void file_found(struct connection *connection, int fd, struct opened *opened, bool may_be_kept) {
  if (files_above && fd >= 0 && opened == NULL) {
    int above = fcntl(fd, F_DUPFD_CLOEXEC, FD_SETSIZE); /* EMFILE, EINVAL: it stays where it is */
    if (above >= 0) close(fd), fd = above;
  }
  const struct http_request *request = &connection->request;
  const char *path = connection->input + connection->path;
  struct stat stat;
  connection->resource = ERROR_PAGE;
  if (opened != NULL) stat = opened->stat;
  if (fd < 0) {
    connection->status = http_status_of(fd);
    (void)fds_freed(fd); /* the next one has a chance */
  } else if (opened == NULL && fstat(fd, &stat) < 0) {
    connection->status = 500;
  } else if (S_ISDIR(stat.st_mode)) {
    connection->status = 301;
    connection->resource = REDIRECT;
  } else if (!S_ISREG(stat.st_mode)) {
    connection->status = 403;
  } else {
    uint32_t before = opened_count;
    if (may_be_kept) opened = opened_keep(path, fd, &stat, becket_now(loop));
    if (before == 0 && opened_count > 0) must(becket_timer_arm(loop, opened_timer, OPENED_TIME, 0), "timer");
    connection->file = (struct http_file){.size = (uint64_t)stat.st_size,
                                          .inode = (uint64_t)stat.st_ino,
                                          .modified = (int64_t)stat.st_mtim.tv_sec,
                                          .modified_ns = (uint32_t)stat.st_mtim.tv_nsec};
    struct http_verdict verdict = http_file_verdict(request, connection->input, &connection->file, time(NULL));
    connection->status = (uint16_t)verdict.status;
    if (verdict.status == 200 || verdict.status == 206 || verdict.status == 304) {
      connection->resource = FILE_BYTES;
      connection->media_type = http_media_type(path, strlen(path));
      connection->file_at = verdict.first;
      connection->file_end = verdict.end;
      if (verdict.status != 304 && request->method == HTTP_METHOD_GET && verdict.first < verdict.end) {
        connection->file_fd = fd;
        connection->opened = opened;
        if (opened != NULL) opened->users++;
        connection->file_blocks = false;
        counters.files_open++;
        return;
      }
    }
  }
  if (fd >= 0 && opened == NULL) close(fd);
  block_give(connection); /* it may have one, from the walk */
}

/* Opens a file here and now: in the handler, or what the kernel has in its cache of names. -EAGAIN: it has not. */
static int open_here(const char *path, size_t size) {
  static struct beneath walk; /* used between here and the end of this call */
  if (files_in_handler && open_how == OPEN_BY_WALK) return beneath_walk(&walk, root_fd, path, size);
  if (files_in_handler || open_how == OPEN_AUTO) return beneath_openat2(root_fd, path, !files_in_handler);
  return -EAGAIN;
}

/* Asks for the file at the path of the request. False: it has to be waited for, in serve(). */
static bool file_find(struct connection *connection) {
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
  set_deadline(connection, BECKET_NEVER); /* the client has said all that it has to */
  struct opened *opened = opened_find(path, becket_now(loop));
  int fd = opened != NULL ? opened->fd : open_here(path, (size_t)size);
  if (fds_freed(fd)) fd = open_here(path, (size_t)size);
  if (fd == -EAGAIN && !files_in_handler) return false;
  file_found(connection, fd, opened, opened == NULL && files_kept);
  return true;
}

static int open_begin(struct connection *connection, becket_handler handler, void *user, becket_handle *operation) {
  const struct open_how *how = (const struct open_how *)(const void *)&beneath_how;
  if (open_how == OPEN_BY_WALK) return -EAGAIN;
  return becket_op_openat2(loop, root_fd, connection->input + connection->path, how, sizeof beneath_how, handler, user,
                           operation);
}

/* The walk in the connection's block goes on. 0: a name is to be opened; else it has ended, with an fd or an error. */
static int walk_next(struct connection *connection, int code) {
  struct beneath *walk = &connection->block->walk;
  if (code == 0 && connection->stream == 0) {
    beneath_stop(walk);
    return -ECANCELED;
  }
  return code == 0 ? beneath_next(walk) : code;
}

static int walk_begin(struct connection *connection) {
  counters.walks++;
  const char *path = connection->input + connection->path;
  return walk_next(connection, beneath_start(&connection->block->walk, root_fd, path, strlen(path)));
}

static size_t piece_wanted(const struct connection *connection) {
  uint64_t left = connection->file_end - connection->file_at;
  return left < connection->piece_most ? (size_t)left : connection->piece_most;
}

/* Reads a piece, here and now: in the handler, or what the kernel has in memory. -EAGAIN: it has not. */
static int64_t piece_read(struct connection *connection, void *at) {
  ssize_t result = -1;
  struct iovec piece = {at, piece_wanted(connection)};
  if (files_in_handler)
    result = pread(connection->file_fd, piece.iov_base, piece.iov_len, (off_t)connection->file_at);
#ifdef SYS_preadv2
  else if (options.files == BECKET_FILES_AUTO) /* an engine that is named reads all */
    result = syscall(SYS_preadv2, connection->file_fd, &piece, 1, (long)connection->file_at,
                     (long)(connection->file_at >> 32), RWF_NOWAIT); /* the two halves, of which a wide one is enough */
#endif
  connection->read_here = files_in_handler || result >= 0;
  counters.reads += connection->read_here;
  if (result >= 0) return result;
  return files_in_handler ? -errno : -EAGAIN;
}

/* The rest of a file that fits behind its answer needs no block where it is in memory. True: it is there. */
static bool rest_read(struct connection *connection) {
  uint64_t rest = connection->file_end - connection->file_at;
  if (rest > OUTPUT_SIZE - connection->output_size) return false;
  if (piece_read(connection, connection->output + connection->output_size) != (int64_t)rest) return false;
  connection->output_size += (uint32_t)rest;
  connection->file_at = connection->file_end;
  block_give(connection); /* it may have one, from the walk */
  return true;
}

static int read_begin(struct connection *connection, becket_handler handler, void *user, becket_handle *operation) {
  /* It was opened so that a FIFO would not be waited for. With this on, io_uring answers EAGAIN for a file whose file system
   * cannot say in advance whether it will wait. */
  if (!connection->file_blocks) (void)fcntl(connection->file_fd, F_SETFL, 0);
  connection->file_blocks = true;
  int code = becket_op_read(loop, connection->file_fd, connection->block->bytes, piece_wanted(connection),
                            (int64_t)connection->file_at, handler, user, operation);
  counters.reads++;
  if (code == 0) must(becket_set_level(loop, *operation, LEVEL_FILES), "level");
  return code;
}

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

/* Sends what is there: the output, then the page or the piece of a file. */
static void send_begin(struct connection *connection) {
  struct iovec *part = connection->parts;
  if (connection->output_size > 0) *part++ = (struct iovec){connection->output, connection->output_size};
  for (size_t i = 0; connection->page_follows && i < PAGE_PARTS; i++)
    *part++ = (struct iovec){(void *)(uintptr_t)page[i].bytes, page[i].size}; /* it is only read */
  if (!connection->page_follows && connection->piece_size > 0)
    *part++ = (struct iovec){connection->block->bytes, connection->piece_size};
  int code = becket_stream_sendv(loop, connection->stream, &connection->sending, connection->parts,
                                 (int)(part - connection->parts));
  connection->sent = code < 0 ? code : ON_ITS_WAY;
  if (code == BECKET_SEND_DONE) connection->sent = connection->output_size + connection->piece_size;
}

/* It is waited for. A block that the client does not empty stays with it only while more than half of them are free; else
 * the stream tells at once how much has gone. */
static void send_wait(struct connection *connection) {
  if (!connection->deadline_armed) set_deadline(connection, options.request_timeout_ms * MILLISECOND);
  set_state(connection, WRITING);
  if (connection->block != NULL && 2 * (uint32_t)becket_pool_left(&blocks) <= blocks.count)
    must(becket_stream_cancel(loop, connection->stream, &connection->sending), "cancel");
}

/* So many bytes have gone. What is left, when it was cut short, is kept as far as there is room for it, so that the stream
 * tells when its client takes more. */
static void send_end(struct connection *connection) {
  size_t sent = (size_t)connection->sent, output = connection->output_size, piece = connection->piece_size;
  size_t output_sent = sent < output ? sent : output, piece_sent = sent - output_sent;
  size_t left = output - output_sent, room = OUTPUT_SIZE - left;
  size_t kept = piece - piece_sent < room ? piece - piece_sent : room;
  must(becket_spend(loop, (uint32_t)((sent > piece ? sent : piece) / EVENT_WORTH)), "spend");
  counters.bytes_out += sent;
  connection->cut = sent < output + piece;
  if (connection->cut) {
    memmove(connection->output, connection->output + output_sent, left);
    memcpy(connection->output + left, connection->block->bytes + piece_sent, kept);
    connection->file_at -= piece - piece_sent - kept; /* the rest is read again */
    counters.taken_away++;
    connection->piece_most = piece_sent > PIECE_LEAST ? (uint32_t)piece_sent : PIECE_LEAST;
  } else {
    connection->piece_most = connection->piece_most > BLOCK_SIZE / 2 ? BLOCK_SIZE : 2 * connection->piece_most;
    set_deadline(connection, BECKET_NEVER);
  }
  connection->output_size = (uint32_t)(left + kept);
  connection->piece_size = 0;
  connection->page_follows = false;
  block_give(connection); /* so a long file is no reason for others to wait for its end */
}

/* ---- What a connection does ------------------------------------------------------------------------------------- */

/* Answers the requests that lie in the input. */
static enum step answer_all(struct connection *connection) {
  while (!connection->last || connection->head_complete) {
    /* With the head complete, a file is found and not yet answered, or there is none. */
    bool follows = connection->page_follows || (connection->file_fd >= 0 && !connection->head_complete);
    if (follows || OUTPUT_SIZE - connection->output_size < ANSWER_MAX) return SEND;
    if (!connection->head_complete) {
      int result = http_request_parse(&connection->request, connection->input, connection->input_size);
      if (result == 0) return MORE_INPUT;
      if (result > 0) {
        route(connection);
        connection->head_complete = true;
        connection->head_size = connection->resource == FILE_BYTES ? (uint32_t)result : 0;
        if (connection->head_size == 0) input_take(connection, (uint32_t)result);
        if (connection->body_left > BODY_MAX) result = -413;
      }
      if (result < 0) {
        refuse(connection, -result);
        return MORE_INPUT;
      }
      if (connection->resource == FILE_BYTES) {
        /* A body means nothing here. It is not waited for with a file open: the answer comes, and then the end. */
        if (connection->body_left > 0) connection->last = true;
        connection->body_left = 0;
        if (!file_find(connection)) return FILE_WAITS;
      }
    }
    uint64_t left = connection->body_left, size = connection->input_size;
    connection->body_left -= size < left ? size : left;
    input_take(connection, (uint32_t)(left - connection->body_left));
    if (connection->body_left > 0) return MORE_INPUT;
    answer(connection);
    input_take(connection, connection->head_size);
    connection->head_complete = false;
    memset(&connection->request, 0, sizeof connection->request);
    set_deadline(connection, BECKET_NEVER);
  }
  return MORE_INPUT;
}

/* One connection, from its first byte on. Whatever it awaits, the client may have gone when it goes on. */
static void serve(becket_task *task) {
  struct connection *connection = (struct connection *)task;
  BECKET_TASK_BEGIN(task);
  for (;;) {
    connection->step = answer_all(connection);

    if (connection->step == FILE_WAITS) {
      input_keep(connection); /* an operation reads the path when it gets to it */
      while (!block_take(connection)) {
        BECKET_AWAIT(0);
        if (connection->stream == 0) BECKET_TASK_RETURN(0);
        if (task->value < 0) break; /* it takes too long */
      }
      if (connection->block != NULL) {
        disk_wait(connection);
        BECKET_AWAIT(open_begin(connection, BECKET_AWAITING));
      }
      /* Without openat2; or something was renamed on the way: the walk need not judge ".." by that. */
      if (task->value == -EAGAIN) {
        task->value = walk_begin(connection);
        while (task->value == 0) {
          BECKET_AWAIT(becket_op_openat(loop, connection->block->walk.dirfd, connection->block->walk.name,
                                        connection->block->walk.flags, 0, BECKET_AWAITING));
          task->value = walk_next(connection, beneath_opened(&connection->block->walk, (int)task->value));
        }
      }
      if (connection->stream == 0) {
        if (task->value >= 0) close((int)task->value);
        BECKET_TASK_RETURN(0);
      }
      set_deadline(connection, BECKET_NEVER);
      file_found(connection, (int)task->value, NULL, false);
      continue;
    }

    while (connection->output_size > 0 || connection->file_fd >= 0) {
      bool reads = connection->file_fd >= 0 && connection->file_at < connection->file_end && !connection->cut;
      if (reads && !rest_read(connection)) {
        while (!block_take(connection)) {
          BECKET_AWAIT(0);
          if (connection->stream == 0) BECKET_TASK_RETURN(0);
          if (task->value < 0) break;
        }
        if (connection->block != NULL) task->value = piece_read(connection, connection->block->bytes);
        if (connection->block != NULL && task->value == -EAGAIN) {
          disk_wait(connection);
          BECKET_AWAIT(read_begin(connection, BECKET_AWAITING));
        }
        if (connection->stream == 0) BECKET_TASK_RETURN(0);
        set_deadline(connection, BECKET_NEVER);
        if (task->value <= 0) { /* less than was promised; the client learns it by the end of the connection */
          counters.cut_short++;
          file_close(connection);
          connection->last = true;
          connection->step = MORE_INPUT;
          continue; /* with what is in the output: there may be whole answers in it */
        }
        connection->piece_size = (uint32_t)task->value;
        connection->file_at += connection->piece_size;
      }
      send_begin(connection);
      if (connection->sent == ON_ITS_WAY) send_wait(connection);
      while (connection->sent == ON_ITS_WAY && connection->stream != 0) BECKET_AWAIT(0);
      if (connection->stream == 0) BECKET_TASK_RETURN(0);
      if (connection->sent < 0) {
        connection_close(connection);
        BECKET_TASK_RETURN(0);
      }
      send_end(connection);
      if (connection->file_fd < 0) continue;
      if (connection->file_at == connection->file_end) {
        if (!connection->cut) file_close(connection);
      } else if (connection->read_here && !connection->cut) { /* the others' turn */
        set_state(connection, DISK);
        must(becket_trigger(loop, connection->stream, 0), "trigger");
        BECKET_AWAIT(0);
        if (connection->stream == 0) BECKET_TASK_RETURN(0);
      }
    }

    if (connection->step == MORE_INPUT) {
      bool begun = connection->input_size > 0 || connection->head_complete;
      if (connection->last || connection->ended || (stopping && !begun)) break;
      set_state(connection, begun ? REQUEST : IDLE);
      if (begun && !connection->deadline_armed) set_deadline(connection, options.request_timeout_ms * MILLISECOND);
      BECKET_AWAIT(0);
      if (connection->stream == 0) BECKET_TASK_RETURN(0);
    }
  }
  /* Every complete request has been answered. A close with unread input would reset the connection, and the reset can overtake
   * the answer (RFC 9112, 9.6): end our side, then drop what still comes until the client has ended its own. */
  if (connection->ended || becket_stream_shutdown(loop, connection->stream) < 0) {
    connection_close(connection);
  } else {
    set_state(connection, CLOSING);
    set_deadline(connection, CLOSING_TIME);
  }
  BECKET_TASK_END;
}

/* Its slot is free, once neither a client nor an operation has to do with it any more. */
static void connection_end(struct connection *connection) {
  file_close(connection);
  if (connection->stream != 0) return;
  connection->state = FREE;
  must(becket_pool_put(&connections, connection), "pool");
  if (connections.taken == 0 && listener == 0) must(becket_stop(loop), "stop");
}

static void on_served(becket_task *task) { connection_end((struct connection *)task); }

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
    pause_or_resume(connection);
  else
    connection_wake(connection);
  input_keep(connection);
}

static void on_closed(struct connection *connection) {
  connection->stream = 0;
  connection->state = CLOSING;
  if (becket_task_active(&connection->task))
    must(becket_task_cancel(&connection->task), "cancel");
  else
    connection_end(connection);
}

static void on_deadline(struct connection *connection) {
  if (!connection->deadline_armed) return;
  connection->deadline_armed = false;
  if (connection->state == CLOSING || (connection->state == DISK && connection->late)) {
    connection_close(connection); /* what is on its way, or comes from a disk, is the kernel's to deliver */
    return;
  }
  counters.timed_out++;
  if (connection->state == DISK) {
    connection->late = true;
    set_deadline(connection, CLOSING_TIME);
    must(becket_task_cancel(&connection->task), "cancel");
  } else if (connection->state == WRITING) {
    must(becket_stream_reset(loop, connection->stream), "reset");
    set_state(connection, CLOSING);
  } else {
    refuse(connection, 408);
    connection_wake(connection);
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
  if ((event->flags & BECKET_STREAM_SENT) != 0) connection->sent = event->value;
  if ((event->flags & BECKET_STREAM_END) != 0) {
    connection->ended = true;
    if (!is_busy(connection)) connection_close(connection);
  }
  bool woken = (event->flags & (BECKET_STREAM_SENT | BECKET_TRIGGERED)) != 0 && is_busy(connection) &&
               connection_wake(connection);
  if (!woken && (event->flags & BECKET_DEADLINE) != 0) on_deadline(connection);
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
    (void)fds_freed(event->value);
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
  connection->piece_most = BLOCK_SIZE;
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
}

/* SIGINT, SIGTERM: accept what has already been promised, answer what has been asked, then end. Again: end now. */
static void on_signal(becket_loop *l, const becket_event *event, void *user) {
  (void)event, (void)user;
  stopped_hard = stopping;
  must(stopping ? becket_stop(l) : becket_trigger(l, listener, 0), "signal");
  stopping = true;
}

/* ---- Start ------------------------------------------------------------------------------------------------------ */

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
  files_kept = strncmp(files_name(), "aio", 3) != 0;
  files_above = strcmp(becket_backend_name(loop), "select") == 0;
  must(becket_timer_add(loop, BECKET_NEVER, 0, on_opened_timer, NULL, &opened_timer), "timer");
}

int main(int count, char **arguments) {
  char number[21], address[BECKET_ADDRESS_TEXT_BYTES];
  read_options(count, arguments);
  blocks.count = (uint32_t)options.blocks;

  becket_streams room = streams;
  room.streams = (uint32_t)options.connections;
  becket_config config = {
      .size = sizeof config, .backend = options.backend, .budget = TURN_WORK, .aio = &aio, .streams = &room};
  config.files = options.root == NULL || options.files == FILES_IN_HANDLER ? BECKET_FILES_NONE : options.files;
  if (config.backend == BECKET_BACKEND_IO_URING) config.ring = &ring; /* with `auto` it would be the choice then */
  int code = becket_loop_init(&loop, &memory, &config);
  if (code < 0)
    FAIL(1, "cannot make a loop with --backend ", backends[options.backend], " and --files ", files_names[options.files],
         ": ", becket_strerror(code));
  started_at = becket_now(loop);
  listener_open(address);
  if (options.root != NULL) root_open();
  if (options.lateness_ms > 0) must(lateness_open(&lateness, loop, options.lateness_ms * MILLISECOND), "lateness");
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
