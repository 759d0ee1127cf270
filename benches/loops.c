/* What a loop does without the system: a value posted and handled, timers armed, armed again, cancelled and expired.
 *
 *   loops posts COUNT        an event that sends the next one, so many times
 *   loops arm TIMERS         each is armed for the first time
 *   loops rearm TIMERS       all are armed, and each is armed again, in random order
 *   loops cancel TIMERS      all are armed, and each is disarmed, in random order
 *   loops expire TIMERS      all are armed for a time that has passed, and their handlers are called
 *
 * Prints nanoseconds for each, without what came before. One program for each library, by -DBECKET and -DLIBEV. See loops.sh.
 * Deadlines are at random points of the coming hour, as absolute times (to libev, which has none, they are spans). */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR 3600000000000.0

static long count, left;
static uint32_t *order;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static uint64_t random_number(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static double point(void) { return (double)(random_number() >> 11) / 9007199254740992.0 * HOUR + 1e9; }

static void start(void);
static void post_all(void);                 /* until left is 0 */
static void arm(long timer, double span);   /* in ns from the start */
static void cancel(long timer);
static void expire_all(void);               /* all have passed */

/* What is measured begins and ends here, for callgrind. */
__attribute__((noinline)) void measured(const char *what);

#if defined BECKET
#include <becket.h>

static BECKET_MEMORY(memory, 1000010, 16, 0);
static becket_loop *loop;
static becket_handle *handles, target;
static uint64_t begin;

static void must(int rc) {
  if (rc >= 0) return;
  fprintf(stderr, "loops: %s\n", becket_strerror(rc));
  exit(EXIT_FAILURE);
}

static void on_post(becket_loop *same, const becket_event *event, void *user) {
  (void)user;
  if (--left > 0) must(becket_post(same, event->handle, event->value + 1));
  else becket_stop(same);
}

static void on_timer(becket_loop *same, const becket_event *event, void *user) {
  (void)event, (void)user;
  if (--left == 0) becket_stop(same);
}

static void start(void) {
  becket_config config = {.size = sizeof config};
  must(becket_loop_init(&loop, &memory, &config));
  must(becket_wake_add(loop, on_post, NULL, &target));
  if ((handles = calloc((size_t)count, sizeof *handles)) == NULL) exit(EXIT_FAILURE);
  for (long i = 0; left == 0 && i < count; i++) must(becket_timer_add(loop, BECKET_NEVER, 0, on_timer, NULL, &handles[i]));
  begin = becket_now(loop);
}

static void post_all(void) {
  must(becket_post(loop, target, 0));
  must(becket_run(loop));
}

static void arm(long timer, double span) { must(becket_timer_arm_at(loop, handles[timer], begin + (uint64_t)span, 0)); }
static void cancel(long timer) { must(becket_timer_disarm(loop, handles[timer])); }
static void expire_all(void) { must(becket_run(loop)); }

#elif defined LIBEV
#include <ev.h>

static struct ev_loop *loop;
static ev_async target;
static ev_timer *timers;
static ev_tstamp begin;

static void on_post(struct ev_loop *same, ev_async *watcher, int events) {
  if (--left > 0) ev_feed_event(same, watcher, events);
  else ev_break(same, EVBREAK_ALL);
}

static void on_timer(struct ev_loop *same, ev_timer *watcher, int events) {
  (void)watcher, (void)events;
  if (--left == 0) ev_break(same, EVBREAK_ALL);
}

static void start(void) {
  if ((loop = ev_loop_new(EVBACKEND_EPOLL)) == NULL) exit(EXIT_FAILURE);
  ev_async_init(&target, on_post);
  ev_async_start(loop, &target);
  if ((timers = calloc((size_t)count, sizeof *timers)) == NULL) exit(EXIT_FAILURE);
  for (long i = 0; i < count; i++) ev_init(&timers[i], on_timer);
  begin = ev_now(loop);
}

static void post_all(void) {
  ev_feed_event(loop, &target, EV_ASYNC);
  ev_run(loop, 0);
}

static void arm(long timer, double span) {
  ev_timer_stop(loop, &timers[timer]);
  ev_timer_set(&timers[timer], span / 1e9, 0.);
  ev_timer_start(loop, &timers[timer]);
}

static void cancel(long timer) { ev_timer_stop(loop, &timers[timer]); }

static void expire_all(void) { ev_run(loop, 0); }
#endif

void measured(const char *what) {
  if (strcmp(what, "posts") == 0) post_all();
  if (strcmp(what, "arm") == 0 || strcmp(what, "rearm") == 0)
    for (long i = 0; i < count; i++) arm(order[i], point());
  if (strcmp(what, "cancel") == 0)
    for (long i = 0; i < count; i++) cancel(order[i]);
  if (strcmp(what, "expire") == 0) expire_all();
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  int expiring = strcmp(what, "expire") == 0;
  count = argc > 2 ? atol(argv[2]) : 0;
  if (count < 1 || count > 1000000000 || strstr("posts arm rearm cancel expire", what) == NULL || *what == '\0') {
    fputs("usage: loops posts|arm|rearm|cancel|expire COUNT\n", stderr);
    return 2;
  }
  if (strcmp(what, "posts") == 0) {
    left = count;
    count = 1;
    start();
    count = left;
  } else {
    if (count > 1000000) return 2;
    start();
    if ((order = calloc((size_t)count, sizeof *order)) == NULL) return EXIT_FAILURE;
    for (long i = 0; i < count; i++) order[i] = (uint32_t)i;
    if (strcmp(what, "arm") != 0)
      for (long i = 0; i < count; i++) arm(i, expiring ? (double)(random_number() % 1000000) : point());
    for (long i = count - 1; i > 0; i--) { /* Fisher and Yates */
      uint64_t other = random_number() % (uint64_t)(i + 1);
      uint32_t kept = order[i];
      order[i] = order[other];
      order[other] = kept;
    }
    left = count;
  }
  double from = now();
  measured(what);
  printf("%.1f\n", (now() - from) / (double)count);
  return left == 0 || !expiring ? EXIT_SUCCESS : EXIT_FAILURE;
}
