/* Listeners from C: ten thousand connections of which nothing is left, no descriptors, a full table, sockets of others, addresses
 * of all sorts, and what misuse answers. */
#define _GNU_SOURCE
#include "check.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static BECKET_MEMORY(memory, 8, 4, 0);
static BECKET_MEMORY(small, 3, 0, 0);

static uint32_t now_backend;

static becket_loop *open_loop(const becket_memory *in) {
  becket_loop *loop = NULL;
  becket_config config = {.size = sizeof config, .backend = now_backend};
  EQUAL(becket_loop_init(&loop, in, &config), 0);
  return loop;
}

/* What has come: connections, and what was told of a pause. */
struct seen {
  int connections, pauses, error;
  int keep; /* fds are not closed */
  int last;
};

static void on_connection(becket_loop *loop, const becket_event *event, void *user) {
  struct seen *seen = user;
  EQUAL(event->kind, BECKET_KIND_LISTENER);
  EQUAL(event->fd, becket_listener_fd(loop, event->handle));
  if (event->value < 0) {
    EQUAL(event->flags, BECKET_PAUSED);
    seen->pauses++;
    seen->error = (int)event->value;
    return;
  }
  EQUAL(event->flags, 0);
  seen->connections++;
  seen->last = (int)event->value;
  EQUAL(fcntl(seen->last, F_GETFD), FD_CLOEXEC);
  CHECK(fcntl(seen->last, F_GETFL) & O_NONBLOCK);
  if (!seen->keep) EQUAL(close(seen->last), 0);
}

static void wait_for(becket_loop *loop, const int *count, int wanted) {
  while (*count < wanted) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(*count, wanted);
}

static int open_fds(void) {
  DIR *folder = opendir("/proc/self/fd");
  CHECK(folder != NULL);
  int count = 0;
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

/* A connection to a listener, which leaves no trace in the kernel when it is closed. */
static int connect_to(becket_loop *loop, becket_handle listener) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  EQUAL(becket_listener_address(loop, listener, (struct sockaddr *)&storage, &length), 0);
  int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  CHECK(connect(fd, (struct sockaddr *)&storage, length) == 0);
  const struct linger none = {.l_onoff = 1, .l_linger = 0};
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0);
  return fd;
}

static becket_handle listen_at(becket_loop *loop, const char *address, struct seen *seen) {
  becket_handle listener = 0;
  EQUAL(becket_listen(loop, address, NULL, on_connection, seen, &listener), 0);
  return listener;
}

static void ten_thousand(void) {
  enum { AT_ONCE = 50 };
  const int rounds = getenv("TEST_UNDER_VALGRIND") != NULL ? 4 : 200;
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {0};
  becket_handle listener = listen_at(loop, "127.0.0.1:0", &seen);
  int before = open_fds();
  for (int round = 0; round < rounds; round++) {
    int clients[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) clients[i] = connect_to(loop, listener);
    wait_for(loop, &seen.connections, (round + 1) * AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++) close(clients[i]);
  }
  EQUAL(open_fds(), before);
  EQUAL(seen.pauses, 0);
  becket_statistics statistics = statistics_of(loop);
  EQUAL(statistics.sources, 1);
  EQUAL(statistics.events_listener, rounds * AT_ONCE);
  EQUAL(statistics.stale_dropped, 0);
  EQUAL(becket_loop_close(loop), 0);
  CHECK(open_fds() < before); /* the listener itself, and what the loop has */
}

static int64_t now_ns(clockid_t clock) {
  struct timespec time;
  CHECK(clock_gettime(clock, &time) == 0);
  return (int64_t)time.tv_sec * (int64_t)SECOND + time.tv_nsec;
}

/* Without descriptors: told once, hardly any time spent, and over when there are some. (valgrind keeps to the limit by itself: it
 * accepts the connection, closes it, and says that it could not.) */
