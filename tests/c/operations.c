/* Operations from C: every call on every backend with each engine for files, what misuse answers, draining, closing, a fork,
 * and another thread that submits while the owner waits. */
#define _GNU_SOURCE /* struct statx */
#include "check.h"
#include "aio_signal.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/net_tstamp.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { OPERATIONS = 8 };

static BECKET_MEMORY(memory, 8, 4, OPERATIONS);
static BECKET_MEMORY(no_operations, 8, 4, 0);
static BECKET_MEMORY(one_operation, 2, 0, 1);

static BECKET_AIO(aio, 5); /* fewer than there are operations */

static uint32_t now_backend, now_files;

static const char *files_name(uint32_t files) {
  static const char *const names[] = {"", "io_uring", "aio", "aio-signal", "none"};
  return names[files];
}

static becket_loop *open_loop(void) {
  becket_loop *loop = NULL;
  becket_config config = {.size = sizeof config, .backend = now_backend, .files = now_files, .aio = &aio};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(strcmp(becket_files_name(loop), files_name(now_files)) == 0);
  CHECK(strcmp(becket_files_note(loop), "") == 0);
  return loop;
}

/* ------------------------------------------------------------------------------------------------ completions */

struct result {
  becket_handle handle;
  int64_t value;
  int fd;
  int count;
};

static void on_complete(becket_loop *loop, const becket_event *event, void *user) {
  struct result *result = user;
  EQUAL(event->kind, BECKET_KIND_OPERATION);
  EQUAL(event->flags, 0);
  /* It is over: the handle is stale, the place free. */
  EQUAL(becket_op_cancel(loop, event->handle), -ESTALE);
  if (result->handle != 0) CHECK(event->handle == result->handle);
  result->value = event->value;
  result->fd = event->fd;
  result->count++;
}

