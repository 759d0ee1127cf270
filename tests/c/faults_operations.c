/* Operations while calls fail: every call that the library makes for them, for every reason that it can have, now or later, once or
 * for long, on every backend with every engine for files. Each operation that was accepted has one completion, with its result
 * or with the reason; no turn spins; and when the fault is gone every operation does what it says, every place can be had, and no
 * descriptor is left behind.
 *
 * Linked with interpose_faults.c. What the test does for itself while something fails goes by syscall(2), which is not watched. */
#define _GNU_SOURCE /* struct statx */
#include "aio_signal.h"
#define TURN_CALLS 300
#define TELLS_EINTR 0
#include "faulty.h"
#include <arpa/inet.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { OPERATIONS = 24 };
static BECKET_MEMORY(memory, 2, 0, OPERATIONS);
static BECKET_RING(ring, 8); /* so small that it is full before all is told */
static BECKET_AIO(aio, 3);   /* likewise */

/* ------------------------------------------------------------------------------------------------ the test's own calls */

static void put(int fd, const char *bytes) {
  size_t size = strlen(bytes);
  CHECK(syscall(SYS_write, fd, bytes, size, 0, 0, 0) == (long)size);
}

/* ------------------------------------------------------------------------------------------------ what is asked for */

enum job {
  RECV, RECV_BEHIND, SEND, RECVMSG, SENDMSG, ACCEPT, CONNECT, READ_PIPE, WRITE_PIPE, READV_SOCKET, WRITEV_PIPE, PREAD, PWRITE,
  PREADV, FSYNC, FDATASYNC, SYNC_FOLDER, READ_FILE, OPENAT, OPENAT2, STATX, CLOSE, CANCELLED, TIMED_OUT, JOBS,
};
_Static_assert((int)JOBS == (int)OPERATIONS, "all at once");

static const char *const names[JOBS] = {
    "recv", "recv behind it", "send", "recvmsg", "sendmsg", "accept", "connect", "read of a pipe", "write to a pipe",
    "readv of a socket", "writev to a pipe", "pread", "pwrite", "preadv", "fsync", "fdatasync", "fsync of a folder",
    "read of a file", "openat", "openat2", "statx", "close", "cancelled", "timed out",
};

/* What each one's value is when nothing fails; a new descriptor's is any. */
static const int values[JOBS] = {1, 1, 2, 3, 3, 0, 0, 1, 4, 2, 5, 6, 7, 6, 0, 0, 0, 6, 0, 0, 0, 0, -ECANCELED, -ETIMEDOUT};

struct result {
  becket_handle handle;
  int accepted, count;
  int64_t value;
};

static struct result results[JOBS];
static int spare; /* a descriptor to be closed; -1: it is */
static int drained; /* what has not completed by now is cancelled */

/* What a value may be while something fails. */
static int is_excused(enum job job, int64_t value) {
  if (drained && value == -ECANCELED) return 1;
  /* POSIX AIO makes one vector after the other. */
  if (job == PREADV && value == 2) return drained || (reason != NULL && strncmp(reason->call, "aio", 3) == 0);
  if (reason == NULL || value == -EINTR) return reason != NULL && reason->error == EINTR && (job == OPENAT || job == OPENAT2);
  if (strcmp(reason->call, "getrlimit") == 0) return value == -ENOSPC; /* nobody knows how many would be too many */
  return value == -reason->error;
}

static int makes_fd(enum job job) { return job == ACCEPT || job == OPENAT || job == OPENAT2; }

static void on_complete(becket_loop *same, const becket_event *event, void *user) {
  struct result *result = user;
  enum job job = (enum job)(result - results);
  CHECK(same == loop && event->kind == BECKET_KIND_OPERATION && event->handle == result->handle);
  result->count++;
  result->value = event->value;
  if (!result->accepted || result->count != 1 ||
      !(makes_fd(job) && event->value >= 0 ? 1 : event->value == values[job] || is_excused(job, event->value))) {
    fprintf(stderr, "%s: accepted %d, completed %d times, %lld %s (%s)\n", names[job], result->accepted, result->count,
            (long long)event->value, check_name(event->value), check_context);
    exit(1);
  }
  if (makes_fd(job) && event->value >= 0) close_own((int)event->value);
  if (job == CLOSE && event->value != -ECANCELED) spare = -1; /* whatever else it says */
}

/* ------------------------------------------------------------------------------------------------ where they do it */

enum { OURS, THEIRS };
static int streams[2], behind[2], datagrams[2], input[2], output[2], more_output[2], quiet[2];
static int listener, client, file, folder_fd;
static struct sockaddr_in address;
static char folder[64], path[80];
static int have_openat2; /* valgrind and qemu-user do not know it */