static void no_descriptors(void) {
  if (getenv("TEST_UNDER_VALGRIND") != NULL) return;
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {0};
  becket_handle listener = listen_at(loop, "127.0.0.1:0", &seen);
  int client = connect_to(loop, listener);
  struct rlimit limit, lower;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  lower = limit;
  lower.rlim_cur = 64;
  CHECK(setrlimit(RLIMIT_NOFILE, &lower) == 0);
  int files[64], count = 0;
  while (count < 64 && (files[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) count++;
  CHECK(count > 0 && errno == EMFILE);
  const int64_t begin = now_ns(CLOCK_MONOTONIC), span = 400 * (int64_t)MILLISECOND;
  const int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  const uint64_t turns = statistics_of(loop).turns;
  int64_t left;
  while ((left = begin + span - now_ns(CLOCK_MONOTONIC)) > 0) CHECK(becket_turn(loop, left) >= 0);
  EQUAL(seen.pauses, 1);
  EQUAL(seen.error, -EMFILE);
  EQUAL(seen.connections, 0);
  /* 10, 30, 70, 150, 310 ms, two turns each. */
  CHECK(statistics_of(loop).turns - turns <= 20);
  CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < span / 2);
  while (count > 0) close(files[--count]);
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  wait_for(loop, &seen.connections, 1);
  EQUAL(becket_listener_paused(loop, listener), 0);
  EQUAL(seen.pauses, 1);
  close(client);
  EQUAL(becket_loop_close(loop), 0);
}

/* No connection is accepted that has no place; when a source goes, it comes. */
static void full_table(void) {
  becket_loop *loop = open_loop(&small);
  struct seen seen = {0};
  becket_handle listener = listen_at(loop, "127.0.0.1:0", &seen), places[2];
  for (int i = 0; i < 2; i++) EQUAL(becket_wake_add(loop, NULL, NULL, &places[i]), 0);
  int clients[2] = {connect_to(loop, listener), connect_to(loop, listener)};
  wait_for(loop, &seen.pauses, 1);
  EQUAL(seen.error, -ENOSPC);
  for (int i = 0; i < 10; i++) EQUAL(becket_turn(loop, (int64_t)MILLISECOND), 0);
  EQUAL(becket_remove(loop, places[0]), 0);
  wait_for(loop, &seen.connections, 2);
  EQUAL(becket_listener_close(loop, listener), 0);
  /* Unless the program says that it needs none. */
  const becket_listen_options any = {.size = sizeof any, .flags = BECKET_LISTEN_WITHOUT_PLACE};
  EQUAL(becket_listen(loop, "127.0.0.1:0", &any, on_connection, &seen, &listener), 0);
  EQUAL(becket_wake_add(loop, NULL, NULL, &places[0]), 0);
  int another = connect_to(loop, listener);
  wait_for(loop, &seen.connections, 3);
  EQUAL(seen.pauses, 1);
  close(clients[0]), close(clients[1]), close(another);
  EQUAL(becket_loop_close(loop), 0);
}

static void paused(void) {
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {0};
  becket_handle listener = listen_at(loop, "127.0.0.1:0", &seen);
  EQUAL(becket_listener_pause(loop, listener), 0);
  EQUAL(becket_listener_paused(loop, listener), 1);
  int client = connect_to(loop, listener);
  EQUAL(becket_turn(loop, (int64_t)MILLISECOND), 0);
  EQUAL(becket_run(loop), 0); /* nothing keeps it alive */
  EQUAL(becket_listener_resume(loop, listener), 0);
  EQUAL(becket_listener_paused(loop, listener), 0);
  wait_for(loop, &seen.connections, 1);
  close(client);
  /* Triggered: there is no connection. */
  EQUAL(becket_trigger(loop, listener, 0), 0);
  EQUAL(becket_poll(loop, 0), 1);
  becket_event event;
  EQUAL(becket_next(loop, BECKET_KIND_LISTENER, &event), 1);
  EQUAL(event.value, -EAGAIN);
  EQUAL(event.flags, BECKET_TRIGGERED);
  EQUAL(becket_loop_close(loop), 0);
}

/* A child takes over a socket that listens already, as from a parent that was given it by systemd. */
static void inherited(void) {
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {0};
  becket_handle listener = listen_at(loop, "127.0.0.1:0", &seen), second = 0;
  int fd = becket_listener_fd(loop, listener);
  EQUAL(becket_listen_fd(loop, fd, NULL, on_connection, &seen, &second), -EEXIST);
  EQUAL(becket_remove(loop, listener), 0);
  CHECK(fcntl(fd, F_SETFL, 0) == 0); /* it may block */
  int child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    int at = dup2(fd, 60);
    CHECK(at == 60);
    becket_loop *own = open_loop(&small);
    struct seen got = {0};
    EQUAL(becket_listen_fd(own, at, NULL, on_connection, &got, &second), 0);
    CHECK(fcntl(at, F_GETFL) & O_NONBLOCK);
    wait_for(own, &got.connections, 1);
    EQUAL(becket_loop_close(own), 0);
    CHECK(fcntl(at, F_GETFD) >= 0); /* it stays the program's */
    _exit(0);
  }
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  CHECK(getsockname(fd, (struct sockaddr *)&storage, &length) == 0);
  int client = socket(AF_INET, SOCK_STREAM, 0), status = 0;
  CHECK(client >= 0 && connect(client, (struct sockaddr *)&storage, length) == 0);
  CHECK(waitpid(child, &status, 0) == child);
  EQUAL(status, 0);
  close(client);
  /* What does not listen. */
  int other = socket(AF_INET, SOCK_STREAM, 0), pipes[2];
  CHECK(other >= 0 && pipe(pipes) == 0);
  EQUAL(becket_listen_fd(loop, other, NULL, on_connection, &seen, &second), -EINVAL);
  EQUAL(becket_listen_fd(loop, pipes[0], NULL, on_connection, &seen, &second), -ENOTSOCK);
  EQUAL(becket_listen_fd(loop, -1, NULL, on_connection, &seen, &second), -EBADF);
  EQUAL(second, 0);
  CHECK((fcntl(other, F_GETFL) & O_NONBLOCK) == 0);
  close(other), close(pipes[0]), close(pipes[1]), close(fd);
  EQUAL(becket_loop_close(loop), 0);
}

