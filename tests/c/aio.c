/* Files by POSIX AIO in a C program: configuration, a system that has no room, what is under way when a process forks, when an fd is
 * closed, and when nobody takes the signal. The calls of the C library are stood before here, so that they fail on demand. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "check.h"
#include "aio_signal.h"
#include <aio.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPERATIONS = 8 };

static BECKET_MEMORY(memory, 4, 0, OPERATIONS);
static BECKET_AIO(aio, OPERATIONS);

/* ------------------------------------------------------------------------------------------------ between becket and the library */

static int room = -1; /* requests that aio_read takes before it has no room; negative: any number */
static int held;      /* nothing completes */
static int submitted, refused;

int aio_read(struct aiocb *control) {
  static int (*real)(struct aiocb *);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "aio_read");
  if (room == 0) {
    refused++;
    errno = EAGAIN;
    return -1;
  }
  room -= room > 0;
  submitted++;
  return real(control);
}

int aio_error(const struct aiocb *control) {
  static int (*real)(const struct aiocb *);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "aio_error");
  return held ? EINPROGRESS : real(control);
}

/* ------------------------------------------------------------------------------------------------ loops */

static uint32_t now_files;
static char path[] = "/tmp/becket-aio-XXXXXX";
static int file;
static char bytes[OPERATIONS][64];

struct result {
  becket_handle handle;
  int64_t value;
  int count;
};

static void on_complete(becket_loop *loop, const becket_event *event, void *user) {
  (void)loop;
  struct result *result = user;
  result->value = event->value;
  result->count++;
}

static becket_config config_of(void) {
  return (becket_config){.size = sizeof(becket_config), .backend = BECKET_BACKEND_POLL, .files = now_files, .aio = &aio};
}

static becket_loop *open_loop(void) {
  becket_loop *loop = NULL;
  becket_config config = config_of();
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(strcmp(becket_files_name(loop), now_files == BECKET_FILES_AIO ? "aio" : "aio-signal") == 0);
  return loop;
}

static void read_one(becket_loop *loop, int number, struct result *result) {
  *result = (struct result){0};
  EQUAL(becket_op_read(loop, file, bytes[number], 10, number, on_complete, result, &result->handle), 0);
}

static void finish(becket_loop *loop, struct result *results, int count) {
  for (int i = 0; i < count; i++) {
    while (results[i].count == 0) CHECK(becket_turn(loop, GUARD) >= 0);
    EQUAL(results[i].count, 1);
  }
}

/* ------------------------------------------------------------------------------------------------ tests */

static void configuration(void) {
  becket_loop *loop = NULL;
  becket_config config = config_of();
  becket_aio wrong = aio;
#define REFUSED(error)                                            \
  do {                                                            \
    EQUAL(becket_loop_init(&loop, &memory, &config), error);      \
    CHECK(loop == NULL);                                          \
  } while (0)
  config.aio = NULL;
  REFUSED(-ENOBUFS);
  config.aio = &wrong;
  wrong.size--;
  REFUSED(-EINVAL);
  wrong = aio, wrong.block_size--;
  REFUSED(-ENOBUFS);
  wrong = aio, wrong.block = (char *)aio.block + 4;
  REFUSED(-EINVAL);
  wrong = aio, wrong.block = NULL;
  REFUSED(-EINVAL);
  wrong = aio, wrong.count = 0;
  REFUSED(-EINVAL);
  wrong = aio, wrong.count = 65537, wrong.block_size = SIZE_MAX / 2;
  REFUSED(-EINVAL);
  config.aio = &aio;
  config.aio_signal = now_files == BECKET_FILES_AIO ? 12345 : SIGRTMIN + 2; /* only who takes one looks at it */
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  EQUAL(becket_loop_close(loop), 0);
  /* Any bits may be in the memory. */
  memset(aio.block, 0xa5, aio.block_size);
  loop = open_loop();
  struct result result;
  read_one(loop, 0, &result);
  finish(loop, &result, 1);
  EQUAL(result.value, 10);
  EQUAL(becket_loop_close(loop), 0);
}

