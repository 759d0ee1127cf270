/* simulate: a handler is tested in a thousand worlds in which everything goes wrong, and every failure can be replayed.
 *
 * The handler answers in upper case. It reads and writes through a table of calls: the system's, or a simulator's. So the
 * same code runs on a real connection, once (--backend is for that), and then in simulated ones: with partial reads and writes, spurious and late
 * readiness, EINTR, EAGAIN, connections that break off. What a world does follows from its seed; a seed that finds a
 * mistake finds it again. --bug makes a common one: what a partial write has left is forgotten. */
#define _POSIX_C_SOURCE 200809L
#define PROGRAM "simulate"
#define USAGE "usage: simulate [--backend auto|select|poll|epoll|uring] [--runs NUMBER] [--seed NUMBER] [--bug]\n"
#include "example.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define TEXT 1000 /* bytes that are sent */

static BECKET_MEMORY(memory, 4, 0, 0);
static BECKET_SIMULATOR(world, 4, 16); /* 4 descriptors, 16 things that are to happen */
static becket_simulator *simulator;
static int bug;

/* ---- The calls of a handler, in two worlds. Errors are negative, as becket's are. ---- */

struct calls {
  int64_t (*read)(int fd, void *buffer, size_t length);
  int64_t (*write)(int fd, const void *buffer, size_t length);
};

static int64_t real_read(int fd, void *buffer, size_t length) {
  ssize_t count = read(fd, buffer, length);
  return count < 0 ? -errno : count;
}

static int64_t real_write(int fd, const void *buffer, size_t length) {
  ssize_t count = send(fd, buffer, length, MSG_NOSIGNAL);
  return count < 0 ? -errno : count;
}

static int64_t simulated_read(int fd, void *buffer, size_t length) {
  return becket_sim_read(simulator, fd, buffer, length);
}

static int64_t simulated_write(int fd, const void *buffer, size_t length) {
  return becket_sim_write(simulator, fd, buffer, length);
}

static const struct calls real = {real_read, real_write}, simulated = {simulated_read, simulated_write}, *calls;

/* Not now, but later: the loop will tell. */
static int is_later(int64_t count) {
  return count == -EAGAIN || count == -EINTR || count == -ENOMEM;
}

/* Removes a source and closes its descriptor. That is gone whatever close(2) says, even -EINTR or -ENOSPC. */
static void drop(becket_loop *loop, becket_handle handle) {
  int rc = becket_io_close(loop, handle);
  if (rc == -ESTALE || rc == -EBADF) exit(fail("close", rc));
}

/* ---- The handler under test ---- */

struct server {
  size_t next, end; /* of what is to be written */
  char buffer[48];
};

static void on_server(becket_loop *loop, const becket_event *event, void *user) {
  struct server *server = user;
  if (server->next == server->end) {
    int64_t count = calls->read(event->fd, server->buffer, sizeof server->buffer);
    if (is_later(count)) return;
    if (count <= 0) {
      drop(loop, event->handle); /* the end, or an error that is one */
      return;
    }
    server->next = 0;
    server->end = (size_t)count;
    for (size_t i = 0; i < server->end; i++) server->buffer[i] = (char)toupper((unsigned char)server->buffer[i]);
  }
  int64_t count = calls->write(event->fd, server->buffer + server->next, server->end - server->next);
  if (count < 0 && !is_later(count)) {
    drop(loop, event->handle);
    return;
  }
  if (count > 0) server->next = bug ? server->end : server->next + (size_t)count;
  int all = server->next == server->end;
  must("modify", becket_io_modify(loop, event->handle, all ? BECKET_READABLE : BECKET_WRITABLE));
}

/* ---- Who tests it ---- */

struct client {
  size_t sent, received;
  int wrong;
};

static char letter(size_t place) {
  return (char)('a' + place * place % 26);
}