static void shared_port(void) {
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {0};
  const becket_listen_options shared = {.size = sizeof shared, .flags = BECKET_LISTEN_REUSE_PORT, .backlog = 16};
  becket_handle listeners[2] = {0};
  char text[BECKET_ADDRESS_TEXT_BYTES];
  EQUAL(becket_listen(loop, "127.0.0.1:0", &shared, on_connection, &seen, &listeners[0]), 0);
  int length = becket_listener_text(loop, listeners[0], text, sizeof text);
  EQUAL(length, strlen(text));
  EQUAL(becket_listen(loop, text, NULL, on_connection, &seen, &listeners[1]), -EADDRINUSE);
  EQUAL(becket_listen(loop, text, &shared, on_connection, &seen, &listeners[1]), 0);
  int clients[8];
  for (int i = 0; i < 8; i++) clients[i] = connect_to(loop, listeners[0]);
  wait_for(loop, &seen.connections, 8);
  for (int i = 0; i < 8; i++) close(clients[i]);
  EQUAL(becket_loop_close(loop), 0);
}

static void unix_sockets(void) {
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {0};
  char folder[] = "/tmp/becket-listener-XXXXXX", path[64], text[80], got[BECKET_ADDRESS_TEXT_BYTES];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/socket", folder);
  snprintf(text, sizeof text, "unix:%s", path);
  becket_handle listener = listen_at(loop, text, &seen), second = 0;
  EQUAL(becket_listener_text(loop, listener, got, sizeof got), strlen(text));
  CHECK(strcmp(got, text) == 0);
  int client = connect_to(loop, listener);
  wait_for(loop, &seen.connections, 1);
  close(client);
  /* A file that is there stays, but where nobody listens and the program says so. */
  const becket_listen_options replace = {.size = sizeof replace, .flags = BECKET_LISTEN_REPLACE | BECKET_LISTEN_UNLINK};
  EQUAL(becket_listen(loop, text, &replace, on_connection, &seen, &second), -EADDRINUSE);
  EQUAL(becket_listener_close(loop, listener), 0);
  CHECK(access(path, F_OK) == 0);
  EQUAL(becket_listen(loop, text, NULL, on_connection, &seen, &second), -EADDRINUSE);
  EQUAL(becket_listen(loop, text, &replace, on_connection, &seen, &second), 0);
  seen.connections = 0;
  client = connect_to(loop, second);
  wait_for(loop, &seen.connections, 1);
  close(client);
  EQUAL(becket_listener_close(loop, second), 0);
  CHECK(access(path, F_OK) != 0);
  CHECK(rmdir(folder) == 0);

  snprintf(text, sizeof text, "unix:@becket-listener-%d", (int)getpid());
  listener = listen_at(loop, text, &seen);
  EQUAL(becket_listener_text(loop, listener, got, sizeof got), strlen(text));
  CHECK(strcmp(got, text) == 0);
  client = connect_to(loop, listener);
  wait_for(loop, &seen.connections, 2);
  close(client);
  EQUAL(becket_loop_close(loop), 0);
}