static void set_the_scene(int blocking) {
  int *const pairs[] = {streams, behind, quiet};
  socklen_t length = sizeof address;
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0, pairs[i]) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams) == 0);
  CHECK(pipe2(input, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK)) == 0 && pipe2(output, O_CLOEXEC) == 0);
  CHECK(pipe2(more_output, O_CLOEXEC | O_NONBLOCK) == 0);
  address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
  CHECK(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 4) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
  spare = dup(quiet[OURS]);
  file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(client >= 0 && spare >= 0 && file >= 0 && folder_fd >= 0);
  put(file, "becket, and more");
  CHECK(lseek(file, 0, SEEK_SET) == 0);
}

static void clear_the_scene(void) {
  const int all[] = {streams[0],   streams[1], behind[0], behind[1],      datagrams[0],   datagrams[1], input[0],  input[1],
                     output[0],    output[1],  quiet[0],  more_output[0], more_output[1], quiet[1],     listener,  client,
                     file,         folder_fd};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) close_own(all[i]);
  if (spare >= 0) close_own(spare);
}

static char bytes[JOBS][16];
static struct iovec vectors[JOBS][2];
static struct msghdr messages[JOBS];
static struct statx status;

static void submit(enum job job, int code) {
  /* A file, and nobody for files. */
  results[job].accepted = code == 0;
  if (code == 0) return;
  EQUAL(code, -ENOSYS);
  CHECK(strcmp(becket_files_name(loop), "none") == 0);
  EQUAL(results[job].handle, 0);
}

static struct iovec *parts(enum job job, size_t first, size_t second) {
  vectors[job][0] = (struct iovec){bytes[job], first};
  vectors[job][1] = (struct iovec){bytes[job] + first, second};
  return vectors[job];
}

static struct msghdr *message(enum job job, size_t first, size_t second) {
  messages[job] = (struct msghdr){.msg_iov = parts(job, first, second), .msg_iovlen = 2};
  return &messages[job];
}

#define REST(job) on_complete, &results[job], &results[job].handle

static void submit_all(void) {
  static const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
  memset(results, 0, sizeof results);
  memset(bytes, 'x', sizeof bytes);
  drained = 0;
  submit(RECV, becket_op_recv(loop, streams[OURS], bytes[RECV], 1, 0, REST(RECV)));
  submit(RECV_BEHIND, becket_op_recv(loop, streams[OURS], bytes[RECV_BEHIND], 1, 0, REST(RECV_BEHIND)));
  submit(SEND, becket_op_send(loop, streams[OURS], bytes[SEND], 2, 0, REST(SEND)));
  submit(RECVMSG, becket_op_recvmsg(loop, datagrams[OURS], message(RECVMSG, 1, 4), 0, REST(RECVMSG)));
  submit(SENDMSG, becket_op_sendmsg(loop, datagrams[OURS], message(SENDMSG, 1, 2), 0, REST(SENDMSG)));
  submit(ACCEPT, becket_op_accept(loop, listener, NULL, NULL, 0, REST(ACCEPT)));
  submit(CONNECT, becket_op_connect(loop, client, (struct sockaddr *)&address, sizeof address, REST(CONNECT)));
  submit(READ_PIPE, becket_op_read(loop, input[0], bytes[READ_PIPE], 1, BECKET_CURRENT, REST(READ_PIPE)));
  submit(WRITE_PIPE, becket_op_write(loop, output[1], bytes[WRITE_PIPE], 4, BECKET_CURRENT, REST(WRITE_PIPE)));
  submit(READV_SOCKET, becket_op_readv(loop, behind[OURS], parts(READV_SOCKET, 1, 1), 2, BECKET_CURRENT, REST(READV_SOCKET)));
  submit(WRITEV_PIPE, becket_op_writev(loop, more_output[1], parts(WRITEV_PIPE, 2, 3), 2, BECKET_CURRENT, REST(WRITEV_PIPE)));
  submit(PREAD, becket_op_read(loop, file, bytes[PREAD], 6, 0, REST(PREAD)));
  submit(PWRITE, becket_op_write(loop, file, bytes[PWRITE], 7, 32, REST(PWRITE)));
  submit(PREADV, becket_op_readv(loop, file, parts(PREADV, 2, 4), 2, 0, REST(PREADV)));
  submit(FSYNC, becket_op_fsync(loop, file, 0, REST(FSYNC)));
  submit(FDATASYNC, becket_op_fsync(loop, file, BECKET_DATA_ONLY, REST(FDATASYNC)));
  submit(SYNC_FOLDER, becket_op_fsync(loop, folder_fd, 0, REST(SYNC_FOLDER)));
  submit(READ_FILE, becket_op_read(loop, file, bytes[READ_FILE], 6, BECKET_CURRENT, REST(READ_FILE)));
  submit(OPENAT, becket_op_openat(loop, folder_fd, "file", O_RDONLY, 0, REST(OPENAT)));
  if (have_openat2) submit(OPENAT2, becket_op_openat2(loop, folder_fd, "file", &how, sizeof how, REST(OPENAT2)));
  else submit(OPENAT2, becket_op_openat(loop, folder_fd, "file", O_RDONLY, 0, REST(OPENAT2)));
  submit(STATX, becket_op_statx(loop, folder_fd, "file", 0, STATX_SIZE, &status, REST(STATX)));
  submit(CLOSE, becket_op_close(loop, spare, REST(CLOSE)));
  submit(CANCELLED, becket_op_recv(loop, quiet[OURS], bytes[CANCELLED], 1, 0, REST(CANCELLED)));
  submit(TIMED_OUT, becket_op_recv(loop, quiet[OURS], bytes[TIMED_OUT], 1, 0, REST(TIMED_OUT)));
  EQUAL(becket_op_deadline(loop, results[TIMED_OUT].handle, MILLISECOND / 10), 0);
}