static void finish(becket_loop *loop, struct result *result) {
  while (result->count == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(result->count, 1);
}

/* Submits, and waits for the completion: its value. */
#define DO(call, ...)                                                                                       \
  (done = (struct result){0},                                                                               \
   EQUAL(call(loop, __VA_ARGS__, on_complete, &done, &done.handle), 0), finish(loop, &done), done.value)

static struct result done;

/* A loop that is done with everything: nothing is in flight, and it can be closed. */
static void close_loop(becket_loop *loop) {
  becket_statistics statistics = statistics_of(loop);
  EQUAL(statistics.operations_now, 0);
  EQUAL(statistics.operations, statistics.events_operation);
  EQUAL(becket_loop_close(loop), 0);
}

/* ------------------------------------------------------------------------------------------------ files */

static char folder[] = "/tmp/becket-operations-XXXXXX";
static char path[64];

static void files_of_all_sorts(void) {
  becket_loop *loop = open_loop();
  int64_t fd = DO(becket_op_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  EQUAL(done.fd, -1);
  EQUAL(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
  int file = (int)fd;
  if (now_files == BECKET_FILES_NONE) {
    char byte = 0;
    EQUAL(becket_op_read(loop, file, &byte, 1, 0, on_complete, NULL, NULL), -ENOSYS);
    EQUAL(becket_op_write(loop, file, &byte, 1, BECKET_CURRENT, on_complete, NULL, NULL), -ENOSYS);
    EQUAL(becket_op_fsync(loop, file, 0, on_complete, NULL, NULL), -ENOSYS);
  } else {
    EQUAL(DO(becket_op_write, file, "hello world", 11, 0), 11);
    EQUAL(done.fd, file);
    struct iovec out[2] = {{"HE", 2}, {"LLO", 3}};
    EQUAL(DO(becket_op_writev, file, out, 2, 0), 5);
    EQUAL(DO(becket_op_fsync, file, 0), 0);
    EQUAL(DO(becket_op_fsync, file, BECKET_DATA_ONLY), 0);
    char text[32] = "";
    EQUAL(DO(becket_op_read, file, text, sizeof text, 0), 11);
    CHECK(strcmp(text, "HELLO world") == 0);
    EQUAL(DO(becket_op_read, file, text, sizeof text, 11), 0);
    char first[4] = "", second[32] = "";
    struct iovec in[2] = {{first, 3}, {second, sizeof second}};
    EQUAL(DO(becket_op_readv, file, in, 2, 3), 8);
    CHECK(strcmp(first, "LO ") == 0 && strcmp(second, "world") == 0);
    EQUAL(DO(becket_op_readv, file, in, 0, 0), 0);
    /* A length that the kernel cuts; and a buffer that it cannot write to. */
    EQUAL(DO(becket_op_read, file, NULL, 0, 0), 0);
    EQUAL(DO(becket_op_read, file, (void *)8, 5, 0), -EFAULT);
    static char last; /* (not near the end of the address space, as the stack is) */
    const volatile size_t most = 0x7ffff000; /* what the kernel cuts it to */
    if (pread(file, &last, most, 10) < 0 && errno == EFAULT) {
      static int said; /* qemu-user: it looks at all of the buffer first */
      if (!said++) fprintf(stderr, "skipped: a read of more than there can be (this system refuses it)\n");
    } else {
      last = 0;
      EQUAL(DO(becket_op_read, file, &last, SIZE_MAX / 2, 10), 1);
      EQUAL(last, 'd');
    }
    /* The handle may be left out. */
    struct result quiet = {0};
    EQUAL(becket_op_read(loop, file, text, 1, 0, on_complete, &quiet, NULL), 0);
    finish(loop, &quiet);
    EQUAL(quiet.value, 1);
  }
  struct statx status;
  memset(&status, 0, sizeof status);
  EQUAL(DO(becket_op_statx, AT_FDCWD, path, 0, STATX_SIZE, &status), 0);
  EQUAL(done.fd, -1);
  EQUAL(status.stx_size, now_files == BECKET_FILES_NONE ? 0 : 11);
  EQUAL(DO(becket_op_statx, file, "", AT_EMPTY_PATH, STATX_SIZE, &status), 0);
  EQUAL(DO(becket_op_statx, AT_FDCWD, "/nobody/is/here", 0, STATX_SIZE, &status), -ENOENT);
  EQUAL(DO(becket_op_openat, AT_FDCWD, "/nobody/is/here", O_RDONLY, 0), -ENOENT);
  int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
  fd = DO(becket_op_openat2, dir, "file", &how, sizeof how);
  EQUAL(done.fd, -1);
  if (fd != -ENOSYS) { /* valgrind does not know it, nor does an old kernel */
    CHECK(fd >= 0);
    close((int)fd);
    EQUAL(DO(becket_op_openat2, dir, "../../etc/passwd", &how, sizeof how), -EXDEV);
  }
  const int64_t error = DO(becket_op_openat2, dir, "file", &how, 3);
  CHECK(error == -EINVAL || error == -ENOSYS);
  close(dir);
  EQUAL(DO(becket_op_close, file), 0);
  EQUAL(done.fd, file);
  EQUAL(fcntl(file, F_GETFD), -1);
  EQUAL(DO(becket_op_close, file), -EBADF);
  becket_statistics statistics = statistics_of(loop);
  const int made_inline = now_files != BECKET_FILES_IO_URING;
  const uint64_t least = made_inline ? 9 : 0; /* openat2 twice or three times */
  CHECK(statistics.operations_inline == least || statistics.operations_inline == least + (uint64_t)made_inline);
  EQUAL(statistics.operations_max, OPERATIONS);
  close_loop(loop);
}

/* ------------------------------------------------------------------------------------------------ sockets */

static void sockets_of_all_sorts(void) {
  becket_loop *loop = open_loop();
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  CHECK(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 8) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);

  struct sockaddr_in peer;
  memset(&peer, 0, sizeof peer);
  socklen_t peer_length = sizeof peer;
  struct result accepted = {0}, connected = {0};
  EQUAL(becket_op_accept(loop, listener, (struct sockaddr *)&peer, &peer_length, SOCK_CLOEXEC | SOCK_NONBLOCK,
                         on_complete, &accepted, &accepted.handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EQUAL(becket_op_connect(loop, client, (struct sockaddr *)&address, length, on_complete, &connected,
                          &connected.handle), 0);
  finish(loop, &connected);
  finish(loop, &accepted);
  EQUAL(connected.value, 0);
  CHECK(accepted.value >= 0);
  int server = (int)accepted.value;
  EQUAL(fcntl(server, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EQUAL(fcntl(server, F_GETFD), FD_CLOEXEC);
  struct sockaddr_in own;
  socklen_t own_length = sizeof own;
  CHECK(getsockname(client, (struct sockaddr *)&own, &own_length) == 0);
  CHECK(peer_length == sizeof peer && peer.sin_port == own.sin_port && peer.sin_addr.s_addr == own.sin_addr.s_addr);

  EQUAL(DO(becket_op_send, client, "hello", 5, MSG_DONTWAIT), 5);
  char text[32] = "";
  EQUAL(DO(becket_op_recv, server, text, sizeof text, MSG_PEEK), 5);
  EQUAL(DO(becket_op_recv, server, text, sizeof text, 0), 5);
  CHECK(strcmp(text, "hello") == 0);
  struct iovec out[2] = {{"ab", 2}, {"cde", 3}};
  struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
  EQUAL(DO(becket_op_sendmsg, server, &message, 0), 5);
  char first[3] = "", second[8] = "";
  struct iovec in[2] = {{first, 2}, {second, sizeof second - 1}};
  struct msghdr received = {.msg_iov = in, .msg_iovlen = 2};
  EQUAL(DO(becket_op_recvmsg, client, &received, 0), 5);
  CHECK(strcmp(first, "ab") == 0 && strcmp(second, "cde") == 0);
  EQUAL(DO(becket_op_writev, client, out, 2, BECKET_CURRENT), 5);
  EQUAL(DO(becket_op_readv, server, in, 2, BECKET_CURRENT), 5);
  EQUAL(DO(becket_op_write, client, "xyz", 3, BECKET_CURRENT), 3);
  EQUAL(DO(becket_op_read, server, text, sizeof text, BECKET_CURRENT), 3);

  /* One waits, with a flag that asks it not to; and the message of one that waits stays its. */
  struct result waiting = {0};
  EQUAL(becket_op_recvmsg(loop, server, &received, MSG_DONTWAIT, on_complete, &waiting, &waiting.handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(write(client, "12", 2), 2);
  finish(loop, &waiting);
  EQUAL(waiting.value, 2);
  CHECK(memcmp(first, "12", 2) == 0);

  /* What is no socket; and no more of this one. */
  int fds[2];
  CHECK(pipe(fds) == 0);
  EQUAL(DO(becket_op_recv, fds[0], text, 1, 0), -ENOTSOCK);
  EQUAL(DO(becket_op_accept, client, NULL, NULL, 0), -EINVAL);
  close(fds[0]);
  close(fds[1]);
  EQUAL(shutdown(client, SHUT_WR), 0);
  EQUAL(DO(becket_op_recv, server, text, 1, 0), 0);
  EQUAL(close(client), 0);
  EQUAL(DO(becket_op_close, server), 0);
  EQUAL(DO(becket_op_close, listener), 0);
  close_loop(loop);
}

/* More connections than a listener's queue holds: a connect of a Unix socket has to wait for its turn. */
/* A terminal that is written to and not read: it is writable for as long as it has any room, and a write of more stood still. */
static void a_blocking_terminal_is_not_waited_for(void) {
  static char bytes[65536];
  becket_loop *loop = open_loop();
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) {
    close_loop(loop);
    return; /* there are none */
  }
  CHECK(grantpt(master) == 0 && unlockpt(master) == 0);
  int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  struct termios raw;
  CHECK(terminal >= 0 && tcgetattr(terminal, &raw) == 0);
  cfmakeraw(&raw);
  CHECK(tcsetattr(terminal, TCSANOW, &raw) == 0);
  memset(bytes, 'x', sizeof bytes);
  alarm(GUARD / (int64_t)SECOND); /* the test is killed where a write stands still */
  int64_t written = 0;
  struct result result;
  for (;;) {
    result = (struct result){0};
    EQUAL(becket_op_write(loop, terminal, bytes, sizeof bytes, BECKET_CURRENT, on_complete, &result, &result.handle), 0);
    for (int turn = 0; turn < 30 && result.count == 0; turn++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) >= 0);
    if (result.count == 0) break;
    CHECK(result.value > 0);
    written += result.value;
  }
  EQUAL(becket_op_cancel(loop, result.handle), 0);
  finish(loop, &result);
  CHECK(result.value > 0 || result.value == -ECANCELED);
  if (result.value > 0) written += result.value;
  alarm(0);
  /* No byte is lost, and the file is what it was. */
  CHECK(fcntl(master, F_SETFL, O_NONBLOCK) == 0 && (fcntl(terminal, F_GETFL) & O_NONBLOCK) == 0);
  for (int waits = 0; written > 0;) {
    ssize_t count = read(master, bytes, sizeof bytes);
    if (count > 0) written -= count;
    else CHECK(errno == EAGAIN && waits++ < 2000 && usleep(10000) == 0);
  }
  EQUAL(written, 0);
  close(terminal);
  close(master);
  close_loop(loop);
}

/* An eventfd that has room for one, and is given two. */
static void a_blocking_counter_is_not_waited_for(void) {
  becket_loop *loop = open_loop();
  int counter = eventfd(0, EFD_CLOEXEC);
  uint64_t value = UINT64_MAX - 2, two = 2;
  CHECK(counter >= 0);
  EQUAL(write(counter, &value, sizeof value), sizeof value);
  alarm(GUARD / (int64_t)SECOND);
  struct result result = {0};
  EQUAL(becket_op_write(loop, counter, &two, sizeof two, BECKET_CURRENT, on_complete, &result, &result.handle), 0);
  for (int turn = 0; turn < 5; turn++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) >= 0);
  alarm(0);
  EQUAL(result.count, 0);
  EQUAL(read(counter, &value, sizeof value), sizeof value);
  finish(loop, &result);
  EQUAL(result.value, sizeof two);
  close(counter);
  close_loop(loop);
}

/* The same of one that does not block, and of two writes: it is writable for as long as there is room for one, and the loop asked it
 * again and again. */
static void a_counter_without_room_is_left_alone(int flags) {
  becket_loop *loop = open_loop();
  int counter = eventfd(0, EFD_CLOEXEC | flags);
  uint64_t value = UINT64_MAX - 2, two = 2, one = 1;
  CHECK(counter >= 0);
  EQUAL(write(counter, &value, sizeof value), sizeof value);
  struct result first = {0}, second = {0};
  EQUAL(becket_op_write(loop, counter, &two, sizeof two, BECKET_CURRENT, on_complete, &first, &first.handle), 0);
  int overtaking = now_backend == BECKET_BACKEND_IO_URING; /* there one does not wait for the other */
  if (!overtaking) {
    EQUAL(becket_op_write(loop, counter, &one, sizeof one, BECKET_CURRENT, on_complete, &second, &second.handle), 0);
  }
  uint64_t slept = statistics_of(loop).waiting_ns;
  for (int turn = 0; turn < 60; turn++) CHECK(becket_turn(loop, 10 * (int64_t)MILLISECOND) >= 0);
  CHECK(first.count == 0 && second.count == 0 && statistics_of(loop).waiting_ns - slept > 15 * MILLISECOND);
  EQUAL(read(counter, &value, sizeof value), sizeof value);
  finish(loop, &first);
  EQUAL(first.value, sizeof two);
  if (!overtaking) {
    finish(loop, &second);
    EQUAL(second.value, sizeof one);
  }
  /* While it is left alone it can be cancelled. */
  value = UINT64_MAX - 5;
  EQUAL(write(counter, &value, sizeof value), sizeof value);
  value = 8;
  first = (struct result){0};
  EQUAL(becket_op_write(loop, counter, &value, sizeof value, BECKET_CURRENT, on_complete, &first, &first.handle), 0);
  for (int turn = 0; turn < 15; turn++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) >= 0);
  EQUAL(becket_op_cancel(loop, first.handle), 0);
  /* (A thread of the kernel's that stands still in a write is interrupted.) */
  finish(loop, &first);
  EQUAL(first.value, -ECANCELED);
  close(counter);
  close_loop(loop);
}

/* And for no longer where the loop's time is virtual, and stands still. */
static void a_rest_is_of_real_time(void) {
  becket_loop *loop = NULL;
  becket_config config = {
      .size = sizeof config, .backend = now_backend, .files = now_files, .aio = &aio, .flags = BECKET_VIRTUAL_CLOCK};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  int counter = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  uint64_t value = UINT64_MAX - 2, two = 2;
  CHECK(counter >= 0);
  EQUAL(write(counter, &value, sizeof value), sizeof value);
  struct result result = {0};
  EQUAL(becket_op_write(loop, counter, &two, sizeof two, BECKET_CURRENT, on_complete, &result, &result.handle), 0);
  uint64_t begin = becket_now(loop);
  for (int turn = 0; turn < 60; turn++) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
  EQUAL(result.count, 0);
  EQUAL(read(counter, &value, sizeof value), sizeof value);
  for (int turn = 0; turn < 1000 && result.count == 0; turn++) CHECK(becket_turn(loop, BECKET_FOREVER) >= 0);
  EQUAL(result.count, 1);
  EQUAL(result.value, sizeof two);
  EQUAL(becket_now(loop), begin);
  close(counter);
  close_loop(loop);
}

/* Data that is there is no error: the loop asked for the error queue again and again, without sleeping. */
static void a_wait_for_an_error_sleeps(void) {
  becket_loop *loop = open_loop();
  int one = 1, sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  CHECK(bind(sock, (struct sockaddr *)&address, length) == 0);
  CHECK(getsockname(sock, (struct sockaddr *)&address, &length) == 0);
  if (setsockopt(sock, SOL_SOCKET, SO_SELECT_ERR_QUEUE, &one, sizeof one) < 0 && errno == ENOPROTOOPT) { /* for select */
    static int said;
    if (!said++) fprintf(stderr, "skipped: the error queue of a socket (this system has no SO_SELECT_ERR_QUEUE)\n");
    close(sock);
    close_loop(loop);
    return;
  }
  EQUAL(sendto(sock, "data", 4, 0, (struct sockaddr *)&address, length), 4);
  char control[512], bytes[16];
  struct iovec vector = {bytes, sizeof bytes};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct result result = {0};
  EQUAL(becket_op_recvmsg(loop, sock, &message, MSG_ERRQUEUE, on_complete, &result, &result.handle), 0);
  uint64_t slept = statistics_of(loop).waiting_ns;
  for (int turn = 0; turn < 10; turn++) CHECK(becket_turn(loop, 10 * (int64_t)MILLISECOND) >= 0);
  CHECK(result.count == 0 && statistics_of(loop).waiting_ns - slept > 40 * MILLISECOND);

  /* Cancelled it says so, and not EAGAIN. */
  EQUAL(becket_op_cancel(loop, result.handle), 0);
  finish(loop, &result);
  EQUAL(result.value, -ECANCELED);
  result = (struct result){0};
  EQUAL(becket_op_recvmsg(loop, sock, &message, MSG_ERRQUEUE, on_complete, &result, &result.handle), 0);
  EQUAL(becket_op_cancel(loop, result.handle), 0);
  finish(loop, &result);
  EQUAL(result.value, -ECANCELED);

  /* The copy of what is sent, with the time of it, is an error. */
  int flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
  CHECK(setsockopt(sock, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) == 0);
  result = (struct result){0};
  EQUAL(becket_op_recvmsg(loop, sock, &message, MSG_ERRQUEUE, on_complete, &result, &result.handle), 0);
  CHECK(becket_turn(loop, 0) >= 0);
  EQUAL(sendto(sock, "more", 4, 0, (struct sockaddr *)&address, length), 4);
  finish(loop, &result);
  CHECK(result.value > 0);
  close(sock);
  close_loop(loop);
}

/* read(2) of nothing does not wait; recv(2) would. */
static void a_read_of_nothing_does_not_wait(void) {
  becket_loop *loop = open_loop();
  int ends[2];
  char byte;
  struct iovec nothing[2] = {{&byte, 0}, {&byte, 0}};
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  EQUAL(DO(becket_op_read, ends[0], &byte, 0, BECKET_CURRENT), 0);
  EQUAL(DO(becket_op_readv, ends[0], nothing, 2, BECKET_CURRENT), 0);
  close(ends[0]);
  close(ends[1]);
  close_loop(loop);
}

static void a_connect_waits_for_its_turn(void) {
  becket_loop *loop = open_loop();
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
  unlink(address.sun_path);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 0) == 0);
  int clients[3];
  struct result connected[3] = {{0}, {0}, {0}};
  for (int i = 0; i < 3; i++) {
    clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EQUAL(becket_op_connect(loop, clients[i], (struct sockaddr *)&address, sizeof address, on_complete, &connected[i],
                            &connected[i].handle), 0);
  }
  for (int i = 0; i < 5; i++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) >= 0);
  CHECK(connected[2].count == 0);
  for (int i = 0; i < 3; i++) {
    int64_t fd = DO(becket_op_accept, listener, NULL, NULL, 0);
    CHECK(fd >= 0);
    close((int)fd);
  }
  for (int i = 0; i < 3; i++) {
    finish(loop, &connected[i]);
    EQUAL(connected[i].value, 0);
    close(clients[i]);
  }
  close(listener);
  unlink(address.sun_path);
  close_loop(loop);
}

/* ------------------------------------------------------------------------------------------------ misuse */

static void misuse(void) {
  becket_loop *loop = open_loop();
  char byte = 'x';
  char *buffer = &byte;
  struct iovec vector = {&byte, 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t length = sizeof address;
  struct statx status;
  struct open_how how = {.flags = 0};
  becket_handle handle = 77;

#define REFUSED(error, expression)                                                                          \
  do {                                                                                                      \
    check_context = #expression;                                                                            \
    EQUAL(expression, error);                                                                               \
    CHECK(handle == 77);                                                                                    \
  } while (0)
#define END on_complete, NULL, &handle

  /* No loop. */
  REFUSED(-EINVAL, becket_op_read(NULL, 0, buffer, 1, 0, END));
  REFUSED(-EINVAL, becket_op_close(NULL, 0, END));
  REFUSED(-EINVAL, becket_op_cancel(NULL, 1));
  REFUSED(-EINVAL, becket_op_deadline(NULL, 1, 0));
  REFUSED(-EINVAL, becket_loop_drain(NULL, 0));
  CHECK(becket_files_name(NULL) == NULL && becket_files_note(NULL) == NULL);
  /* No fd, or nothing where there has to be something. */
  REFUSED(-EBADF, becket_op_read(loop, -1, buffer, 1, 0, END));
  REFUSED(-EBADF, becket_op_write(loop, -5, buffer, 1, 0, END));
  REFUSED(-EBADF, becket_op_fsync(loop, -1, 0, END));
  REFUSED(-EBADF, becket_op_close(loop, -1, END));
  REFUSED(-EBADF, becket_op_accept(loop, -1, NULL, NULL, 0, END));
  REFUSED(-EBADF, becket_op_connect(loop, -1, (struct sockaddr *)&address, length, END));
  REFUSED(-EBADF, becket_op_recv(loop, -1, buffer, 1, 0, END));
  REFUSED(-EBADF, becket_op_sendmsg(loop, -1, &message, 0, END));
  REFUSED(-EINVAL, becket_op_read(loop, 0, NULL, 1, 0, END));
  REFUSED(-EINVAL, becket_op_write(loop, 0, NULL, 1, 0, END));
  REFUSED(-EINVAL, becket_op_recv(loop, 0, NULL, 1, 0, END));
  REFUSED(-EINVAL, becket_op_send(loop, 0, NULL, 1, 0, END));
  REFUSED(-EINVAL, becket_op_readv(loop, 0, NULL, 1, 0, END));
  REFUSED(-EINVAL, becket_op_recvmsg(loop, 0, NULL, 0, END));
  REFUSED(-EINVAL, becket_op_sendmsg(loop, 0, NULL, 0, END));
  REFUSED(-EINVAL, becket_op_openat(loop, AT_FDCWD, NULL, O_RDONLY, 0, END));
  REFUSED(-EINVAL, becket_op_openat2(loop, AT_FDCWD, NULL, &how, sizeof how, END));
  REFUSED(-EINVAL, becket_op_openat2(loop, AT_FDCWD, path, NULL, sizeof how, END));
  REFUSED(-EINVAL, becket_op_statx(loop, AT_FDCWD, NULL, 0, 0, &status, END));
  REFUSED(-EINVAL, becket_op_statx(loop, AT_FDCWD, path, 0, 0, NULL, END));
  REFUSED(-EINVAL, becket_op_connect(loop, 0, NULL, length, END));
  REFUSED(-EINVAL, becket_op_accept(loop, 0, NULL, &length, 0, END));
  REFUSED(-EINVAL, becket_op_accept(loop, 0, (struct sockaddr *)&address, NULL, 0, END));
  /* Out of range. */
  REFUSED(-EINVAL, becket_op_read(loop, 0, buffer, 1, -2, END));
  REFUSED(-EINVAL, becket_op_write(loop, 0, buffer, 1, INT64_MIN, END));
  REFUSED(-EINVAL, becket_op_readv(loop, 0, &vector, -1, 0, END));
  REFUSED(-EINVAL, becket_op_writev(loop, 0, &vector, 1025, 0, END));
  REFUSED(-EINVAL, becket_op_fsync(loop, 0, 2, END));
  REFUSED(-EINVAL, becket_op_accept(loop, 0, NULL, NULL, 1, END));
  REFUSED(-EINVAL, becket_loop_drain(loop, -2));
  /* Handles that name no operation. */
  REFUSED(-ESTALE, becket_op_cancel(loop, 0));
  REFUSED(-ESTALE, becket_op_cancel(loop, UINT64_MAX));
  REFUSED(-ESTALE, becket_op_deadline(loop, 9 << 24, 0));
  becket_handle source;
  EQUAL(becket_wake_add(loop, NULL, NULL, &source), 0);
  REFUSED(-EINVAL, becket_op_cancel(loop, source));
  REFUSED(-EINVAL, becket_op_deadline(loop, source, 0));
  EQUAL(statistics_of(loop).operations, 0);
  check_context = "";

  /* An operation is none of the sources' calls'. */
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  struct result result = {0};
  EQUAL(becket_op_recv(loop, fds[0], buffer, 1, 0, on_complete, &result, &result.handle), 0);
  EQUAL(becket_remove(loop, result.handle), -EBUSY);
  EQUAL(becket_io_close(loop, result.handle), -EINVAL);
  EQUAL(becket_trigger(loop, result.handle, 0), -EINVAL);
  EQUAL(becket_post(loop, result.handle, 0), -EINVAL);
  EQUAL(becket_wake(loop, result.handle), -ESTALE);
  EQUAL(becket_timer_arm(loop, result.handle, 0, 0), -EINVAL);
  EQUAL(becket_kind(loop, result.handle), BECKET_KIND_OPERATION);
  EQUAL(becket_level(loop, result.handle), 0);
  EQUAL(becket_keepalive(loop, result.handle), 1);
  void *user = NULL;
  EQUAL(becket_user(loop, result.handle, &user), 0);
  CHECK(user == &result);
  /* A loop with operations is not closed, nor is what is watched. */
  EQUAL(becket_loop_close(loop), -EBUSY);
  if (now_backend != BECKET_BACKEND_IO_URING) EQUAL(becket_op_close(loop, fds[0], on_complete, NULL, NULL), -EBUSY);
  becket_handle io;
  EQUAL(becket_io_add(loop, fds[0], BECKET_WRITABLE, NULL, NULL, &io), 0);
  EQUAL(becket_op_close(loop, fds[0], on_complete, NULL, NULL), -EBUSY);
  if (now_backend != BECKET_BACKEND_IO_URING) EQUAL(becket_io_close(loop, io), -EBUSY);
  EQUAL(becket_remove(loop, io), 0);
  EQUAL(becket_op_cancel(loop, result.handle), 0);
  EQUAL(becket_op_cancel(loop, result.handle), 0);
  finish(loop, &result);
  EQUAL(result.value, -ECANCELED);
  EQUAL(becket_remove(loop, result.handle), -ESTALE);
  close(fds[0]);
  close(fds[1]);
  EQUAL(becket_remove(loop, source), 0);
  close_loop(loop);
  REFUSED(-EBADF, becket_op_read(loop, 0, buffer, 1, 0, END));
  REFUSED(-EBADF, becket_loop_drain(loop, 0));
}

static void memory_and_configuration(void) {
  EQUAL(becket_memory_size(8, 4, OPERATIONS), sizeof memory_block);
  EQUAL(becket_memory_size(8, 4, 1000) - becket_memory_size(8, 4, 0), 1000 * BECKET_OPERATION_BYTES);
  EQUAL(becket_memory_size(1, 0, UINT32_MAX), 0);
  EQUAL(becket_memory_size(BECKET_SOURCES_MAX, 0, 1), 0);
  becket_loop *loop = NULL;
  becket_config config = {.size = sizeof config, .backend = now_backend, .files = 5, .aio = &aio};
  EQUAL(becket_loop_init(&loop, &memory, &config), -EINVAL);
  becket_memory small = memory;
  small.block_size -= 1;
  config.files = now_files;
  EQUAL(becket_loop_init(&loop, &small, &config), -ENOBUFS);

  /* Without a place for any. */
  char byte;
  EQUAL(becket_loop_init(&loop, &no_operations, &config), 0);
  EQUAL(becket_op_recv(loop, 0, &byte, 1, 0, NULL, NULL, NULL), -EAGAIN);
  EQUAL(becket_loop_drain(loop, 0), 0);
  CHECK(strcmp(becket_files_name(loop), "none") == 0);
  EQUAL(becket_loop_close(loop), 0);

  /* The best there is, and its reason. */
  config.files = BECKET_FILES_AUTO;
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(becket_files_name(loop)[0] != '\0' && becket_files_note(loop)[0] != '\0');
  EQUAL(becket_loop_close(loop), 0);

  /* Memory that holds anything but zeros is as good; and handles of the loop before are stale. */
  static uint64_t block[sizeof memory_block / 8];
  memset(block, 0xa5, sizeof block);
  becket_memory dirty = memory;
  dirty.block = block;
  config.files = now_files;
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  becket_handle before = 0;
  for (int round = 0; round < 3; round++) {
    EQUAL(becket_loop_init(&loop, &dirty, &config), 0);
    if (before != 0) EQUAL(becket_op_cancel(loop, before), -ESTALE);
    struct result results[OPERATIONS];
    for (int i = 0; i < OPERATIONS; i++) {
      results[i] = (struct result){0};
      EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, on_complete, &results[i], &results[i].handle), 0);
      CHECK(results[i].handle != before);
    }
    EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, on_complete, NULL, NULL), -EAGAIN);
    before = results[0].handle;
    EQUAL(becket_loop_drain(loop, GUARD), 0);
    for (int i = 0; i < OPERATIONS; i++) EQUAL(results[i].value, -ECANCELED);
    close_loop(loop);
  }
  close(fds[0]);
  close(fds[1]);
}

