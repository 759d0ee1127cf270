/* Tasks: what they await, what they get, and that cancelling one loses nothing. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static BECKET_MEMORY(memory, 16, 4, 8);
static BECKET_RING(ring, 16);
static becket_loop *loop;

/* All that the tasks of this program remember. */
struct job {
  becket_task task;
  int fd, other;
  int step, ended;
  int64_t seen[8];
  char bytes[64];
  becket_handle source;
  struct job *child;
};

static void on_end(becket_task *task) {
  ((struct job *)task)->ended += 1;
}

static void start(struct job *job, becket_task_function function) {
  EQUAL(becket_task_start(loop, &job->task, function, on_end), 0);
}

static void until_ended(const struct job *job) {
  for (int turns = 0; job->ended == 0; turns++) {
    CHECK(turns < 1000);
    CHECK(becket_turn(loop, GUARD) >= 0);
  }
}

static void make_pair(int fds[2]) {
  EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void check_empty(void) {
  becket_statistics statistics = statistics_of(loop);
  EQUAL(statistics.sources, 0);
  EQUAL(statistics.queued, 0);
  EQUAL(statistics.operations_now, 0);
}

/* ---- What can be awaited ---- */

static void timer_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  for (job->step = 0; job->step < 3; job->step++) {
    BECKET_AWAIT(becket_timer_add(task->loop, 5 * MILLISECOND, 0, BECKET_AWAITING));
    EQUAL(task->value, 1);
    job->seen[job->step] = (int64_t)becket_now(task->loop);
  }
  BECKET_TASK_RETURN(7);
  BECKET_TASK_END;
}

static void test_timer(void) {
  struct job job = {0};
  int64_t before = (int64_t)becket_now(loop);
  start(&job, timer_task);
  EQUAL(job.step, 0);
  EQUAL(becket_task_active(&job.task), 1);
  EQUAL(becket_task_start(loop, &job.task, timer_task, NULL), -EBUSY);
  until_ended(&job);
  EQUAL(job.task.result, 7);
  EQUAL(job.ended, 1);
  EQUAL(becket_task_active(&job.task), 0);
  CHECK(job.seen[0] >= before + (int64_t)(5 * MILLISECOND));
  CHECK(job.seen[2] >= job.seen[0] + (int64_t)(10 * MILLISECOND));
  check_empty();
}

static void echo_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  for (;;) {
    BECKET_AWAIT(becket_op_recv(task->loop, job->fd, job->bytes, sizeof job->bytes, 0, BECKET_AWAITING));
    if (task->value <= 0) break;
    BECKET_AWAIT(becket_op_send(task->loop, job->fd, job->bytes, (size_t)task->value, 0, BECKET_AWAITING));
    job->step += 1;
  }
  BECKET_TASK_END;
}

static void test_operations(void) {
  struct job job = {0};
  int fds[2];
  char bytes[8];
  make_pair(fds);
  job.fd = fds[0];
  start(&job, echo_task);
  for (int round = 1; round <= 3; round++) {
    EQUAL(write(fds[1], "echo", 4), 4);
    while (job.step < round) CHECK(becket_turn(loop, GUARD) >= 0);
    EQUAL(read(fds[1], bytes, sizeof bytes), 4);
    CHECK(memcmp(bytes, "echo", 4) == 0);
  }
  close(fds[1]);
  until_ended(&job);
  EQUAL(job.task.result, 0);
  close(fds[0]);
  check_empty();
}

static void readiness_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  /* A source for one await. */
  BECKET_AWAIT(becket_io_add(task->loop, job->fd, BECKET_READABLE, BECKET_AWAITING));
  job->seen[0] = task->value;
  EQUAL(task->fd, job->fd);
  BECKET_AWAIT_WITHIN(becket_io_add(task->loop, job->fd, BECKET_PRIORITY, BECKET_AWAITING), 2 * MILLISECOND);
  job->seen[1] = task->value;
  /* One that is kept. */
  EQUAL(becket_io_add(task->loop, job->fd, 0, NULL, NULL, &job->source), 0);
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_WRITABLE));
  job->seen[2] = task->value;
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_READABLE));
  job->seen[3] = task->value;
  EQUAL((uint32_t)becket_io_interest(task->loop, job->source) & BECKET_READABLE, 0);
  EQUAL(becket_remove(task->loop, job->source), 0);
  /* What fails at once is no wait. */
  BECKET_AWAIT(becket_io_add(task->loop, -1, BECKET_READABLE, BECKET_AWAITING));
  job->seen[4] = task->value;
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_READABLE));
  job->seen[5] = task->value;
  BECKET_TASK_END;
}