/* The peer's address, in the handler and after it, as a struct and as text. */
static void peers(void) {
  becket_loop *loop = open_loop(&memory);
  struct seen seen = {.keep = 1};
  becket_handle listener = listen_at(loop, "127.0.0.1:0", &seen);
  int client = connect_to(loop, listener);
  wait_for(loop, &seen.connections, 1);
  struct sockaddr_in own, peer;
  socklen_t length = sizeof own;
  CHECK(getsockname(client, (struct sockaddr *)&own, &length) == 0);
  length = sizeof peer;
  EQUAL(becket_peer_address(loop, seen.last, (struct sockaddr *)&peer, &length), 0);
  EQUAL(length, sizeof peer);
  CHECK(memcmp(&own, &peer, sizeof own) == 0);
  char text[BECKET_ADDRESS_TEXT_BYTES], wanted[BECKET_ADDRESS_TEXT_BYTES];
  int count = becket_address_format((struct sockaddr *)&own, sizeof own, wanted, sizeof wanted);
  EQUAL(count, strlen(wanted));
  EQUAL(becket_peer_text(loop, seen.last, text, sizeof text), strlen(wanted));
  CHECK(strcmp(text, wanted) == 0);
  EQUAL(becket_peer_text(loop, seen.last, text, strlen(wanted)), -ENOSPC);
  /* A short place gets what fits, and how much there is. */
  memset(&peer, 0, sizeof peer);
  length = 2;
  EQUAL(becket_peer_address(loop, seen.last, (struct sockaddr *)&peer, &length), 0);
  EQUAL(length, sizeof peer);
  CHECK(peer.sin_family == AF_INET && peer.sin_port == 0);
  EQUAL(becket_peer_text(loop, becket_listener_fd(loop, listener), text, sizeof text), -ENOTCONN);
  EQUAL(becket_peer_text(loop, -1, text, sizeof text), -EBADF);
  close(seen.last), close(client);
  EQUAL(becket_loop_close(loop), 0);
}

static void addresses(void) {
  struct sockaddr_storage storage;
  struct sockaddr *address = (struct sockaddr *)&storage;
  static const char *const good[] = {"127.0.0.1:80", "0.0.0.0:0", "[::1]:443", "[fe80::1%3]:1", "unix:/run/x", "unix:@x"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    check_context = good[i];
    char text[BECKET_ADDRESS_TEXT_BYTES];
    socklen_t length = sizeof storage;
    EQUAL(becket_address_parse(good[i], address, &length), 0);
    EQUAL(becket_address_format(address, length, text, sizeof text), strlen(good[i]));
    CHECK(strcmp(text, good[i]) == 0);
    EQUAL(becket_address_format(address, length, text, strlen(good[i])), -ENOSPC);
    EQUAL(becket_address_format(address, length, text, 0), -EINVAL);
  }
  static const char *const bad[] = {"", ":", "80", ":65536", ":+1", ":x", "localhost:80", "127.0.0.1", "[::1]", "::1:80",
                                    "unix:", "unix:@", "1.2.3:4", "127.0.0.1:80 "};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    check_context = bad[i];
    socklen_t length = sizeof storage;
    EQUAL(becket_address_parse(bad[i], address, &length), -EINVAL);
    EQUAL(length, sizeof storage);
  }
  check_context = "";
  char text[8], endless[256];
  memset(endless, 'x', sizeof endless); /* without an end */
  socklen_t length = sizeof storage;
  EQUAL(becket_address_parse(endless, address, &length), -EINVAL);
  EQUAL(becket_address_parse(NULL, address, &length), -EINVAL);
  EQUAL(becket_address_parse(":80", NULL, &length), -EINVAL);
  EQUAL(becket_address_parse(":80", address, NULL), -EINVAL);
  memset(&storage, 0, sizeof storage);
  EQUAL(becket_address_format(NULL, sizeof storage, text, sizeof text), -EINVAL);
  EQUAL(becket_address_format(address, sizeof storage, NULL, sizeof text), -EINVAL);
  EQUAL(becket_address_format(address, sizeof storage, text, sizeof text), -EINVAL);
  EQUAL(becket_address_format(address, 0, text, sizeof text), -EINVAL);
  EQUAL(becket_address_format(address, 100000, text, sizeof text), -EINVAL);
  storage.ss_family = AF_INET; /* and shorter than that */
  EQUAL(becket_address_format(address, sizeof(sa_family_t), text, sizeof text), -EINVAL);
}

