/* Random reads of 4 KiB, 32 at a time, beside a timer of 1 ms: becket, and a loop of io_uring written by hand.
 *
 *   reads becket BACKEND FILE SECONDS [direct]      BACKEND: a number, BECKET_BACKEND_...
 *   reads raw          0 FILE SECONDS [direct]
 *
 * Prints reads a second, and how late the timer was in microseconds: median, 99 %, worst. */
#define _GNU_SOURCE
#include <becket.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 32
#define BLOCK 4096
#define MILLISECOND UINT64_C(1000000)
#define SAMPLES 1000000

static unsigned char blocks[DEPTH][BLOCK] __attribute__((aligned(BLOCK)));
static uint32_t late[SAMPLES]; /* nanoseconds */
static size_t samples;
static uint64_t reads, places, ends, due;
static int fd;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000 * MILLISECOND + (uint64_t)time.tv_nsec;
}

static int64_t place(void) {
  static uint64_t seed = UINT64_C(88172645463325252);
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (int64_t)(seed % places) * BLOCK;
}

static void fail(const char *what, int64_t code) {
  fprintf(stderr, "reads: %s: %s\n", what, strerror((int)-code));
  exit(1);
}

/* The timer was due at `due`, and it is now. */
static void sample(uint64_t at) {
  if (samples < SAMPLES) late[samples++] = (uint32_t)(at - due);
}

static int compare(const void *a, const void *b) {
  uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
  return (left > right) - (left < right);
}

/* ---- becket ---- */

static BECKET_MEMORY(memory, 4, 0, DEPTH);
static BECKET_RING(ring, 64);

static void on_read(becket_loop *loop, const becket_event *event, void *user) {
  if (event->value != BLOCK) fail("read", event->value < 0 ? event->value : -EIO);
  reads += 1;
  if (becket_now(loop) >= ends) return;
  int code = becket_op_read(loop, fd, user, BLOCK, place(), on_read, user, NULL);
  if (code < 0) fail("submit", code);
}

static void on_timer(becket_loop *loop, const becket_event *event, void *user) {
  (void)user;
  uint64_t at = now();
  sample(at);
  if (at >= ends) {
    becket_remove(loop, event->handle);
    return;
  }
  due += (uint64_t)event->value * MILLISECOND;
}

static void with_becket(uint32_t backend) {
  becket_loop *loop;
  becket_handle timer;
  becket_config config = {.size = sizeof config, .backend = backend, .ring = &ring};
  int code = becket_loop_init(&loop, &memory, &config);
  if (code < 0) fail("init", code);
  due = now() + MILLISECOND;
  becket_timer_add(loop, BECKET_NEVER, 0, on_timer, NULL, &timer);
  becket_timer_arm_at(loop, timer, due, MILLISECOND);
  for (int i = 0; i < DEPTH; i++) {
    code = becket_op_read(loop, fd, blocks[i], BLOCK, place(), on_read, blocks[i], NULL);
    if (code < 0) fail("submit", code);
  }
  code = becket_run(loop);
  if (code < 0) fail("run", code);
  becket_loop_close(loop);
}

/* ---- By hand ---- */

static void by_hand(void) {
  struct io_uring_params params = {
      .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL};
  int uring = (int)syscall(SYS_io_uring_setup, 64, &params);
  if (uring < 0) fail("io_uring_setup", -errno);
  size_t ring_bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
  size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  if (cq_bytes > ring_bytes) ring_bytes = cq_bytes;
  const int access = PROT_READ | PROT_WRITE, how = MAP_SHARED | MAP_POPULATE;
  char *rings = mmap(NULL, ring_bytes, access, how, uring, IORING_OFF_SQ_RING);
  struct io_uring_sqe *entries = mmap(NULL, params.sq_entries * sizeof *entries, access, how, uring, IORING_OFF_SQES);
  if (rings == MAP_FAILED || entries == MAP_FAILED) fail("mmap", -errno);
  unsigned *sq_tail = (unsigned *)(rings + params.sq_off.tail), *array = (unsigned *)(rings + params.sq_off.array);
  unsigned *cq_head = (unsigned *)(rings + params.cq_off.head), *cq_tail = (unsigned *)(rings + params.cq_off.tail);
  struct io_uring_cqe *found = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
  for (unsigned i = 0; i < params.sq_entries; i++) array[i] = i;

  unsigned ready = 0, in_flight = 0;
  uint64_t again[DEPTH];
  for (unsigned i = 0; i < DEPTH; i++) again[i] = i;
  unsigned count = DEPTH;
  due = now() + MILLISECOND;
  for (;;) {
    for (unsigned i = 0; i < count; i++, ready++, in_flight++) {
      struct io_uring_sqe *entry = &entries[*sq_tail & (params.sq_entries - 1)];
      memset(entry, 0, sizeof *entry);
      entry->opcode = IORING_OP_READ;
      entry->fd = fd;
      entry->addr = (uint64_t)(uintptr_t)blocks[again[i]];
      entry->len = BLOCK;
      entry->off = (uint64_t)place();
      entry->user_data = again[i];
      __atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
    }
    if (in_flight == 0) break;
    uint64_t time = now(), left = due > time ? due - time : 0;
    struct __kernel_timespec timeout = {.tv_nsec = (long long)left};
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&timeout};
    long taken = syscall(SYS_io_uring_enter, uring, ready, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
    if (taken >= 0) ready -= (unsigned)taken;
    else if (errno != ETIME && errno != EINTR) fail("io_uring_enter", -errno);
    time = now();
    if (time >= due) {
      sample(time);
      due += (1 + (time - due) / MILLISECOND) * MILLISECOND;
    }
    count = 0;
    unsigned head = *cq_head;
    for (; head != __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE); head++) {
      struct io_uring_cqe *entry = &found[head & (params.cq_entries - 1)];
      if (entry->res != BLOCK) fail("read", entry->res < 0 ? entry->res : -EIO);
      reads += 1;
      in_flight -= 1;
      if (time < ends) again[count++] = entry->user_data;
    }
    __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
  }
}

int main(int argc, char **argv) {
  struct stat file;
  if (argc < 5) return fprintf(stderr, "usage: reads becket|raw BACKEND FILE SECONDS [direct]\n"), 2;
  fd = open(argv[3], O_RDONLY | (argc > 5 ? O_DIRECT : 0));
  if (fd < 0 || fstat(fd, &file) < 0) fail(argv[3], -errno);
  places = (uint64_t)file.st_size / BLOCK;
  uint64_t begin = now();
  ends = begin + (uint64_t)strtoul(argv[4], NULL, 10) * 1000 * MILLISECOND;
  if (strcmp(argv[1], "raw") == 0) by_hand();
  else with_becket((uint32_t)strtoul(argv[2], NULL, 10));
  double seconds = (double)(now() - begin) / 1e9;
  qsort(late, samples, sizeof *late, compare);
  if (samples == 0) return 1;
  printf("%.0f %.1f %.1f %.1f\n", (double)reads / seconds, late[samples / 2] / 1e3, late[samples * 99 / 100] / 1e3,
         late[samples - 1] / 1e3);
  return 0;
}
