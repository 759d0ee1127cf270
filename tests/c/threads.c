/* Another thread changes the loop, under the program's lock, while the thread that owns the loop waits without it: adding,
 * modifying, pausing, removing, closing. Nothing that was removed is told, nothing that is ready is forgotten, and who was
 * closed is closed. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAIRS 40
#define CHANGES 3000

static BECKET_MEMORY(memory, PAIRS + 2, 0, 0);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static becket_config config = {.size = sizeof config};
static becket_loop *loop;
static int stopping;

struct pair {
  int ours, theirs; /* ours is -1 when it is closed */
  becket_handle source;
  uint32_t interest;
  unsigned told; /* events since its state last changed */
} pairs[PAIRS];

static uint32_t random_below(uint32_t bound) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state % bound);
}

static void on_ready(becket_loop *same, const becket_event *event, void *user) {
  struct pair *pair = user;
  CHECK(same == loop && event->handle == pair->source && event->fd == pair->ours);
  CHECK((event->flags & ~pair->interest) == 0);
  pair->told += 1;
}

static void open_pair(struct pair *pair) {
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
  *pair = (struct pair){fds[0], fds[1], 0, BECKET_READABLE, 0};
  EQUAL(becket_io_add(loop, pair->ours, pair->interest, on_ready, pair, &pair->source), 0);
}

static int is_closed(const struct pair *pair) {
  char byte;
  ssize_t count = read(pair->theirs, &byte, 1);
  return count == 0 || (count < 0 && errno == ECONNRESET); /* the latter when something was left unread */
}

/* One change, with the lock held. */
static void change(struct pair *pair) {
  static const uint32_t interests[] = {0, BECKET_READABLE, BECKET_WRITABLE, BECKET_READABLE | BECKET_WRITABLE};
  char bytes[16];
  pair->told = 0;
  if (pair->ours < 0) {
    if (!is_closed(pair)) return; /* from another thread it takes until the owner has woken */
    close(pair->theirs);
    open_pair(pair);
    return;
  }
  switch (random_below(6)) {
  case 0: CHECK(write(pair->theirs, "x", 1) == 1); break;
  case 1:
    while (read(pair->ours, bytes, sizeof bytes) > 0) continue;
    break;
  case 2:
  case 3:
    pair->interest = interests[random_below(4)];
    EQUAL(becket_io_modify(loop, pair->source, pair->interest), 0);
    break;
  case 4:
    EQUAL(becket_remove(loop, pair->source), 0);
    EQUAL(becket_io_add(loop, pair->ours, pair->interest, on_ready, pair, &pair->source), 0);
    break;
  default:
    EQUAL(becket_io_close(loop, pair->source), 0);
    pair->source = 0;
    pair->ours = -1;
  }
}

static void *change_all(void *unused) {
  for (int i = 0; i < CHANGES; i++) {
    CHECK(pthread_mutex_lock(&lock) == 0);
    for (uint32_t count = 1 + random_below(4); count > 0; count--) change(&pairs[random_below(PAIRS)]);
    CHECK(pthread_mutex_unlock(&lock) == 0);
    if (i % 64 == 0) usleep(200);
  }
  CHECK(pthread_mutex_lock(&lock) == 0);
  EQUAL(becket_loop_close(loop), -EBUSY); /* its owner waits */
  stopping = 1;
  EQUAL(becket_stop(loop), 0);
  CHECK(pthread_mutex_unlock(&lock) == 0);
  return unused;
}

/* A turn of the owner's; the lock is free only while it waits. */
static void turn(int64_t timeout) {
  becket_event event;
  EQUAL(becket_prepare(loop, timeout), 0);
  CHECK(pthread_mutex_unlock(&lock) == 0);
  EQUAL(becket_wait(loop), 0);
  CHECK(pthread_mutex_lock(&lock) == 0);
  CHECK(becket_collect(loop) >= 0);
  while (becket_next(loop, BECKET_KIND_ALL, &event) == 1) EQUAL(becket_dispatch(loop, &event), 0);
}

int main(void) {
  alarm(120); /* a hang is a failure */
  for (config.backend = next_backend(0); config.backend != 0; config.backend = next_backend(config.backend)) {
    check_context = backend_name(config.backend);
    EQUAL(becket_loop_init(&loop, &memory, &config), 0);
    for (int i = 0; i < PAIRS; i++) open_pair(&pairs[i]);
    stopping = 0;
    pthread_t thread;
    CHECK(pthread_mutex_lock(&lock) == 0);
    CHECK(pthread_create(&thread, NULL, change_all, NULL) == 0);
    while (!stopping) turn(-1);
    CHECK(pthread_mutex_unlock(&lock) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_mutex_lock(&lock) == 0);

    /* Now nobody disturbs: every source tells what it is, in every turn. */
    turn(0);
    for (int i = 0; i < PAIRS; i++) pairs[i].told = 0;
    for (int i = 0; i < 3; i++) turn(0);
    for (int i = 0; i < PAIRS; i++) {
      struct pair *pair = &pairs[i];
      char byte;
      if (pair->ours < 0) {
        CHECK(is_closed(pair));
        continue;
      }
      uint32_t ready = BECKET_WRITABLE | (recv(pair->ours, &byte, 1, MSG_PEEK) == 1 ? BECKET_READABLE : 0);
      EQUAL(pair->told, (ready & pair->interest) != 0 ? 3 : 0);
      EQUAL(becket_io_close(loop, pair->source), 0);
      CHECK(is_closed(pair)); /* in the owner's thread, at once */
    }
    for (int i = 0; i < PAIRS; i++) close(pairs[i].theirs);
    CHECK(pthread_mutex_unlock(&lock) == 0);
    EQUAL(becket_prepare(loop, 0), 0);
    EQUAL(becket_loop_close(loop), 0); /* in the owner's thread, whatever it is about to do */
  }
  return 0;
}