static void misuse(void) {
  becket_loop *loop = open_loop(&memory);
  becket_handle handle = 0;
  struct sockaddr_storage storage;
  struct sockaddr *address = (struct sockaddr *)&storage;
  socklen_t length = sizeof storage;
  EQUAL(becket_address_parse("127.0.0.1:0", address, &length), 0);
  int before = open_fds();
  EQUAL(becket_listen(loop, NULL, NULL, on_connection, NULL, &handle), -EINVAL);
  EQUAL(becket_listen(loop, ":0", NULL, on_connection, NULL, NULL), -EINVAL);
  EQUAL(becket_listen(loop, "localhost:0", NULL, on_connection, NULL, &handle), -EINVAL);
  EQUAL(becket_listen(loop, "unix:/no/such/folder/x", NULL, on_connection, NULL, &handle), -ENOENT);
  EQUAL(becket_listen_at(loop, NULL, length, NULL, on_connection, NULL, &handle), -EINVAL);
  EQUAL(becket_listen_at(loop, address, 0, NULL, on_connection, NULL, &handle), -EINVAL);
  EQUAL(becket_listen_at(loop, address, 100000, NULL, on_connection, NULL, &handle), -EINVAL);
  EQUAL(becket_listen_at(loop, address, length - 1, NULL, on_connection, NULL, &handle), -EINVAL);
  const becket_listen_options wrong[] = {
      {.size = 1},
      {.size = sizeof *wrong, .flags = 128},
      {.size = sizeof *wrong, .places = 256},
      {.size = sizeof *wrong, .backlog = UINT32_MAX},
      {.size = sizeof *wrong, .flags = BECKET_LISTEN_WITHOUT_PLACE, .places = 1},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    EQUAL(becket_listen(loop, "127.0.0.1:0", &wrong[i], on_connection, NULL, &handle), -EINVAL);
  const becket_listen_options exclusive = {.size = sizeof exclusive, .flags = BECKET_LISTEN_EXCLUSIVE};
  int rc = becket_listen(loop, "127.0.0.1:0", &exclusive, on_connection, NULL, &handle);
  EQUAL(rc, now_backend == BECKET_BACKEND_EPOLL ? 0 : -ENOTSUP);
  if (rc == 0) EQUAL(becket_listener_close(loop, handle), 0);
  handle = 0;
  EQUAL(becket_listen_at(loop, address, length, NULL, on_connection, NULL, &handle), 0);
  EQUAL(becket_listener_address(loop, handle, NULL, &length), -EINVAL);
  EQUAL(becket_listener_address(loop, handle, address, NULL), -EINVAL);
  EQUAL(becket_listener_text(loop, handle, NULL, 10), -EINVAL);
  EQUAL(becket_listener_close(loop, handle), 0);
  EQUAL(open_fds(), before);
  EQUAL(statistics_of(loop).sources, 0);
  EQUAL(becket_loop_close(loop), 0);
}

int main(void) {
  addresses();
  for (now_backend = BECKET_BACKEND_SELECT; now_backend != 0; now_backend = next_backend(now_backend)) {
    check_context = backend_name(now_backend);
    ten_thousand();
    no_descriptors();
    full_table();
    paused();
    inherited();
    shared_port();
    unix_sockets();
    peers();
    misuse();
  }
  return 0;
}