/* ------------------------------------------------------------------------------------------------ the pull form */

static void pulled(void) {
  becket_loop *loop = NULL;
  becket_config config = {.size = sizeof config, .backend = now_backend, .files = now_files, .aio = &aio};
  EQUAL(becket_loop_init(&loop, &one_operation, &config), 0);
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  char byte;
  for (int round = 0; round < 3; round++) {
    struct result result = {0};
    EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, on_complete, &result, &result.handle), 0);
    EQUAL(becket_poll(loop, 0), 0);
    EQUAL(write(fds[1], "x", 1), 1);
    while (becket_poll(loop, GUARD) == 0) continue;
    becket_event event;
    EQUAL(becket_next(loop, BECKET_KIND_ALL & ~BECKET_KIND_OPERATION, &event), 0);
    EQUAL(becket_next(loop, BECKET_KIND_OPERATION, &event), 1);
    CHECK(event.handle == result.handle && event.value == 1 && event.user == &result && event.fd == fds[0]);
    EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 0);
    /* Its place is free, and its handler known as long as that is so. */
    EQUAL(statistics_of(loop).operations_now, 0);
    EQUAL(becket_dispatch(loop, &event), 0);
    EQUAL(result.count, 1);
    struct result next = {0};
    EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, on_complete, &next, &next.handle), 0);
    EQUAL(becket_dispatch(loop, &event), -ESTALE);
    EQUAL(becket_loop_drain(loop, GUARD), 0);
    EQUAL(next.value, -ECANCELED);
  }
  close(fds[0]);
  close(fds[1]);
  close_loop(loop);
}