/* Whether it is not done, and will be. A connection that was not made is not accepted. */
static int is_awaited(enum job job) {
  return results[job].accepted && results[job].count == 0 &&
         !(job == ACCEPT && results[CONNECT].count == 1 && results[CONNECT].value < 0);
}

/* Everything is asked for, and what it waits for comes. */
static void ask(void) {
  submit_all();
  turns(2, 0);
  if (results[CANCELLED].count == 0) EQUAL(becket_op_cancel(loop, results[CANCELLED].handle), 0);
  put(streams[THEIRS], "ab");
  put(behind[THEIRS], "cd");
  put(datagrams[THEIRS], "efg");
  put(input[1], "h");
  turns(4, 0);
  turns(1, (int64_t)MILLISECOND / 4);
}

/* Nothing fails any more: what was asked for ends. */
static void finish(void) {
  for (enum job job = 0; job < JOBS; job++)
    while (is_awaited(job)) CHECK(becket_turn(loop, GUARD) >= 0);
  drained = 1;
  EQUAL(becket_loop_drain(loop, GUARD), 0);
  for (enum job job = 0; job < JOBS; job++) EQUAL(results[job].count, results[job].accepted);
  becket_statistics statistics = statistics_of(loop);
  EQUAL(statistics.operations_now, 0);
  EQUAL(statistics.operations, statistics.events_operation);
}

/* All goes well again, in the same loop, and every place can be had. */
static void work(void) {
  const struct fault_reason *before = reason;
  reason = NULL;
  set_the_scene(1);
  ask();
  for (enum job job = 0; job < JOBS; job++)
    while (is_awaited(job)) CHECK(becket_turn(loop, GUARD) >= 0);
  if (results[PREAD].accepted) {
    CHECK(memcmp(bytes[PREAD], "becket", 6) == 0 && memcmp(bytes[PREADV], "becket", 6) == 0);
    CHECK(memcmp(bytes[READ_FILE], "becket", 6) == 0);
  }
  CHECK(memcmp(bytes[RECVMSG], "efg", 3) == 0 && memcmp(bytes[READV_SOCKET], "cd", 2) == 0);
  /* On io_uring the two need not be in this order. */
  CHECK(bytes[RECV][0] + bytes[RECV_BEHIND][0] == 'a' + 'b' && bytes[READ_PIPE][0] == 'h');
  finish();
  /* At rest it sleeps. */
  while (becket_turn(loop, 0) > 0) continue;
  turns(1, (int64_t)MILLISECOND / 2);
  memset(results, 0, sizeof results);
  for (enum job job = 0; job < JOBS; job++)
    submit(job, becket_op_recv(loop, quiet[OURS], bytes[job], 1, 0, REST(job)));
  EQUAL(becket_op_recv(loop, quiet[OURS], bytes[0], 1, 0, NULL, NULL, NULL), -EAGAIN);
  EQUAL(becket_loop_drain(loop, GUARD), 0);
  for (enum job job = 0; job < JOBS; job++) CHECK(results[job].count == 1 && results[job].value == -ECANCELED);
  clear_the_scene();
  reason = before;
}

/* A drain while something fails does not spin, and the next one ends what is left. */
static void drain(void) {
  uint64_t begin = now();
  unsigned long calls = fault_calls(NULL);
  drained = 1;
  int code = becket_loop_drain(loop, 5 * (int64_t)MILLISECOND);
  CHECK(code == 0 || code == -ETIMEDOUT);
  check_calls(calls, begin);
}

