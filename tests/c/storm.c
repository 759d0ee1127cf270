/* A storm of wakes and stops: four threads, and signals that interrupt them and the loop's own thread, against sources that are
 * removed and made anew meanwhile, on every backend.
 *
 * Nothing is lost: whoever wakes a source has counted that first, and the handler takes the count; when all is over the two are the
 * same. Half of the wakes are waited for, while the loop sleeps without end. A stale handle is ESTALE, and never the new owner of
 * its slot. While the loop is awake no wake makes a system call; asleep, the first one does. Nothing here depends on time: all ends
 * by counts, and a wake that is lost is a hang, which the alarm ends.
 *
 * Linked with interpose_faults.c, which counts the calls. */
#define _GNU_SOURCE
#include "check.h"
#include "interpose_faults.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define SOURCES 8 /* that are woken, and from time to time replaced */
#define TRAPS 4   /* whose handles are stale as soon as anybody has them */
#define SIGNALS 64 /* at least, to the loop's own thread */

static BECKET_MEMORY(memory, SOURCES + TRAPS + 4, 0, 0);
static BECKET_RING(ring, 64);
static becket_loop *loop;
static int rounds = 5000; /* of each thread */

/* A source: `sent` is counted before a wake, `seen` is what the handler has found there. */
struct woken {
  _Atomic becket_handle handle;
  atomic_ulong sent, seen;
  unsigned long events;
};

static struct woken sources[SOURCES], by_signal;
static _Atomic becket_handle stale[TRAPS];
static becket_handle traps[TRAPS];
static atomic_ulong stops_sent, stops_seen, wakes, refused, signals_sent;
static atomic_int running, batch, batch_done;
static pthread_t owner;
static int storm_signal, replacing;
static becket_handle batch_source;

static uint32_t random_below(uint64_t *state, uint32_t bound) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return (uint32_t)((*state >> 16) % bound);
}

/* ------------------------------------------------------------------------------------------------ the loop's side */

static void on_wake(becket_loop *same, const becket_event *event, void *user) {
  struct woken *source = user;
  CHECK(same == loop && event->handle == atomic_load(&source->handle));
  CHECK(event->kind == BECKET_KIND_WAKE && event->flags == BECKET_TRIGGERED);
  source->events += 1;
  atomic_store(&source->seen, atomic_load(&source->sent));
  if (replacing && source != &by_signal && source->events % 5 == 0) { /* this one is replaced, or the next */
    struct woken *other = &sources[((size_t)(source - sources) + source->events / 5 % 2) % SOURCES];
    EQUAL(becket_remove(loop, atomic_load(&other->handle)), 0);
    EQUAL(becket_wake(loop, atomic_load(&other->handle)), -ESTALE);
    /* What was counted until now may have been in time, and is gone with the source; or it is refused, and comes again. */
    atomic_store(&other->seen, atomic_load(&other->sent));
    becket_handle handle;
    EQUAL(becket_wake_add(loop, on_wake, other, &handle), 0);
    atomic_store(&other->handle, handle);
  }
}

static void never(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)event, (void)user;
  CHECK(!"woken by a stale handle");
}

/* After every wait: the traps' handles go stale, and are given away then. */
static void set_traps(becket_loop *same, const becket_event *event, void *user) {
  static unsigned at;
  (void)same, (void)event, (void)user;
  if (!replacing) return;
  at = (at + 1) % TRAPS;
  EQUAL(becket_remove(loop, traps[at]), 0);
  atomic_store(&stale[at], traps[at]);
  EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, never, NULL, &traps[at]), 0); /* in the same slot */
}

/* ------------------------------------------------------------------------------------------------ the other threads' side */

/* Wakes a source that may be replaced at any moment; the count with which that was. */
static unsigned long wake(struct woken *source) {
  unsigned long sent = atomic_fetch_add(&source->sent, 1) + 1;
  int code;
  while ((code = becket_wake(loop, atomic_load(&source->handle))) == -ESTALE) atomic_fetch_add(&refused, 1);
  EQUAL(code, 0);
  atomic_fetch_add(&wakes, 1);
  return sent;
}

static void stop(int and_wait) {
  unsigned long sent = atomic_fetch_add(&stops_sent, 1) + 1;
  EQUAL(becket_stop(loop), 0);
  while (and_wait && atomic_load(&stops_seen) < sent) sched_yield();
}

/* In signal context, in whatever thread it comes. */
static void on_signal(int signal) {
  int kept = errno;
  (void)signal;
  atomic_fetch_add(&by_signal.sent, 1);
  if (becket_wake(loop, atomic_load(&by_signal.handle)) != 0) abort();
  if (atomic_fetch_add(&stops_sent, 1) % 16 == 0 && becket_stop(loop) != 0) abort();
  if (errno != kept) abort();
}

