/* copy: the textbook case of a continuation. A file is read, and what was read is written to a socket.
 *
 * With one thread for each copy this is two lines, for the thread waits in read(2) and write(2), and its stack remembers which
 * socket the data is for. An event loop has one thread, which must not wait: somebody else has to remember. Here it is done
 * three times, each way doing the same work:
 *
 *   blocking   read(2) and write(2): easy to read, and nothing else runs meanwhile
 *   handlers   two handlers, and the continuation, a struct that says what comes next, passed from one to the other
 *   task       the macros of becket.h: it reads like the first, and waits like the second
 *
 * docs/continuations.md goes through it line by line. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "copy"
#define USAGE                                                                                  \
  "usage: copy [--backend auto|select|poll|epoll|uring] [--files auto|uring|aio|aio-signal]\n" \
  "            [--how blocking|handlers|task] FILE PORT\n"
#include "example.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

static BECKET_MEMORY(memory, 0, 0, 1); /* no source, and one operation at a time */
static BECKET_RING(ring, 8);
static BECKET_AIO(aio, 1);

static int64_t copied;  /* bytes */
static int64_t outcome; /* 0, or what went wrong: a negative errno value */

/* ---- Blocking ---- */

static void copy_blocking(int file, int sock) {
  static char block[16384];
  for (;;) {
    ssize_t count = read(file, block, sizeof block);
    if (count <= 0) {
      outcome = count < 0 ? -errno : 0;
      return;
    }
    for (ssize_t sent = 0, more; sent < count; sent += more, copied += more) {
      more = send(sock, block + sent, (size_t)(count - sent), MSG_NOSIGNAL);
      if (more < 0) {
        outcome = -errno;
        return;
      }
    }
  }
}

/* ---- Handlers ---- */

/* The continuation: all that has to be known when the read, or the write, is done. */
struct continuation {
  int file, sock;
  int64_t offset;   /* of the next read */
  size_t sent, count; /* of the block */
  char block[16384];
};

static void on_sent(becket_loop *loop, const becket_event *event, void *user);

static void on_read(becket_loop *loop, const becket_event *event, void *user) {
  struct continuation *copy = user;
  outcome = event->value;
  if (outcome <= 0) return; /* the end of the file, or an error; with nothing left to wait for, becket_run() returns */
  copy->offset += event->value;
  copy->count = (size_t)event->value;
  copy->sent = 0;
  outcome = becket_op_send(loop, copy->sock, copy->block, copy->count, 0, on_sent, copy, NULL);
}

static void on_sent(becket_loop *loop, const becket_event *event, void *user) {
  struct continuation *copy = user;
  outcome = event->value;
  if (outcome < 0) return;
  copied += event->value;
  copy->sent += (size_t)event->value;
  if (copy->sent < copy->count) {
    outcome = becket_op_send(loop, copy->sock, copy->block + copy->sent, copy->count - copy->sent, 0, on_sent, copy, NULL);
  } else {
    outcome = becket_op_read(loop, copy->file, copy->block, sizeof copy->block, copy->offset, on_read, copy, NULL);
  }
}

/* ---- Task ---- */

/* The same continuation; but what comes next is where the function was left, and task remembers that. */
struct copy {
  becket_task task;
  int file, sock;
  int64_t offset;
  size_t sent, count;
  char block[16384];
};

static void copy_task(becket_task *task) {
  struct copy *copy = (struct copy *)task;
  BECKET_TASK_BEGIN(task);
  for (;;) {
    BECKET_AWAIT(becket_op_read(task->loop, copy->file, copy->block, sizeof copy->block, copy->offset, BECKET_AWAITING));
    if (task->value <= 0) BECKET_TASK_RETURN(task->value);
    copy->offset += task->value;
    copy->count = (size_t)task->value;
    for (copy->sent = 0; copy->sent < copy->count; copy->sent += (size_t)task->value) {
      BECKET_AWAIT(becket_op_send(task->loop, copy->sock, copy->block + copy->sent, copy->count - copy->sent, 0,
                                  BECKET_AWAITING));
      if (task->value < 0) BECKET_TASK_RETURN(task->value);
      copied += task->value;
    }
  }
  BECKET_TASK_END;
}

int main(int argc, char **argv) {
  static struct continuation continuation;
  static struct copy copy;
  const char *how = "task", *path = NULL;
  unsigned long port = 0;
  becket_config config = {.size = sizeof config, .ring = &ring, .aio = &aio};
  becket_loop *loop;

  int index = 1;
  for (; index < argc && argv[index][0] == '-'; index++) {
    if (strcmp(argv[index], "--help") == 0) return usage(1);
    if (strcmp(argv[index], "--how") == 0 && index + 1 < argc) how = argv[++index];
    else if (!backend_option(argv, &index, &config) && !files_option(argv, &index, &config)) return usage(0);
  }
  if (strcmp(how, "blocking") != 0 && strcmp(how, "handlers") != 0 && strcmp(how, "task") != 0) return usage(0);
  if (index + 2 != argc || !number_argument(argv[index + 1], 65535, &port)) return usage(0);
  path = argv[index];

  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail(path, -errno);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int sock = socket(AF_INET, SOCK_STREAM, 0);
  if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address) < 0) return fail("connect", -errno);

  if (strcmp(how, "blocking") == 0) {
    copy_blocking(file, sock);
  } else {
    must("loop", becket_loop_init(&loop, &memory, &config));
    if (strcmp(how, "handlers") == 0) {
      continuation = (struct continuation){.file = file, .sock = sock};
      outcome = becket_op_read(loop, file, continuation.block, sizeof continuation.block, 0, on_read, &continuation, NULL);
      must("run", becket_run(loop));
    } else {
      copy = (struct copy){.file = file, .sock = sock};
      must("start", becket_task_start(loop, &copy.task, copy_task, NULL));
      must("run", becket_run(loop));
      outcome = copy.task.result;
    }
    must("close", becket_loop_close(loop));
  }
  close(sock);
  close(file);
  if (outcome < 0) return fail("copy", (int)outcome);
  say("%lld bytes", (long long)copied);
  return EXIT_SUCCESS;
}