static void test_readiness(void) {
  struct job job = {0};
  int fds[2];
  make_pair(fds);
  job.fd = fds[0];
  start(&job, readiness_task);
  EQUAL(write(fds[1], "x", 1), 1);
  until_ended(&job);
  EQUAL(job.seen[0], BECKET_READABLE);
  EQUAL(job.seen[1], -ETIMEDOUT);
  EQUAL(job.seen[2], BECKET_WRITABLE);
  EQUAL(job.seen[3], BECKET_READABLE);
  EQUAL(job.seen[4], -EBADF);
  EQUAL(job.seen[5], -ESTALE);
  close(fds[0]);
  close(fds[1]);
  check_empty();
}

static void others_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT(becket_wake_add(task->loop, BECKET_AWAITING));
  job->step = 1;
  BECKET_AWAIT(becket_signal_add(task->loop, SIGUSR1, BECKET_AWAITING));
  job->seen[0] = task->value;
  job->step = 2;
  job->other = fork();
  if (job->other == 0) _exit(3);
  BECKET_AWAIT(becket_child_add(task->loop, job->other, BECKET_AWAITING));
  job->seen[1] = task->value;
  BECKET_AWAIT(0);
  job->seen[2] = task->value;
  BECKET_TASK_END;
}

static void test_other_sources(void) {
  struct job job = {0};
  start(&job, others_task);
  EQUAL(becket_task_wake(&job.task, 1), -EBUSY); /* it awaits a source */
  EQUAL(becket_wake(loop, job.task.awaited), 0);
  while (job.step < 1) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(raise(SIGUSR1), 0);
  while (job.seen[1] == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(job.seen[0], 1);
  CHECK(WIFEXITED((int)job.seen[1]) && WEXITSTATUS((int)job.seen[1]) == 3);
  EQUAL(job.ended, 0);
  EQUAL(becket_task_wake(&job.task, 42), 0);
  EQUAL(job.seen[2], 42);
  EQUAL(job.ended, 1);
  EQUAL(becket_task_wake(&job.task, 42), -ESRCH);
  check_empty();
}

static void edges_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  /* What no limit is for is not awaited, and nothing of it stays. */
  BECKET_AWAIT_WITHIN(becket_wake_add(task->loop, BECKET_AWAITING), MILLISECOND);
  EQUAL(task->value, -ENOTSUP);
  EQUAL(statistics_of(task->loop).sources, 0);
  BECKET_AWAIT_WITHIN(0, MILLISECOND);
  EQUAL(task->value, -ESTALE);
  BECKET_AWAIT_TASK(NULL);
  EQUAL(task->value, -EINVAL);
  EQUAL(becket_io_add(task->loop, job->fd, 0, NULL, NULL, &job->source), 0);
  BECKET_AWAIT(becket_task_ready(task, job->source, 0));
  EQUAL(task->value, -EINVAL);
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_HANGUP));
  EQUAL(task->value, -EINVAL);
  BECKET_AWAIT(becket_task_event(task, job->source));
  EQUAL(task->value, -EINVAL);
  /* A source that is kept is silent again after a limit, too. */
  BECKET_AWAIT_WITHIN(becket_task_ready(task, job->source, BECKET_READABLE), MILLISECOND);
  EQUAL(task->value, -ETIMEDOUT);
  EQUAL((uint32_t)becket_io_interest(task->loop, job->source) & BECKET_READABLE, 0);
  uint64_t deadline;
  EQUAL(becket_io_get_deadline(task->loop, job->source, &deadline), 0);
  EQUAL(deadline == BECKET_NEVER, 1);
  job->step = 1;
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_READABLE));
  EQUAL(task->value, BECKET_TRIGGERED);
  EQUAL(task->flags, BECKET_TRIGGERED);
  job->step = 2;
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_READABLE));
  EQUAL(task->value, -ECANCELED);
  job->step = 3;
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_READABLE)); /* its source goes meanwhile */
  EQUAL(task->value, -ECANCELED);
  BECKET_AWAIT(becket_task_ready(task, job->source, BECKET_READABLE));
  EQUAL(task->value, -ESTALE);
  BECKET_AWAIT(becket_task_event(task, job->source));
  EQUAL(task->value, -ESTALE);
  BECKET_AWAIT(becket_child_add(task->loop, job->other, BECKET_AWAITING)); /* it runs on */
  EQUAL(task->value, -ECANCELED);
  BECKET_TASK_END;
}

static void until_step(const struct job *job, int step) {
  for (int turns = 0; job->step < step; turns++) {
    CHECK(turns < 1000);
    CHECK(becket_turn(loop, GUARD) >= 0);
  }
}