static void on_client(becket_loop *loop, const becket_event *event, void *user) {
  struct client *client = user;
  char buffer[64];
  int64_t count = calls->read(event->fd, buffer, sizeof buffer);
  int over = count == 0 || (count < 0 && !is_later(count));
  for (int64_t i = 0; i < count; i++)
    client->wrong |= buffer[i] != toupper((unsigned char)letter(client->received++));

  size_t length = 0;
  while (length < sizeof buffer && client->sent + length < TEXT) {
    buffer[length] = letter(client->sent + length);
    length++;
  }
  if (!over && length > 0) {
    count = calls->write(event->fd, buffer, length);
    over = count < 0 && !is_later(count);
    if (count > 0) client->sent += (size_t)count;
  }
  if (over || client->wrong || client->received == TEXT) {
    drop(loop, event->handle);
  } else {
    uint32_t writable = client->sent < TEXT ? BECKET_WRITABLE : 0;
    must("modify", becket_io_modify(loop, event->handle, BECKET_READABLE | writable));
  }
}

/* Both on the two ends of a connection, until neither is left: how it went. */
static int test(becket_config *config, int fds[2], struct client *client) {
  struct server server = {.next = 0};
  becket_loop *loop;
  becket_handle handle;
  must("init", becket_loop_init(&loop, &memory, config));
  must("server", becket_io_add(loop, fds[0], BECKET_READABLE, on_server, &server, &handle));
  must("client", becket_io_add(loop, fds[1], BECKET_READABLE | BECKET_WRITABLE, on_client, client, &handle));
  if (simulator != NULL) {
    must("faults", becket_sim_all_faults(simulator, 1000, MILLISECOND)); /* each once in 1000 */
    must("faults", becket_sim_fault(simulator, BECKET_SIM_WAIT, ENOMEM, 0)); /* which would end becket_run */
    must("partial", becket_sim_quirk(simulator, BECKET_SIM_PARTIAL, 200000, 0));
  }
  int rc = becket_run(loop); /* -EDEADLK: both sides wait for something that never comes */
  must("loop", becket_loop_close(loop));
  return rc;
}

int main(int argc, char **argv) {
  unsigned long runs = 1000, seed = 1;
  becket_config config = {.size = sizeof config}, in_world = config;
  for (int i = 1; i < argc; i++) {
    bug |= strcmp(argv[i], "--bug") == 0;
    if (strcmp(argv[i], "--bug") != 0 && !backend_option(argv, &i, &config) &&
        !number_option(argv, &i, "--runs", 999999999, &runs) && !number_option(argv, &i, "--seed", 999999999, &seed))
      return usage(strcmp(argv[i], "--help") == 0);
  }

  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) return fail("socketpair", -errno);
  for (int i = 0; i < 2; i++)
    if (fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0) return fail("fcntl", -errno);
  struct client client = {.sent = 0};
  calls = &real;
  must("run", test(&config, fds, &client));
  if (client.wrong || client.received != TEXT) return fail("on a real connection", -EIO);
  say("on a real connection: %d bytes", TEXT);

  calls = &simulated;
  unsigned long complete = 0;
  for (unsigned long run = 0; run < runs; run++, seed++) {
    must("simulator", becket_simulator_init(&simulator, &world, seed));
    must("pair", becket_sim_pair(simulator, fds));
    in_world.simulator = simulator;
    client = (struct client){.sent = 0};
    int rc = test(&in_world, fds, &client);
    const char *what = client.wrong ? "a wrong byte" : rc < 0 ? becket_strerror(rc) : NULL;
    if (what == NULL && becket_sim_open_fds(simulator) != 0) what = "a descriptor was left open";
    if (what != NULL) {
      say("after %d of %d bytes: %s; again by --runs 1 --seed %lu%s", (int)client.received, TEXT, what, seed,
          bug ? " --bug" : "");
      return EXIT_FAILURE;
    }
    complete += client.received == TEXT;
  }
  say("in %lu simulated ones: %lu complete, %lu broken off, nothing wrong", runs, complete, runs - complete);
  return EXIT_SUCCESS;
}