/* ------------------------------------------------------------------------------------------------ other processes, threads */

static int is_aio(void) { return now_files == BECKET_FILES_AIO || now_files == BECKET_FILES_AIO_SIGNAL; }

static void forked(void) {
  becket_loop *loop = open_loop();
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  char byte = 0;
  struct result result = {0};
  EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, on_complete, &result, &result.handle), 0);
  EQUAL(becket_turn(loop, 0), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char other;
    EQUAL(becket_op_recv(loop, fds[0], &other, 1, 0, on_complete, &result, NULL), -ECHILD);
    EQUAL(becket_op_cancel(loop, result.handle), -ECHILD);
    EQUAL(becket_op_deadline(loop, result.handle, 0), -ECHILD);
    EQUAL(becket_loop_drain(loop, 0), -ECHILD);
    CHECK(becket_files_name(loop) == NULL);
    /* It gives up its copies, and has a loop of its own there. */
    EQUAL(becket_loop_close(loop), 0);
    /* The C library's threads for AIO are the parent's. (It has had some by now.) */
    becket_loop *own = NULL;
    becket_config config = {.size = sizeof config, .backend = now_backend, .files = now_files, .aio = &aio};
    if (is_aio()) EQUAL(becket_loop_init(&own, &memory, &config), -ECHILD);
    if (is_aio()) now_files = BECKET_FILES_NONE;
    own = open_loop();
    CHECK(own == loop);
    EQUAL(becket_op_cancel(own, result.handle), -ESTALE);
    struct result mine = {0};
    EQUAL(becket_op_recv(own, fds[1], &other, 1, 0, on_complete, &mine, &mine.handle), 0);
    EQUAL(becket_loop_drain(own, GUARD), 0);
    EQUAL(mine.value, -ECANCELED);
    close_loop(own);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  EQUAL(status, 0);
  /* The parent's is as it was. */
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(write(fds[1], "y", 1), 1);
  finish(loop, &result);
  CHECK(result.value == 1 && byte == 'y');
  close(fds[0]);
  close(fds[1]);
  close_loop(loop);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int thread_fds[2];
static char thread_bytes[2];
static struct result thread_results[1 + 8];

static void *submitter(void *of) {
  becket_loop *loop = of;
  pthread_mutex_lock(&lock);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  CHECK(file >= 0);
  struct result *results = thread_results;
  EQUAL(becket_op_recv(loop, thread_fds[0], &thread_bytes[0], 1, 0, on_complete, &results[0], NULL), 0);
  if (now_files == BECKET_FILES_NONE) {
    EQUAL(becket_op_close(loop, file, on_complete, &results[1], NULL), 0);
    thread_bytes[1] = 'f';
  } else {
    EQUAL(becket_op_read(loop, file, &thread_bytes[1], 1, 0, on_complete, &results[1], NULL), 0);
  }
  EQUAL(write(thread_fds[1], "z", 1), 1);
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* The owner sleeps without the lock, and is woken by what another thread submits. */
static void another_thread_submits(void) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  EQUAL(write(file, "f", 1), 1);
  close(file);
  becket_loop *loop = open_loop();
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, thread_fds) == 0);
  memset(thread_results, 0, sizeof thread_results);
  pthread_t thread;
  pthread_mutex_lock(&lock);
  EQUAL(becket_turn(loop, 0), 0); /* the loop is this thread's */
  int started = 0;
  while (thread_results[0].count == 0 || thread_results[1].count == 0) {
    EQUAL(becket_prepare(loop, GUARD), 0);
    if (!started++) CHECK(pthread_create(&thread, NULL, submitter, loop) == 0);
    pthread_mutex_unlock(&lock);
    EQUAL(becket_wait(loop), 0);
    pthread_mutex_lock(&lock);
    CHECK(becket_collect(loop) >= 0);
    becket_event event;
    while (becket_next(loop, BECKET_KIND_ALL, &event) == 1) EQUAL(becket_dispatch(loop, &event), 0);
  }
  pthread_mutex_unlock(&lock);
  CHECK(pthread_join(thread, NULL) == 0);
  EQUAL(thread_results[0].value, 1);
  EQUAL(thread_results[1].value, now_files == BECKET_FILES_NONE ? 0 : 1);
  CHECK(thread_bytes[0] == 'z' && thread_bytes[1] == 'f');
  close(thread_fds[0]);
  close(thread_fds[1]);
  close_loop(loop);
}