static void test_edges(void) {
  struct job job = {0};
  int fds[2];
  int input[2];
  EQUAL(pipe(input), 0);
  job.other = fork();
  if (job.other == 0) {
    char byte;
    close(input[1]);
    _exit((int)read(input[0], &byte, 1)); /* it ends with us at the latest */
  }
  close(input[0]);
  make_pair(fds);
  job.fd = fds[0];
  start(&job, edges_task);
  until_step(&job, 1);
  EQUAL(becket_trigger(loop, job.source, 0), 0);
  until_step(&job, 2);
  /* An event of something else is none of the task's. */
  const becket_event event = {.handle = job.source + 1, .kind = BECKET_KIND_IO, .flags = BECKET_READABLE};
  becket_task_resume(loop, &event, &job.task);
  EQUAL(job.step, 2);
  EQUAL(becket_task_cancel(&job.task), 0);
  EQUAL(becket_task_cancel(&job.task), 0);
  until_step(&job, 3);
  EQUAL(becket_remove(loop, job.source), 0);
  EQUAL(becket_task_cancel(&job.task), 0);
  EQUAL(job.ended, 0);
  EQUAL(becket_task_cancel(&job.task), 0);
  until_ended(&job);
  int status;
  close(input[1]);
  EQUAL(waitpid(job.other, &status, 0), job.other);
  EQUAL(status, 0);
  close(fds[0]);
  close(fds[1]);
  check_empty();
}

/* ---- Tasks that await tasks ---- */

static void parent_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT_TASK(&job->child->task);
  job->seen[0] = task->value;
  BECKET_AWAIT_TASK(&job->child->task); /* it has ended: the same answer at once */
  job->seen[1] = task->value;
  BECKET_AWAIT_TASK(task);
  job->seen[2] = task->value;
  BECKET_TASK_RETURN(job->seen[0] + 1);
  BECKET_TASK_END;
}

static void rival_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT_TASK(&job->child->task);
  job->seen[0] = task->value;
  BECKET_TASK_END;
}

static void test_tasks(void) {
  struct job child = {0}, parent = {.child = &child}, top = {.child = &parent}, rival = {.child = &child};
  start(&child, timer_task);
  start(&parent, parent_task);
  start(&top, parent_task);
  start(&rival, rival_task);
  EQUAL(rival.seen[0], -EBUSY);
  EQUAL(rival.ended, 1);
  until_ended(&top);
  EQUAL(parent.seen[0], 7);
  EQUAL(parent.seen[1], 7);
  EQUAL(parent.seen[2], -EDEADLK);
  EQUAL(top.task.result, 9);
  EQUAL(child.ended + parent.ended + top.ended, 3);
  check_empty();
}

static void circle_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT(0);
  BECKET_AWAIT_TASK(&job->child->task);
  BECKET_TASK_RETURN(task->value);
  BECKET_TASK_END;
}

static void test_circle(void) {
  struct job a = {0}, b = {.child = &a};
  a.child = &b;
  start(&a, circle_task);
  start(&b, circle_task);
  EQUAL(becket_task_wake(&a.task, 0), 0);
  EQUAL(a.ended, 0);
  EQUAL(becket_task_wake(&b.task, 0), 0); /* would wait for a, which waits for b */
  EQUAL(b.task.result, -EDEADLK);
  EQUAL(a.task.result, -EDEADLK);
  EQUAL(a.ended + b.ended, 2);
}

/* ---- Cancelling ---- */

static void cancelled_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT(becket_op_recv(task->loop, job->fd, job->bytes, sizeof job->bytes, 0, BECKET_AWAITING));
  job->seen[0] = task->value;
  BECKET_AWAIT(becket_timer_add(task->loop, 1000 * SECOND, 0, BECKET_AWAITING));
  job->seen[1] = task->value;
  BECKET_AWAIT(becket_io_add(task->loop, job->fd, BECKET_READABLE, BECKET_AWAITING));
  job->seen[2] = task->value;
  BECKET_AWAIT(0);
  job->seen[3] = task->value;
  /* By itself: the next await begins nothing, and the one after it is an ordinary one. */
  EQUAL(becket_task_cancel(task), 0);
  BECKET_AWAIT(becket_timer_add(task->loop, 1000 * SECOND, 0, BECKET_AWAITING));
  job->seen[4] = task->value;
  BECKET_AWAIT(becket_timer_add(task->loop, 0, 0, BECKET_AWAITING));
  job->seen[5] = task->value;
  BECKET_AWAIT_WITHIN(becket_op_recv(task->loop, job->fd, job->bytes, sizeof job->bytes, 0, BECKET_AWAITING), MILLISECOND);
  job->seen[6] = task->value;
  BECKET_TASK_END;
}