static void *storm(void *number) {
  uint64_t random = 88172645463325252u + (uintptr_t)number;
  for (int i = 0; i < rounds; i++) {
    struct woken *source = &sources[random_below(&random, SOURCES)];
    unsigned long sent = wake(source);
    becket_handle old = atomic_load(&stale[random_below(&random, TRAPS)]);
    if (old != 0) EQUAL(becket_wake(loop, old), -ESTALE);
    switch (random_below(&random, 8)) {
    case 0: stop(0); break;
    case 1: stop(1); break;
    case 2: /* a queue of such signals has an end */
      if (pthread_kill(owner, storm_signal) == 0) atomic_fetch_add(&signals_sent, 1);
      break;
    case 3: raise(storm_signal); break;
    default:
      if (i % 2 == 0) break;
      while (atomic_load(&source->seen) < sent) sched_yield();
    }
  }
  atomic_fetch_sub(&running, 1);
  stop(0);
  return NULL;
}

static void *storm_of_signals(void *unused) {
  for (int sent = 0; sent < SIGNALS || atomic_load(&running) > 0; sent++) {
    if (pthread_kill(owner, storm_signal) != 0) sched_yield();
    if (sent >= SIGNALS) sched_yield();
  }
  return unused;
}

/* ------------------------------------------------------------------------------------------------ each backend */

static void open_loop(const becket_config *config) {
  becket_handle handle;
  EQUAL(becket_loop_init(&loop, &memory, config), 0);
  for (int i = 0; i < SOURCES; i++) {
    sources[i] = (struct woken){0};
    EQUAL(becket_wake_add(loop, on_wake, &sources[i], &handle), 0);
    atomic_store(&sources[i].handle, handle);
  }
  by_signal = (struct woken){0};
  EQUAL(becket_wake_add(loop, on_wake, &by_signal, &handle), 0);
  atomic_store(&by_signal.handle, handle);
  for (int i = 0; i < TRAPS; i++) {
    EQUAL(becket_timer_add(loop, BECKET_NEVER, 0, never, NULL, &traps[i]), 0);
    atomic_store(&stale[i], 0);
  }
  EQUAL(becket_after_add(loop, set_traps, NULL, &handle), 0);
}

static void all_against_all(void) {
  pthread_t threads[THREADS], signals;
  unsigned long notified = fault_calls("write.eventfd");
  replacing = 1;
  atomic_store(&running, THREADS);
  for (intptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, storm, (void *)i) == 0);
  CHECK(pthread_create(&signals, NULL, storm_of_signals, NULL) == 0);
  while (atomic_load(&running) > 0) {
    EQUAL(becket_run(loop), 1); /* only a stop ends it */
    atomic_store(&stops_seen, atomic_load(&stops_sent));
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(pthread_join(signals, NULL) == 0);
  replacing = 0;
  while (becket_turn(loop, 0) > 1) continue; /* the one is the after-wait source */
  for (int i = 0; i < SOURCES; i++) EQUAL(atomic_load(&sources[i].seen), atomic_load(&sources[i].sent));
  EQUAL(atomic_load(&by_signal.seen), atomic_load(&by_signal.sent));
  CHECK(by_signal.events > 0 && atomic_load(&by_signal.sent) >= SIGNALS);
  unsigned long events = by_signal.events, sent = atomic_load(&by_signal.sent);
  for (int i = 0; i < SOURCES; i++) {
    CHECK(sources[i].events <= atomic_load(&sources[i].sent));
    events += sources[i].events;
    sent += atomic_load(&sources[i].sent);
  }
  notified = fault_calls("write.eventfd") - notified;
  becket_statistics statistics = statistics_of(loop);
  EQUAL(statistics.events_wake, events);
  CHECK(notified <= statistics.turns + 1); /* one for each sleep at most */
  printf("%s: %lu wakes were %lu events in %llu turns; %lu writes, %lu stale\n", becket_backend_name(loop), sent, events,
         (unsigned long long)statistics.turns, notified, atomic_load(&refused));
}

/* One thread alone, so that nobody else wakes what it has not: each wake is waited for, while the loop sleeps without end. It comes
 * right behind the last event, when the loop is about to fall asleep. */
static void *wake_and_wait(void *unused) {
  for (int i = 0; i < rounds; i++) {
    unsigned long sent = wake(&sources[i % SOURCES]);
    while (atomic_load(&sources[i % SOURCES].seen) < sent) sched_yield();
  }
  atomic_fetch_sub(&running, 1);
  EQUAL(becket_stop(loop), 0);
  return unused;
}

static void one_against_one(void) {
  pthread_t thread;
  atomic_store(&running, 1);
  CHECK(pthread_create(&thread, NULL, wake_and_wait, NULL) == 0);
  while (atomic_load(&running) > 0) CHECK(becket_run(loop) == 1);
  CHECK(pthread_join(thread, NULL) == 0);
  for (int i = 0; i < SOURCES; i++) EQUAL(atomic_load(&sources[i].seen), atomic_load(&sources[i].sent));
}

/* The loop is awake: its handler runs, until the other thread has woken all sources many times, and has stopped it. */
static void *wake_while_awake(void *unused) {
  while (!atomic_load(&batch)) sched_yield();
  unsigned long calls = fault_calls(NULL);
  for (int i = 0; i < 1000; i++) wake(&sources[i % SOURCES]);
  EQUAL(becket_stop(loop), 0);
  EQUAL(fault_calls(NULL), calls); /* of nobody */
  atomic_store(&batch_done, 1);
  return unused;
}