/* Another thread cannot cancel the poll of a source where the ring is full, so that all polls end and are made anew: the poll of
 * an operation was taken for its end. */
enum { ENTRIES = 8 };
static BECKET_RING(small_ring, ENTRIES);
static BECKET_MEMORY(more_operations, 4, 0, 1 + ENTRIES);
static becket_handle thread_source;
static int thread_pairs[1 + ENTRIES][2];

static void *filler(void *of) {
  becket_loop *loop = of;
  for (int i = 1; i <= ENTRIES; i++) {
    EQUAL(becket_op_recv(loop, thread_pairs[i][0], &thread_bytes[0], 1, 0, on_complete, &thread_results[i], NULL), 0);
  }
  EQUAL(becket_remove(loop, thread_source), 0);
  return NULL;
}

static void polls_are_made_anew(void) {
  becket_loop *loop = NULL;
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_IO_URING, .ring = &small_ring};
  EQUAL(becket_loop_init(&loop, &more_operations, &config), 0);
  memset(thread_results, 0, sizeof thread_results);
  for (int i = 0; i <= ENTRIES; i++) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, thread_pairs[i]) == 0);
  }
  /* Asked for errors beside data, it is one that the kernel does not wait with. */
  int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  CHECK(bind(sock, (struct sockaddr *)&address, length) == 0);
  CHECK(getsockname(sock, (struct sockaddr *)&address, &length) == 0);
  EQUAL(sendto(sock, "data", 4, 0, (struct sockaddr *)&address, length), 4);
  struct msghdr message = {0};
  struct result *result = &thread_results[0];
  EQUAL(becket_op_recvmsg(loop, sock, &message, MSG_ERRQUEUE, on_complete, result, &result->handle), 0);
  EQUAL(becket_io_add(loop, thread_pairs[0][0], BECKET_READABLE, on_complete, NULL, &thread_source), 0);
  for (int turn = 0; turn < 10; turn++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) >= 0);

  pthread_t thread;
  EQUAL(becket_prepare(loop, (int64_t)MILLISECOND), 0);
  CHECK(pthread_create(&thread, NULL, filler, loop) == 0 && pthread_join(thread, NULL) == 0);
  EQUAL(becket_wait(loop), 0);
  CHECK(becket_collect(loop) >= 0);
  for (int turn = 0; turn < 10; turn++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) >= 0);
  for (int i = 0; i <= ENTRIES; i++) EQUAL(thread_results[i].count, 0);
  EQUAL(becket_loop_drain(loop, GUARD), 0);
  for (int i = 0; i <= ENTRIES; i++) {
    EQUAL(thread_results[i].value, -ECANCELED);
    close(thread_pairs[i][0]);
    close(thread_pairs[i][1]);
  }
  close(sock);
  close_loop(loop);
}

