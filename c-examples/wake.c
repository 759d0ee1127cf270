/* wake: a second thread makes work, the loop does it.
 *
 * The thread puts items into a ring that both share without a lock, and wakes the loop. Wakes are coalesced: while the
 * loop is awake, one costs no system call. A full ring is back-pressure to the thread, so nothing is lost.
 * The thread runs on a static stack. becket allocates nothing; glibc's pthread_create() still allocates one small
 * block for the thread (musl's does not). */
#define _DEFAULT_SOURCE
#define PROGRAM "wake"
#define USAGE "usage: wake [--backend auto|select|poll|epoll|uring] [--items N]\n"
#include "example.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define RING 64 /* a power of two, so that the counters may wrap */

/* One writer, one reader. `head` counts what was put in, `tail` what was taken out; each is stored by one side only. */
struct ring {
  _Atomic uint32_t head, tail;
  uint64_t items[RING];
};

struct job {
  becket_loop *loop;
  becket_handle wake;
  uint64_t count;            /* items to make */
  uint64_t done, sum, wakes; /* the loop's side */
  struct ring ring;
};

static BECKET_MEMORY(memory, 1, 0, 0);
static _Alignas(64) unsigned char stack[256 * 1024];

static int put(struct ring *ring, uint64_t item) {
  uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
  if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) == RING) return 0;
  ring->items[head % RING] = item;
  atomic_store_explicit(&ring->head, head + 1, memory_order_release);
  return 1;
}

static int take(struct ring *ring, uint64_t *item) {
  uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
  if (tail == atomic_load_explicit(&ring->head, memory_order_acquire)) return 0;
  *item = ring->items[tail % RING];
  atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
  return 1;
}

static void *work(void *argument) {
  struct job *job = argument;
  for (uint64_t item = 1; item <= job->count; item++) {
    while (!put(&job->ring, item)) { /* the loop was woken for what is in there: give it the processor */
      struct timespec moment = {.tv_nsec = 10000};
      nanosleep(&moment, NULL);
    }
    must("wake", becket_wake(job->loop, job->wake)); /* after the item is visible: then no item can be missed */
  }
  return NULL;
}

/* One event for any number of wakes: so take all there is. */
static void on_wake(becket_loop *loop, const becket_event *event, void *user) {
  struct job *job = user;
  uint64_t item;
  job->wakes += 1;
  while (take(&job->ring, &item)) {
    job->done += 1;
    job->sum += item;
  }
  if (job->done < job->count) return;
  /* The thread may still be inside its last becket_wake(), so the source stays; but the loop need not live for it. */
  must("keepalive", becket_set_keepalive(loop, event->handle, 0));
}

int main(int argc, char **argv) {
  static struct job job;
  becket_config config = {.size = sizeof config};
  unsigned long items = 100000;
  for (int i = 1; i < argc; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--items", 100000000, &items))
      return usage(strcmp(argv[i], "--help") == 0);
  job.count = items == 0 ? 1 : items;

  must("init", becket_loop_init(&job.loop, &memory, &config));
  must("wake", becket_wake_add(job.loop, on_wake, &job, &job.wake));

  pthread_t thread;
  pthread_attr_t attributes;
  must("attributes", -pthread_attr_init(&attributes));
  must("stack", -pthread_attr_setstack(&attributes, stack, sizeof stack));
  must("thread", -pthread_create(&thread, &attributes, work, &job));
  must("run", becket_run(job.loop)); /* until the wake source no longer keeps it alive */
  must("join", -pthread_join(thread, NULL));
  must("attributes", -pthread_attr_destroy(&attributes));
  must("loop", becket_loop_close(job.loop)); /* only now: nobody can wake it any more */

  int complete = job.done == job.count && job.sum == job.count * (job.count + 1) / 2;
  say("%lu items in %lu wakes: %s", (unsigned long)job.done, (unsigned long)job.wakes, complete ? "complete" : "something was lost");
  return complete ? EXIT_SUCCESS : EXIT_FAILURE;
}