static void test_cancel(void) {
  struct job job = {0};
  int fds[2];
  make_pair(fds);
  job.fd = fds[0];
  EQUAL(becket_task_cancel(&job.task), -ESRCH);
  start(&job, cancelled_task);
  for (int step = 0; step < 3; step++) {
    EQUAL(becket_task_cancel(&job.task), 0);
    for (int turns = 0; job.seen[step] == 0; turns++) {
      CHECK(turns < 100);
      CHECK(becket_turn(loop, GUARD) >= 0);
    }
    EQUAL(job.seen[step], -ECANCELED);
  }
  EQUAL(becket_task_cancel(&job.task), 0);
  EQUAL(job.seen[3], -ECANCELED);
  EQUAL(job.seen[4], -ECANCELED);
  until_ended(&job);
  EQUAL(job.seen[5], 1);
  EQUAL(job.seen[6], -ETIMEDOUT);
  close(fds[0]);
  close(fds[1]);
  check_empty();
}

/* The bytes were there before the cancellation: they are not lost. */
static void test_cancel_too_late(void) {
  struct job job = {0};
  int fds[2];
  make_pair(fds);
  job.fd = fds[0];
  EQUAL(write(fds[1], "late", 4), 4);
  start(&job, echo_task);
  EQUAL(becket_task_cancel(&job.task), 0);
  for (int turns = 0; job.ended == 0 && job.step == 0; turns++) {
    CHECK(turns < 100);
    CHECK(becket_turn(loop, GUARD) >= 0);
  }
  char bytes[8];
  if (job.ended) {
    EQUAL(read(fds[0], bytes, sizeof bytes), 4); /* cancelled in time: they are still in the socket */
  } else {
    EQUAL(read(fds[1], bytes, sizeof bytes), 4);
    close(fds[1]);
    until_ended(&job);
    fds[1] = -1;
  }
  if (fds[1] >= 0) close(fds[1]);
  close(fds[0]);
  check_empty();
}

/* Who awaits a task passes the cancellation on, and learns what came of it. */
static void test_cancel_through(void) {
  struct job child = {0}, parent = {.child = &child};
  int fds[2];
  make_pair(fds);
  child.fd = fds[0];
  start(&child, echo_task);
  start(&parent, rival_task);
  EQUAL(becket_task_cancel(&parent.task), 0);
  until_ended(&parent);
  EQUAL(child.ended, 1);
  EQUAL(parent.seen[0], 0);
  close(fds[0]);
  close(fds[1]);
  check_empty();
}

/* ---- What goes wrong ---- */

static void switch_task(becket_task *task) {
  struct job *job = (struct job *)task;
  BECKET_TASK_BEGIN(task);
  switch ((unsigned long long)job->fd) { /* over 64 bits the compiler does not see it */
    case 1:
      BECKET_AWAIT(becket_timer_add(task->loop, 0, 0, BECKET_AWAITING));
      job->step = 1;
      break;
    default:
      break;
  }
  BECKET_TASK_END;
}

static void freed_on_end(becket_task *task) {
  free(task);
}

static void deferred_task(becket_task *task) {
  BECKET_TASK_BEGIN(task);
  BECKET_AWAIT(becket_timer_add(task->loop, 0, 0, BECKET_AWAITING));
  BECKET_TASK_END;
}

static void test_misuse(void) {
  struct job job = {.fd = 1};
  start(&job, switch_task);
  until_ended(&job);
  EQUAL(job.step, 0);
  EQUAL(job.task.result, -ENOTRECOVERABLE);
  EQUAL(becket_task_start(loop, NULL, switch_task, NULL), -EINVAL);
  EQUAL(becket_task_start(loop, &job.task, NULL, NULL), -EINVAL);
  EQUAL(becket_task_start(NULL, &job.task, switch_task, NULL), -EINVAL);
  EQUAL(becket_task_cancel(NULL), -EINVAL);
  EQUAL(becket_task_wake(NULL, 0), -EINVAL);
  EQUAL(becket_task_active(NULL), -EINVAL);
  EQUAL(becket_task_ready(NULL, 0, BECKET_READABLE), -EINVAL);
  becket_task_resume(loop, NULL, NULL);
  becket_task_lost(NULL);

  /* The memory of a task may go with its end. */
  struct job *heap = calloc(1, sizeof *heap);
  CHECK(heap != NULL);
  EQUAL(becket_task_start(loop, &heap->task, deferred_task, freed_on_end), 0);
  while (statistics_of(loop).sources > 0) CHECK(becket_turn(loop, GUARD) >= 0);
  check_empty();
}

int main(void) {
  for (uint32_t backend = BECKET_BACKEND_SELECT; backend != 0; backend = next_backend(backend)) {
    check_context = backend_name(backend);
    becket_config config = {.size = sizeof config, .backend = backend, .ring = &ring};
    EQUAL(becket_loop_init(&loop, &memory, &config), 0);
    test_timer();
    test_operations();
    test_readiness();
    test_other_sources();
    test_edges();
    test_tasks();
    test_circle();
    test_cancel();
    test_cancel_too_late();
    test_cancel_through();
    test_misuse();
    EQUAL(becket_loop_close(loop), 0);
  }
  return 0;
}
