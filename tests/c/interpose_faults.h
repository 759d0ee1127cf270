/* Faults of the system, made by interpose_faults.c: for programs that are linked with it. */
#ifndef INTERPOSE_FAULTS_H
#define INTERPOSE_FAULTS_H

#define FAULT_ALWAYS (~0ul)
#define FAULT_REASONS 192 /* there are fewer */

/* One way in which one call can fail. */
struct fault_reason {
  const char *call; /* such as "epoll_ctl.add": the call and, where it has several kinds, which */
  const char *name; /* such as "ENOMEM" */
  int error;
  int lasting; /* it can stay so for long; else it is a matter of one call, or of a few */
};

/* The reasons, from 0 on; NULL after the last. */
const struct fault_reason *fault_reason(unsigned index);

/* From now on a call fails for a reason: the `first`-th (from 1 on), and then `times` in all. */
void fault_set(const struct fault_reason *reason, unsigned long first, unsigned long times);

/* From now on a write to an eventfd takes so long before it is made; 0: it does not. */
void fault_slow_wakes(unsigned long microseconds);

/* No more faults. How often the last one has struck. */
unsigned long fault_clear(void);

/* How often a call was made since the program began; of NULL: all calls that are watched. */
unsigned long fault_calls(const char *call);

#endif