static void no_room(void) {
  becket_loop *loop = open_loop();
  struct result results[OPERATIONS];
  /* Of eight the system takes three; each time that one has completed, one more. */
  room = 3, refused = submitted = 0;
  for (int i = 0; i < OPERATIONS; i++) read_one(loop, i, &results[i]);
  while (results[2].count == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(submitted, 3);
  CHECK(refused >= OPERATIONS - 3);
  /* Nothing is under way, and there is still no room: then it is told. */
  finish(loop, results, OPERATIONS);
  for (int i = 0; i < OPERATIONS; i++) EQUAL(results[i].value, i < 3 ? 10 : -EAGAIN);
  /* There is again, later. */
  room = 2, held = 1;
  for (int i = 0; i < OPERATIONS; i++) read_one(loop, i, &results[i]);
  for (int i = 0; i < 3; i++) CHECK(becket_turn(loop, (int64_t)MILLISECOND) == 0);
  /* One that waits for room is cancelled at once. */
  EQUAL(becket_op_cancel(loop, results[5].handle), 0);
  finish(loop, &results[5], 1);
  EQUAL(results[5].value, -ECANCELED);
  EQUAL(becket_op_deadline(loop, results[6].handle, MILLISECOND), 0);
  finish(loop, &results[6], 1);
  EQUAL(results[6].value, -ETIMEDOUT);
  room = -1, held = 0;
  finish(loop, results, OPERATIONS);
  for (int i = 0; i < OPERATIONS; i++)
    if (i != 5 && i != 6) EQUAL(results[i].value, 10);
  EQUAL(becket_loop_close(loop), 0);
}

/* Cancelled too late: the result comes, once, when it comes; until then the loop cannot be closed. */
static void cancelled_too_late(void) {
  becket_loop *loop = open_loop();
  struct result results[2];
  held = 1;
  for (int i = 0; i < 2; i++) read_one(loop, i, &results[i]);
  EQUAL(becket_turn(loop, (int64_t)MILLISECOND), 0);
  usleep(20000); /* both have been made by now */
  EQUAL(becket_op_cancel(loop, results[0].handle), 0);
  EQUAL(becket_op_deadline(loop, results[1].handle, 0), 0);
  for (int i = 0; i < 3; i++) EQUAL(becket_turn(loop, (int64_t)MILLISECOND), 0);
  EQUAL(becket_loop_close(loop), -EBUSY);
  EQUAL(becket_loop_drain(loop, (int64_t)MILLISECOND), -ETIMEDOUT);
  CHECK(results[0].count == 0 && results[1].count == 0);
  held = 0;
  EQUAL(becket_loop_drain(loop, GUARD), 0);
  for (int i = 0; i < 2; i++) {
    EQUAL(results[i].count, 1);
    CHECK(results[i].value == 10 || results[i].value == (i == 0 ? -ECANCELED : -ETIMEDOUT));
  }
  EQUAL(becket_loop_close(loop), 0);
}

/* Something is under way when the process forks: the child neither waits for it nor takes it. */
static void forked(void) {
  struct sigaction before[65], now;
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) CHECK(sigaction(signal, NULL, &before[signal]) == 0);
  becket_loop *loop = open_loop();
  struct result results[OPERATIONS];
  held = 1;
  for (int i = 0; i < OPERATIONS; i++) read_one(loop, i, &results[i]);
  EQUAL(becket_turn(loop, (int64_t)MILLISECOND), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    EQUAL(becket_turn(loop, 0), -ECHILD);
    EQUAL(becket_op_cancel(loop, results[0].handle), -ECHILD);
    EQUAL(becket_loop_close(loop), 0);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
      CHECK(sigaction(signal, NULL, &now) == 0 && now.sa_handler == before[signal].sa_handler);
    }
    becket_loop *own = NULL;
    becket_config config = config_of();
    EQUAL(becket_loop_init(&own, &memory, &config), -ECHILD);
    /* Chosen freely it is something else, or nothing. */
    config.files = BECKET_FILES_AUTO;
    EQUAL(becket_loop_init(&own, &memory, &config), 0);
    CHECK(strncmp(becket_files_name(own), "aio", 3) != 0);
    EQUAL(becket_loop_close(own), 0);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  EQUAL(status, 0);
  held = 0;
  finish(loop, results, OPERATIONS);
  for (int i = 0; i < OPERATIONS; i++) EQUAL(results[i].value, 10);
  EQUAL(becket_loop_close(loop), 0);
}

/* Whoever has the signal blocked in all threads learns by looking. */
static void blocked_signal(void) {
  sigset_t all, old;
  sigfillset(&all);
  CHECK(sigprocmask(SIG_SETMASK, &all, &old) == 0);
  becket_loop *loop = open_loop();
  struct result results[OPERATIONS];
  for (int i = 0; i < OPERATIONS; i++) read_one(loop, i, &results[i]);
  finish(loop, results, OPERATIONS);
  EQUAL(becket_loop_close(loop), 0);
  /* What was pending is gone with the loop: it would end this process. */
  CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
}

#ifdef __GLIBC__
/* Where a real-time scheduler runs the loop, the threads of the library come after it. */
static void scheduled_below(void) {
  const struct sched_param mine = {.sched_priority = 2};
  if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &mine) != 0) {
    fprintf(stderr, "skipped: POSIX AIO under a real-time scheduler (run this as root)\n");
    return;
  }
  becket_loop *loop = open_loop();
  struct result result;
  read_one(loop, 0, &result);
  finish(loop, &result, 1);
  EQUAL(result.value, 10);
  int below = 0;
  DIR *threads = opendir("/proc/self/task");
  CHECK(threads != NULL);
  for (const struct dirent *entry; (entry = readdir(threads)) != NULL;) {
    const int thread = atoi(entry->d_name);
    struct sched_param theirs;
    if (thread == 0 || thread == getpid() || sched_getparam(thread, &theirs) != 0) continue;
    EQUAL(theirs.sched_priority < mine.sched_priority, 1);
    below += theirs.sched_priority == 1;
  }
  closedir(threads);
  CHECK(below > 0);
  EQUAL(becket_loop_close(loop), 0);
  CHECK(pthread_setschedparam(pthread_self(), SCHED_OTHER, &(struct sched_param){0}) == 0);
}
#endif

int main(void) {
  becket_loop *loop = NULL;
  now_files = BECKET_FILES_AIO;
  becket_config config = config_of();
  int code = becket_loop_init(&loop, &memory, &config);
  if (code == -ENOTSUP) return 0; /* a library without: build/aio has one */
  EQUAL(code, 0);
  EQUAL(becket_loop_close(loop), 0);
  file = mkstemp(path);
  CHECK(file >= 0);
  static const char content[64] = "0123456789";
  EQUAL(write(file, content, sizeof content), sizeof content);
  for (; now_files <= BECKET_FILES_AIO_SIGNAL; now_files++) {
    if (now_files == BECKET_FILES_AIO_SIGNAL && !aio_can_signal()) continue;
    check_context = now_files == BECKET_FILES_AIO ? "aio" : "aio-signal";
    configuration();
    no_room();
    cancelled_too_late();
    forked();
    blocked_signal();
#ifdef __GLIBC__
    scheduled_below();
#endif
  }
  close(file);
  unlink(path);
  return 0;
}