/* Whether the library was built with POSIX AIO. */
static int have_aio(void) {
  becket_loop *loop = NULL;
  becket_config config = {.size = sizeof config, .files = now_files, .aio = &aio};
  int code = becket_loop_init(&loop, &one_operation, &config);
  if (code == 0) EQUAL(becket_loop_close(loop), 0);
  return code != -ENOTSUP;
}

/* What is watched for an operation stands behind the places of sources, and those that were never used are of zeros: of fd 0,
 * which has hung up. */
static void what_was_never_used_is_not_watched(void) {
  memset(memory.block, 0, memory.block_size);
  int fds[2], hung[2], before = fcntl(0, F_DUPFD_CLOEXEC, 0);
  EQUAL(pipe2(hung, O_CLOEXEC), 0);
  EQUAL(dup2(hung[0], 0), 0);
  close(hung[0]);
  close(hung[1]);
  EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
  becket_loop *loop;
  becket_config config = {.size = sizeof config, .backend = now_backend, .flags = BECKET_VIRTUAL_CLOCK, .files = BECKET_FILES_NONE};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  char byte;
  becket_handle handle;
  EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, NULL, NULL, &handle), 0);
  uint64_t start = becket_now(loop);
  EQUAL(becket_turn(loop, (int64_t)SECOND), 0);
  EQUAL(becket_now(loop) - start, SECOND);
  EQUAL(becket_op_cancel(loop, handle), 0);
  EQUAL(becket_turn(loop, GUARD), 1);
  EQUAL(becket_loop_close(loop), 0);
  close(fds[0]);
  close(fds[1]);
  close(0);
  if (before >= 0) {
    EQUAL(dup2(before, 0), 0);
    close(before);
  }
}