static void hold(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)event, (void)user;
  atomic_store(&batch, 1);
  while (!atomic_load(&batch_done)) sched_yield();
}

static void no_call_while_awake(void) {
  pthread_t thread;
  uint64_t events = statistics_of(loop).events_wake;
  atomic_store(&batch, 0);
  atomic_store(&batch_done, 0);
  EQUAL(becket_timer_add(loop, 0, 0, hold, NULL, &batch_source), 0);
  CHECK(pthread_create(&thread, NULL, wake_while_awake, NULL) == 0);
  EQUAL(becket_run(loop), 1);
  CHECK(pthread_join(thread, NULL) == 0);
  EQUAL(becket_remove(loop, batch_source), 0);
  EQUAL(becket_turn(loop, BECKET_FOREVER), SOURCES + 1); /* it does not fall asleep over them */
  EQUAL(statistics_of(loop).events_wake - events, SOURCES); /* each was one event */
  EQUAL(becket_turn(loop, 0), 1);
  for (int i = 0; i < SOURCES; i++) EQUAL(atomic_load(&sources[i].seen), atomic_load(&sources[i].sent));
}

/* The loop sleeps: of all that wake it then, one makes one call. */
static void *wake_while_asleep(void *unused) {
  for (int i = 0; i < 100; i++) wake(&sources[i % SOURCES]);
  EQUAL(becket_stop(loop), 0);
  return unused;
}

static void one_call_while_asleep(void) {
  pthread_t threads[THREADS];
  for (int round = 0; round < 20; round++) {
    unsigned long notified = fault_calls("write.eventfd");
    EQUAL(becket_prepare(loop, -1), 0); /* from here on it is asleep */
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, wake_while_asleep, NULL) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    EQUAL(fault_calls("write.eventfd") - notified, 1);
    EQUAL(becket_wait(loop), 0); /* at once */
    EQUAL(becket_collect(loop), SOURCES + 1);
    becket_event event;
    while (becket_next(loop, BECKET_KIND_ALL, &event) == 1) EQUAL(becket_dispatch(loop, &event), 0);
    for (int i = 0; i < SOURCES; i++) EQUAL(atomic_load(&sources[i].seen), atomic_load(&sources[i].sent));
  }
}

/* The loop is closed under those who wake it: they are told, and whoever has its descriptor next is not written to. */
static atomic_int closed_seen;

static void *wake_until_closed(void *number) {
  int code;
  do {
    code = becket_wake(loop, atomic_load(&sources[(uintptr_t)number].handle));
    if (code == 0) code = becket_stop(loop);
    if (code == 0) atomic_fetch_add(&closed_seen, 1);
  } while (code == 0);
  CHECK(code == -EBADF || code == -ESTALE); /* its source is removed first */
  while (becket_stop(loop) != -EBADF) sched_yield();
  return NULL;
}

static void close_under_them(void) {
  pthread_t threads[THREADS];
  int fds[16];
  atomic_store(&closed_seen, 0);
  for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, wake_until_closed, (void *)i) == 0);
  while (atomic_load(&closed_seen) < 1000) CHECK(becket_turn(loop, 0) >= 0);
  /* Asleep: one of them writes, and is slow; closing waits for it. */
  unsigned long notified = fault_calls("write.eventfd");
  fault_slow_wakes(5000);
  EQUAL(becket_prepare(loop, -1), 0);
  while (fault_calls("write.eventfd") == notified) sched_yield();
  EQUAL(becket_loop_close(loop), 0);
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) CHECK((fds[i] = eventfd(0, EFD_NONBLOCK)) >= 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
    uint64_t count;
    CHECK(read(fds[i], &count, sizeof count) == -1 && errno == EAGAIN);
    CHECK(close(fds[i]) == 0);
  }
  fault_slow_wakes(0);
}

int main(void) {
  const becket_config configs[] = {
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_SELECT},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_POLL},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_EPOLL},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_IO_URING},
      {.size = sizeof(becket_config), .backend = BECKET_BACKEND_IO_URING, .ring = &ring},
  };
  int under_valgrind = getenv("TEST_UNDER_VALGRIND") != NULL;
  if (getenv("BECKET_STORM_ROUNDS") != NULL) rounds = atoi(getenv("BECKET_STORM_ROUNDS"));
  if (under_valgrind) rounds = 100;
  alarm(under_valgrind ? 600 : 300 + (unsigned)rounds / 100); /* a hang is a failure */
  owner = pthread_self();
  storm_signal = SIGRTMIN + 1;
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  CHECK(sigaction(storm_signal, &action, NULL) == 0);
  for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
    if (!have_io_uring() && configs[i].backend == BECKET_BACKEND_IO_URING) continue;
    check_context = backend_name(configs[i].backend);
    open_loop(&configs[i]);
    all_against_all();
    one_against_one();
    no_call_while_awake();
    one_call_while_asleep();
    close_under_them();
  }
  return 0;
}
