/* What the system refuses leads AUTO to the next backend, which then works; who asked for one backend gets the error. Each case
 * is a child process, for its limits and filters end with it. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static BECKET_MEMORY(memory, 8, 0, 0);
static BECKET_MEMORY(memory_with_operations, 8, 0, 4);
static BECKET_RING(ring, 64);
static becket_loop *loop;
static int ready, ticks, woken;

/* From now on this system call fails with this error. */
static void forbid(long call, int error) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static int open_fds(void) {
  int count = 0;
  for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static void on_ready(becket_loop *same, const becket_event *event, void *user) {
  char byte;
  (void)same, (void)user;
  EQUAL(read(event->fd, &byte, 1), 1);
  ready += 1;
}

static void on_tick(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)event, (void)user;
  ticks += 1;
}

static void on_wake(becket_loop *same, const becket_event *event, void *user) {
  (void)same, (void)event, (void)user;
  woken += 1;
}

static void *wake(void *handle) {
  EQUAL(becket_wake(loop, *(becket_handle *)handle), 0);
  return NULL;
}

/* The loop really runs: a pipe, a timer that is never early, a wake from another thread. */
static void works(void) {
  int fds[2];
  becket_handle io, timer, waker;
  pthread_t thread;
  ready = ticks = woken = 0;
  EQUAL(pipe(fds), 0);
  EQUAL(becket_io_add(loop, fds[0], BECKET_READABLE, on_ready, NULL, &io), 0);
  for (int i = 0; i < 3; i++) {
    EQUAL(write(fds[1], "x", 1), 1);
    while (ready <= i) CHECK(becket_turn(loop, GUARD) >= 0);
  }
  EQUAL(becket_io_modify(loop, io, 0), 0);
  uint64_t start = becket_now(loop);
  EQUAL(becket_timer_add(loop, 20 * MILLISECOND, 0, on_tick, NULL, &timer), 0);
  while (ticks == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  CHECK(becket_now(loop) - start >= 20 * MILLISECOND);
  EQUAL(becket_wake_add(loop, on_wake, NULL, &waker), 0);
  EQUAL(pthread_create(&thread, NULL, wake, &waker), 0);
  while (woken == 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(pthread_join(thread, NULL), 0);
  EQUAL(becket_io_close(loop, io), 0);
  EQUAL(becket_remove(loop, timer), 0);
  EQUAL(becket_remove(loop, waker), 0);
  EQUAL(close(fds[1]), 0);
}

/* AUTO becomes this backend, whose note has these words; it works, and leaves nothing behind. */
static void becomes(const becket_ring *given, const char *name, const char *word, const char *other_word) {
  becket_config config = {.size = sizeof config, .ring = given};
  int before = open_fds();
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  if (strcmp(becket_backend_name(loop), name) != 0 || strstr(becket_backend_note(loop), word) == NULL ||
      strstr(becket_backend_note(loop), other_word) == NULL) {
    fprintf(stderr, "%s: %s, \"%s\"\n", check_context, becket_backend_name(loop), becket_backend_note(loop));
    exit(1);
  }
  works();
  EQUAL(becket_loop_close(loop), 0);
  EQUAL(open_fds(), before);
}

/* Who asked for this backend alone gets the error, and nothing changes. */
static void is_refused(uint32_t backend, const becket_ring *given, int error) {
  becket_config config = {.size = sizeof config, .backend = backend, .ring = given};
  int before = open_fds();
  becket_loop *untouched = (becket_loop *)&config;
  EQUAL(becket_loop_init(&untouched, &memory, &config), error);
  CHECK(untouched == (becket_loop *)&config);
  EQUAL(open_fds(), before);
}

static void on_operation(becket_loop *same, const becket_event *event, void *user) {
  (void)same;
  *(int64_t *)user = event->value;
}

/* Nobody is left for files, for the reason that the note has; who asked for io_uring gets the error. Sockets go on, and what can
 * be made at once is. */
static void nobody_for_files(const char *word, int error) {
  becket_config config = {.size = sizeof config, .files = BECKET_FILES_AUTO};
  int before = open_fds();
  char byte = 0;
  int64_t opened = -1, received = -1;
  int fds[2];
  EQUAL(becket_loop_init(&loop, &memory_with_operations, &config), 0);
  CHECK(strcmp(becket_files_name(loop), "none") == 0 && strstr(becket_files_note(loop), word) != NULL);
  EQUAL(becket_op_openat(loop, AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, on_operation, &opened, NULL), 0);
  while (opened < 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(becket_op_read(loop, (int)opened, &byte, 1, 0, on_operation, NULL, NULL), -ENOSYS);
  EQUAL(close((int)opened), 0);
  EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  EQUAL(becket_op_recv(loop, fds[0], &byte, 1, 0, on_operation, &received, NULL), 0);
  EQUAL(write(fds[1], "x", 1), 1);
  while (received < 0) CHECK(becket_turn(loop, GUARD) >= 0);
  EQUAL(close(fds[0]) + close(fds[1]), 0);
  EQUAL(becket_loop_close(loop), 0);
  config.files = BECKET_FILES_IO_URING;
  EQUAL(becket_loop_init(&loop, &memory_with_operations, &config), error);
  EQUAL(open_fds(), before);
}

/* The next best engine for files is POSIX AIO, in a library that has it and with memory for it: it works. */
static void aio_for_files(const char *word) {
  static BECKET_AIO(aio, 2);
  becket_config config = {.size = sizeof config, .files = BECKET_FILES_AIO, .aio = &aio};
  int code = becket_loop_init(&loop, &memory_with_operations, &config);
  const char *expected = code == -ENOTSUP ? "none" : "aio";
  if (code != -ENOTSUP) EQUAL(code, 0);
  if (code == 0) EQUAL(becket_loop_close(loop), 0);
  config.files = BECKET_FILES_AUTO;
  EQUAL(becket_loop_init(&loop, &memory_with_operations, &config), 0);
  CHECK(strcmp(becket_files_name(loop), expected) == 0 && strstr(becket_files_note(loop), word) != NULL);
  char byte = 0;
  int64_t count = -1;
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  code = becket_op_read(loop, file, &byte, 1, 1, on_operation, &count, NULL);
  EQUAL(code, strcmp(expected, "aio") == 0 ? 0 : -ENOSYS);
  while (code == 0 && count < 0) CHECK(becket_turn(loop, GUARD) >= 0);
  CHECK(code != 0 || (count == 1 && byte == 'E')); /* of ELF */
  EQUAL(close(file), 0);
  EQUAL(becket_loop_close(loop), 0);
}

static void limit_fds(rlim_t to) {
  struct rlimit limit = {to, to};
  EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void nothing_forbidden(void) {
  becket_config config = {.size = sizeof config};
  becomes(NULL, "epoll", "io_uring", "memory");
  becomes(&ring, "io_uring", "", "best");
  const uint32_t all[] = {BECKET_BACKEND_SELECT, BECKET_BACKEND_POLL, BECKET_BACKEND_EPOLL, BECKET_BACKEND_IO_URING};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    config.backend = all[i];
    EQUAL(becket_loop_init(&loop, &memory, &config), 0);
    CHECK(strcmp(becket_backend_name(loop), backend_name(all[i])) == 0 && becket_backend_note(loop)[0] == '\0');
    works();
    EQUAL(becket_loop_close(loop), 0);
  }
}

static void no_ring_eperm(void) {
  forbid(SYS_io_uring_setup, EPERM);
  becomes(&ring, "epoll", "io_uring", "not permitted");
  is_refused(BECKET_BACKEND_IO_URING, &ring, -EPERM);
  is_refused(BECKET_BACKEND_IO_URING, NULL, -EPERM);
  nobody_for_files("not permitted", -EPERM);
  aio_for_files("not permitted");
}

static void no_ring_enosys(void) {
  forbid(SYS_io_uring_setup, ENOSYS);
  becomes(&ring, "epoll", "io_uring", "no such system call");
  is_refused(BECKET_BACKEND_IO_URING, NULL, -ENOSYS);
  nobody_for_files("no such system call", -ENOSYS);
}

static void no_ring_enomem(void) {
  forbid(SYS_io_uring_setup, ENOMEM);
  becomes(&ring, "epoll", "io_uring", "RLIMIT_MEMLOCK");
  is_refused(BECKET_BACKEND_IO_URING, NULL, -ENOMEM);
}

/* An old kernel knows none of the flags. */
static void old_kernel(void) {
  forbid(SYS_io_uring_setup, EINVAL);
  becomes(&ring, "epoll", "io_uring", "too old");
  is_refused(BECKET_BACKEND_IO_URING, NULL, -ENOTSUP);
}

/* It makes rings, but nothing can be asked of it. */
static void no_register(void) {
  forbid(SYS_io_uring_register, EPERM);
  becomes(&ring, "epoll", "io_uring", "");
}

/* It makes rings, and when it is asked it knows no operation: the answer that was laid out stays empty. */
static void no_operations(void) {
  forbid(SYS_io_uring_register, 0);
  becomes(&ring, "epoll", "io_uring", "too old");
  is_refused(BECKET_BACKEND_IO_URING, &ring, -ENOTSUP);
  is_refused(BECKET_BACKEND_IO_URING, NULL, -ENOTSUP);
}

static void no_epoll_eperm(void) {
  forbid(SYS_epoll_create1, EPERM);
  becomes(NULL, "poll", "epoll", "not permitted");
  is_refused(BECKET_BACKEND_EPOLL, NULL, -EPERM);
}

static void no_epoll_enosys(void) {
  forbid(SYS_epoll_create1, ENOSYS);
  becomes(NULL, "poll", "epoll", "no such system call");
  is_refused(BECKET_BACKEND_EPOLL, NULL, -ENOSYS);
}

static void no_epoll_ctl(void) {
  forbid(SYS_epoll_ctl, EPERM);
  becomes(NULL, "poll", "epoll", "not permitted");
  is_refused(BECKET_BACKEND_EPOLL, NULL, -EPERM);
}

static void neither(void) {
  forbid(SYS_io_uring_setup, EPERM);
  forbid(SYS_epoll_create1, EPERM);
  becomes(&ring, "poll", "epoll", "not permitted");
}

/* The filter comes when the loop is there already: then time is in milliseconds. */
static void later(int error) {
  becket_config config = {.size = sizeof config, .backend = BECKET_BACKEND_EPOLL};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  works();
  forbid(SYS_epoll_pwait2, error);
  works();
  EQUAL(becket_loop_close(loop), 0);
}

static void no_pwait2_enosys(void) { later(ENOSYS); }
static void no_pwait2_eperm(void) { later(EPERM); }

static void few_fds(void) {
  rlim_t first_free = 0;
  while (fcntl((int)first_free, F_GETFD) >= 0) first_free++;
  becket_config config = {.size = sizeof config, .ring = &ring};
  limit_fds(first_free + 1); /* for the descriptor of its own alone */
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(strcmp(becket_backend_name(loop), "poll") == 0 && strstr(becket_backend_note(loop), "open files") != NULL);
  EQUAL(becket_turn(loop, 0), 0);
  EQUAL(becket_loop_close(loop), 0);
  is_refused(BECKET_BACKEND_EPOLL, NULL, -EMFILE);
  is_refused(BECKET_BACKEND_IO_URING, NULL, -EMFILE);
  limit_fds(first_free);
  is_refused(BECKET_BACKEND_AUTO, NULL, -EMFILE);
}

/* Kernels since 5.12 charge the rings to the control group: then they are granted, and have to work. */
static void no_locked_memory(void) {
  struct rlimit none = {0, 0};
  EQUAL(setrlimit(RLIMIT_MEMLOCK, &none), 0);
  if (getuid() == 0) EQUAL(setresuid(65534, 65534, 65534), 0);
  becket_config config = {.size = sizeof config, .ring = &ring};
  EQUAL(becket_loop_init(&loop, &memory, &config), 0);
  CHECK(strcmp(becket_backend_name(loop), "io_uring") == 0 ||
        (strcmp(becket_backend_name(loop), "epoll") == 0 && strstr(becket_backend_note(loop), "RLIMIT_MEMLOCK") != NULL));
  printf("RLIMIT_MEMLOCK 0: %s %s\n", becket_backend_name(loop), becket_backend_note(loop));
  works();
  EQUAL(becket_loop_close(loop), 0);
}

static void bad_rings(void) {
  static _Alignas(4096) unsigned char block[4 * 4096];
  const becket_ring good = {.size = sizeof good, .block = block, .block_size = sizeof block, .entries = 16};
  const uint32_t odd[] = {0, 1, 4, 17, 24, 32768, UINT32_MAX};
  becket_ring bad;
  becomes(&good, "io_uring", "", "");
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    EQUAL(becket_ring_size(odd[i]), 0);
    bad = good;
    bad.entries = odd[i];
    is_refused(BECKET_BACKEND_AUTO, &bad, -EINVAL);
  }
  bad = good;
  bad.size += 8;
  is_refused(BECKET_BACKEND_AUTO, &bad, -EINVAL);
  bad = good;
  bad.block = block + 64;
  is_refused(BECKET_BACKEND_AUTO, &bad, -EINVAL);
  bad = good;
  bad.block = NULL;
  is_refused(BECKET_BACKEND_AUTO, &bad, -EINVAL);
  bad = good;
  bad.block_size = becket_ring_size(16) - 1;
  is_refused(BECKET_BACKEND_AUTO, &bad, -ENOBUFS);
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
    int filters;
  } cases[] = {
      {"nothing_forbidden", nothing_forbidden, 0},
      {"bad_rings", bad_rings, 0},
      {"few_fds", few_fds, 0},
      {"no_locked_memory", no_locked_memory, 0},
      {"no_ring_eperm", no_ring_eperm, 1},
      {"no_ring_enosys", no_ring_enosys, 1},
      {"no_ring_enomem", no_ring_enomem, 1},
      {"old_kernel", old_kernel, 1},
      {"no_register", no_register, 1},
      {"no_operations", no_operations, 1},
      {"no_epoll_eperm", no_epoll_eperm, 1},
      {"no_epoll_enosys", no_epoll_enosys, 1},
      {"no_epoll_ctl", no_epoll_ctl, 1},
      {"neither", neither, 1},
      {"no_pwait2_enosys", no_pwait2_enosys, 1},
      {"no_pwait2_eperm", no_pwait2_eperm, 1},
  };
  if (!have_io_uring()) {
    printf("skipped: all of it is about io_uring, and filters that valgrind does not know\n");
    return 0;
  }
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
#ifndef __x86_64__
    if (cases[i].filters) continue; /* the filters are for x86-64 */
#endif
    printf("%s\n", cases[i].name);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      alarm(60);
      check_context = cases[i].name;
      cases[i].run();
      fflush(stdout);
      _exit(0);
    }
    int status = -1;
    EQUAL(waitpid(child, &status, 0), child);
    check_context = cases[i].name;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  return 0;
}
