/* httpd_lateness.h: how late is a loop? A periodic timer knows when it should have fired.
 *
 * Each period is counted, those that were missed as well: a loop that stood still for 50 ms has not been late once, but
 * fifty times. The histogram has eight buckets for each power of two, so a percentile is at most an eighth too high. */
#ifndef HTTPD_LATENESS_H
#define HTTPD_LATENESS_H

#include <becket.h>
#include <stdint.h>
#include <time.h>

#define LATENESS_BUCKETS (64 * 8)

struct lateness {
  uint64_t period, due; /* nanoseconds; when the next period ends */
  uint64_t samples, max;
  uint64_t buckets[LATENESS_BUCKETS];
};

static inline void lateness_start(struct lateness *lateness, uint64_t first_due, uint64_t period) {
  lateness->due = first_due;
  lateness->period = period;
}

/* The timer fired now, for that many periods. */
static inline void lateness_record(struct lateness *lateness, uint64_t now, uint64_t periods) {
  for (; periods > 0; periods--, lateness->due += lateness->period) {
    uint64_t late = now > lateness->due ? now - lateness->due : 0;
    uint32_t power = 3;
    while (late >> power > 1) power++; /* at least 3, so that three bits follow the first */
    lateness->buckets[(power - 3) * 8 + (late >> (power - 3) & 15)]++;
    lateness->samples++;
    if (late > lateness->max) lateness->max = late;
  }
}

/* The lateness that this part, in thousandths, of all periods did not exceed: the end of its bucket. */
static inline uint64_t lateness_percentile(const struct lateness *lateness, uint64_t thousandths) {
  uint64_t rank = (lateness->samples * thousandths + 999) / 1000, seen = 0;
  for (uint32_t i = 0; i < LATENESS_BUCKETS && rank > 0; i++) {
    seen += lateness->buckets[i];
    if (seen < rank) continue;
    uint32_t shift = i < 16 ? 0 : i / 8 - 1;
    uint64_t end = (((uint64_t)(i - shift * 8) + 1) << shift) - 1;
    return end < lateness->max ? end : lateness->max;
  }
  return 0;
}

static inline void lateness_on_timer(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop;
  struct timespec now; /* when it is handled, not when it was collected */
  if (clock_gettime(CLOCK_MONOTONIC, &now) < 0) return;
  lateness_record(user, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, (uint64_t)event->value);
}

/* Measures it from now on, by a timer: 0, or a negative errno value. */
static inline int lateness_open(struct lateness *lateness, becket_loop *loop, uint64_t period) {
  becket_handle timer;
  uint64_t first;
  int code = becket_timer_add(loop, period, period, lateness_on_timer, lateness, &timer);
  if (code == 0) code = becket_timer_deadline(loop, timer, &first);
  if (code == 0) lateness_start(lateness, first, period);
  return code;
}

#endif