/* One life, with the n-th call failing, and the next ones too. Whether anything failed. */
static int try(const becket_config *config, unsigned long first, unsigned long times, int drains) {
  int before = open_fds();
  loop = NULL;
  set_the_scene(first % 2 == 0);
  int opened = open_fds();
  if (times > 0) fault_set(reason, first, times);
  if (good(becket_loop_init(&loop, &memory, config))) {
    ask();
    if (times == FAULT_ALWAYS && first == 1) rest();
    if (drains) drain();
    int struck = fault_clear() > 0 && times > 0;
    finish();
    clear_the_scene();
    work();
    if (times > 0) fault_set(reason, 1, times);
    EQUAL(becket_loop_close(loop), 0);
    fault_clear();
    EQUAL(open_fds(), before);
    return struck;
  }
  int struck = fault_clear() > 0;
  CHECK(loop == NULL && struck);
  EQUAL(open_fds(), opened);
  clear_the_scene();
  return struck;
}

/* Whether the archive has an engine. */
static int is_built_in(uint32_t files) {
  becket_loop *probe = NULL;
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_POLL, .files = files, .aio = &aio};
  int code = becket_loop_init(&probe, &memory, &config);
  if (code == 0) EQUAL(becket_loop_close(probe), 0);
  return code != -ENOTSUP;
}

/* A life in which nothing fails; by their places, the reasons whose call occurs in it. */
static void try_without(const becket_config *config, int *occurs) {
  unsigned long before[FAULT_REASONS];
  reason = NULL;
  check_context = "nothing fails";
  for (unsigned at = 0; fault_reason(at) != NULL; at++) before[at] = fault_calls(fault_reason(at)->call);
  CHECK(!try(config, 1, 0, 0));
  for (unsigned at = 0; fault_reason(at) != NULL; at++) occurs[at] = fault_calls(fault_reason(at)->call) > before[at];
}

int main(void) {
  static const uint32_t files[] = {BECKET_FILES_IO_URING, BECKET_FILES_AIO, BECKET_FILES_AIO_SIGNAL, BECKET_FILES_NONE};
  static const char *const files_names[] = {"auto", "io_uring", "aio", "aio-signal", "none"};
  static const unsigned long few[] = {1, 4, 0}, all[] = {1, 2, 3, 4, 5, 6, 8, 11, 15, 20, 0};
  const int thorough = getenv("BECKET_FAULTS_ALL") != NULL, have_aio = is_built_in(BECKET_FILES_AIO);
  const unsigned long *firsts = thorough ? all : few;
  int under_valgrind = getenv("TEST_UNDER_VALGRIND") != NULL;
  alarm(600); /* a hang is a failure */
  /* (In memory where there is such a folder: a disk takes its time to sync, and there are thousands of lives.) */
  snprintf(folder, sizeof folder, "%s/becket-faults-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  CHECK(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/file", folder);
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC};
  int probe = (int)syscall(SYS_openat2, AT_FDCWD, folder, &how, sizeof how, 0, 0);
  have_openat2 = probe >= 0;
  if (have_openat2) close_own(probe);
  else fprintf(stderr, "skipped: openat2 (this system has none, or forbids it)\n");
  unsigned long lives = 0, struck = 0;
  for (uint32_t backend = BECKET_BACKEND_SELECT; backend != 0; backend = next_backend(backend)) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
      becket_config config = {.size = sizeof config, .backend = backend, .files = files[i], .aio = &aio, .ring = &ring};
      int occurs[FAULT_REASONS];
      if (files[i] == BECKET_FILES_IO_URING && !have_io_uring()) continue;
      const int is_aio = files[i] == BECKET_FILES_AIO || files[i] == BECKET_FILES_AIO_SIGNAL;
      if (is_aio && (!have_aio || (files[i] == BECKET_FILES_AIO_SIGNAL && !aio_can_signal()))) continue;
      /* All else is the same in the archive without it. */
      if (have_aio && !thorough && !(is_aio && backend != BECKET_BACKEND_SELECT)) continue;
      try_without(&config, occurs);
      for (unsigned at = 0; (reason = fault_reason(at)) != NULL; at++) {
        char context[128];
        if (!occurs[at]) continue;
        check_context = context;
        for (size_t n = 0; firsts[n] != 0 && !(under_valgrind && n > 0); n++) {
          unsigned long more = reason->lasting ? FAULT_ALWAYS : 3;
          const int whole = n == 0 || thorough;
          for (int kind = whole ? 0 : 1; kind < (whole ? 3 : 2); kind++) {
            static const char *const hows[] = {"once", "often", "often, and drained,"};
            snprintf(context, sizeof context, "backend %s, files %s, %s %s, %s from %lu on", backend_name(backend),
                     files_names[files[i]], reason->call, reason->name, hows[kind], firsts[n]);
            lives += 1;
            if (!try(&config, firsts[n], kind == 0 ? 1 : more, kind == 2)) break;
            struck += 1;
          }
        }
      }
    }
  }
  CHECK(struck > 100);
  CHECK(unlink(path) == 0 && rmdir(folder) == 0);
  printf("%lu lives, %lu with faults\n", lives, struck);
  return 0;
}