static void on_hook(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop, (void)user;
  EQUAL(event->kind, BECKET_KIND_AFTER);
}

/* poll(2) refuses more fds than RLIMIT_NOFILE: what has completed is told nevertheless, and the refusal when there is nothing else. */
static void a_wait_that_fails_hides_nothing(void) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  becket_loop *loop = open_loop();
  char byte;
  struct rlimit limit;
  EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
  done = (struct result){0};
  EQUAL(becket_op_read(loop, fd, &byte, 1, 0, on_complete, &done, &done.handle), 0); /* the ring refuses it at once */
  EQUAL(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, limit.rlim_max}), 0);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_turn(loop, 0), now_backend == BECKET_BACKEND_POLL ? -EINVAL : 0);
  /* After-wait events come whatever the wait was: they do not hide it, and come the next time. */
  becket_handle hook;
  EQUAL(becket_after_add(loop, on_hook, NULL, &hook), 0);
  EQUAL(becket_hook_enable(loop, hook, 1), 0);
  EQUAL(becket_turn(loop, 0), now_backend == BECKET_BACKEND_POLL ? -EINVAL : 1);
  EQUAL(becket_turn(loop, 0), 1);
  EQUAL(becket_poll(loop, 0), now_backend == BECKET_BACKEND_POLL ? -EINVAL : 1);
  becket_event event;
  EQUAL(becket_next(loop, BECKET_KIND_ALL, &event), 1);
  EQUAL(event.kind, BECKET_KIND_AFTER);
  EQUAL(becket_remove(loop, hook), 0);
  EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EQUAL(done.count, 1);
  EQUAL(done.value, -EBADF);
  close_loop(loop);
  close(fd);
}

int main(void) {
  CHECK(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/file", folder);
  static const uint32_t files[] = {BECKET_FILES_IO_URING, BECKET_FILES_AIO, BECKET_FILES_AIO_SIGNAL, BECKET_FILES_NONE};
  for (now_backend = BECKET_BACKEND_SELECT; now_backend != 0; now_backend = next_backend(now_backend)) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
      if (files[i] == BECKET_FILES_IO_URING && !have_io_uring()) continue;
      now_files = files[i];
      if (is_aio() && !have_aio()) continue;
      if (now_files == BECKET_FILES_AIO_SIGNAL && !aio_can_signal()) continue;
      files_of_all_sorts();
      sockets_of_all_sorts();
      a_connect_waits_for_its_turn();
      a_blocking_terminal_is_not_waited_for();
      a_blocking_counter_is_not_waited_for();
      a_counter_without_room_is_left_alone(0);
      a_counter_without_room_is_left_alone(EFD_NONBLOCK);
      a_rest_is_of_real_time();
      a_wait_for_an_error_sleeps();
      a_read_of_nothing_does_not_wait();
      if (now_files == BECKET_FILES_IO_URING) a_wait_that_fails_hides_nothing();
      misuse();
      memory_and_configuration();
      pulled();
      forked();
      another_thread_submits();
      what_was_never_used_is_not_watched();
    }
  }
  if (have_io_uring()) polls_are_made_anew();
  unlink(path);
  CHECK(rmdir(folder) == 0);
  return 0;
}
