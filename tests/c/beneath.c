/* c-examples/beneath.h: what lies beneath the root is found, and nothing else, by openat2(2) and by the walk alike; also
 * while directories become links that lead out, and back. */
#define _GNU_SOURCE /* renameat2: two names change places at once */
#include "check.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../c-examples/beneath.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static int top, root; /* the folder of this test, and "root" in it: beside it lies what must not be found */
static struct beneath walk;
static bool has_openat2;

static void put_file(const char *path) {
  int fd = openat(top, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0);
  EQUAL(write(fd, path, strlen(path)), (long long)strlen(path)); /* each says where it is */
  close(fd);
}

static void put_link(const char *target, const char *path) { EQUAL(symlinkat(target, top, path), 0); }

static void put_directory(const char *path) { EQUAL(mkdirat(top, path, 0700), 0); }

/* The number of our open fds: each way must leave as many as there were. */
static int open_fds(void) {
  int count = 0;
  for (int fd = 0; fd < 64; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static int by_walk(const char *path) { return beneath_walk(&walk, root, path, strlen(path)); }

/* What is there: the file's own path, "" for a directory. */
static const char *text_of(int fd) {
  static char text[128];
  struct stat stat;
  EQUAL(fstat(fd, &stat), 0);
  ssize_t size = S_ISREG(stat.st_mode) ? read(fd, text, sizeof text - 1) : 0;
  CHECK(size >= 0);
  text[size] = '\0';
  return text;
}

static void check(const char *path, int code, const char *expected) {
  int before = open_fds();
  check_context = path;
  for (int way = 0; way < 2; way++) {
    if (way == 0 && !has_openat2) continue;
    int fd = way == 0 ? beneath_openat2(root, path, false) : by_walk(path);
    EQUAL(fd < 0 ? fd : 0, code);
    if (fd < 0) continue;
    if (strcmp(text_of(fd), expected) != 0) {
      fprintf(stderr, "%s by %s leads to %s\n", path, way == 0 ? "openat2" : "the walk", text_of(fd));
      exit(1);
    }
    EQUAL(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
  }
  EQUAL(open_fds(), before);
}

static void build(void) {
  static char folder[] = "/tmp/becket-beneath-XXXXXX";
  CHECK(mkdtemp(folder) != NULL);
  top = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(top >= 0);
  put_file("secret");
  put_directory("outside");
  put_file("outside/f");
  put_directory("root");
  put_file("root/f");
  put_directory("root/a");
  put_file("root/a/f");
  put_directory("root/a/b");
  put_file("root/a/b/f");
  put_link("a/b", "root/to_b");
  put_link("a/b/", "root/to_b_slash");
  put_link("../f", "root/a/up_f");
  put_link("..", "root/a/b/up");
  put_link("../..", "root/a/b/root");
  put_link("../../..", "root/a/b/out"); /* one too many */
  put_link("../outside", "root/out");
  put_link("../secret", "root/out_f");
  put_link("/etc/passwd", "root/absolute");
  put_link("/", "root/absolute_directory");
  put_link("to_b/up/f", "root/chain");
  put_link("a/b/root/to_b/f", "root/chain_long");
  put_link("out/f", "root/chain_out");
  put_link("self", "root/self");
  put_link("pong", "root/ping");
  put_link("ping", "root/pong");
  put_link("missing", "root/dangling");
  put_link("./././f", "root/dots");
  put_link("/proc/self/cwd", "root/magic");
  EQUAL(mkfifoat(top, "root/fifo", 0600), 0);
  root = openat(top, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(root >= 0);
  int probe = beneath_openat2(root, "f", false);
  has_openat2 = probe >= 0;
  if (has_openat2)
    close(probe);
  else
    CHECK(probe == -ENOSYS || probe == -EPERM);
}

static void clean_up(int dirfd, const char *const *names) {
  for (; *names != NULL; names++)
    if (unlinkat(dirfd, *names, 0) < 0) EQUAL(unlinkat(dirfd, *names, AT_REMOVEDIR), 0);
}

static void table(void) {
  check("f", 0, "root/f");
  check("a/f", 0, "root/a/f");
  check("a//b///f", 0, "root/a/b/f");
  check("./a/./b/./f", 0, "root/a/b/f");
  check("a/..", 0, "");
  check("a/../f", 0, "root/f");
  check("a/b/../../a/b/../f", 0, "root/a/f");
  check("a", 0, "");
  check("a/", 0, "");
  check("a/.", 0, "");
  check("a/./", 0, "");
  check("a/b/..", 0, "");
  check(".", 0, "");
  check("./", 0, "");
  check("to_b/f", 0, "root/a/b/f");
  check("to_b", 0, "");
  check("to_b/", 0, "");
  check("to_b_slash", 0, "");
  check("to_b_slash/f", 0, "root/a/b/f");
  check("to_b/../f", 0, "root/a/f"); /* the target's parent */
  check("a/up_f", 0, "root/f");
  check("a/b/up/f", 0, "root/a/f");
  check("a/b/root/f", 0, "root/f");
  check("chain", 0, "root/a/f");
  check("chain_long", 0, "root/a/b/f");
  check("dots", 0, "root/f");
  check("fifo", 0, "");

  check("..", -EXDEV, NULL);
  check("../secret", -EXDEV, NULL);
  check("../root/f", -EXDEV, NULL); /* out and back in is out */
  check("a/../../secret", -EXDEV, NULL);
  check("a/b/../../..", -EXDEV, NULL);
  check("./..", -EXDEV, NULL);
  check(".//../", -EXDEV, NULL);
  check("/etc/passwd", -EXDEV, NULL);
  check("/", -EXDEV, NULL);
  check("//f", -EXDEV, NULL);
  check("out", -EXDEV, NULL);
  check("out/f", -EXDEV, NULL);
  check("out_f", -EXDEV, NULL);
  check("absolute", -EXDEV, NULL);
  check("absolute_directory/etc/passwd", -EXDEV, NULL);
  check("a/b/out", -EXDEV, NULL);
  check("a/b/out/secret", -EXDEV, NULL);
  check("a/b/root/../secret", -EXDEV, NULL);
  check("chain_out", -EXDEV, NULL);
  check("magic", -EXDEV, NULL);

  check("", -ENOENT, NULL);
  check("missing", -ENOENT, NULL);
  check("missing/../f", -ENOENT, NULL);
  check("a/missing/f", -ENOENT, NULL);
  check("dangling", -ENOENT, NULL);
  check("f/", -ENOTDIR, NULL);
  check("f/x", -ENOTDIR, NULL);
  check("f/..", -ENOTDIR, NULL);
  check("f/../f", -ENOTDIR, NULL);
  check("fifo/x", -ENOTDIR, NULL);
  check("self", -ELOOP, NULL);
  check("ping", -ELOOP, NULL);
  check("ping/x", -ELOOP, NULL);

  static char text[BENEATH_PATH_MAX + 2];
  memset(text, 'x', 256);
  check(text, -ENAMETOOLONG, NULL);
  memset(text, 'x', sizeof text - 1);
  check(text, -ENAMETOOLONG, NULL);
  memset(text, '/', sizeof text - 1);
  memcpy(text, "a", 1);
  memcpy(text + BENEATH_PATH_MAX - 2, "f\0", 2);
  check(text, 0, "root/a/f");
  /* Steps have an end: each ".." begins anew, and that many are not worth it. */
  for (size_t i = 0; i + 5 < BENEATH_PATH_MAX; i += 5) memcpy(text + i, "a/../\0", 6);
  EQUAL(by_walk(text), -ELOOP);
}

/* The kernel and the walk agree on any path. */
static void random_paths(void) {
  static const char *const names[] = {"a", "b", "f", "..", "..", ".", "", "to_b", "up", "root", "out", "missing",
                                      "chain", "up_f", "to_b_slash", "self", "absolute", "dangling"};
  if (!has_openat2) {
    fprintf(stderr, "skipped: openat2 beside the walk (install Linux 5.6 or later)\n");
    return;
  }
  uint32_t seed = 1, found = 0;
  int before = open_fds();
  for (int round = 0; round < 20000; round++) {
    char path[128] = "";
    for (uint32_t left = 1 + (seed >> 8) % 8; left > 0; left--) {
      seed = seed * 1664525 + 1013904223;
      strcat(path, names[(seed >> 16) % (sizeof names / sizeof *names)]);
      if (left > 1 || (seed >> 12) % 4 == 0) strcat(path, "/");
    }
    check_context = path;
    int kernel = beneath_openat2(root, path, false), own = by_walk(path);
    EQUAL(own < 0 ? own : 0, kernel < 0 ? kernel : 0);
    if (kernel < 0) continue;
    struct stat a, b;
    EQUAL(fstat(kernel, &a), 0);
    EQUAL(fstat(own, &b), 0);
    EQUAL(a.st_ino, b.st_ino);
    close(kernel), close(own), found++;
  }
  check_context = "";
  CHECK(found > 1000);
  EQUAL(open_fds(), before);
}

/* A process makes "a" a link that leads out, and a directory again, as fast as it can. What is found is never outside. */
static void race(void) {
  put_link("../outside", "root/x");
  pid_t other = fork();
  CHECK(other >= 0);
  if (other == 0) {
    for (;;)
      if (syscall(SYS_renameat2, root, "a", root, "x", RENAME_EXCHANGE) < 0) _exit(1);
  }
  int found = 0, refused = 0;
  for (int round = 0; round < 200000 && (found < 100 || refused < 100); round++) {
    for (int way = 0; way < 2; way++) {
      if (way == 0 && !has_openat2) continue;
      int fd = way == 0 ? beneath_openat2(root, "a/f", false) : by_walk("a/f");
      check_context = "race";
      if (fd < 0) {
        CHECK(fd == -EXDEV || fd == -ENOTDIR || fd == -EAGAIN);
        refused++;
        continue;
      }
      CHECK(strcmp(text_of(fd), "root/a/f") == 0);
      close(fd);
      found++;
    }
  }
  EQUAL(kill(other, SIGKILL), 0);
  int status;
  EQUAL(waitpid(other, &status, 0), other);
  CHECK(WIFSIGNALED(status)); /* it did exchange them, all the time */
  CHECK(found > 0);
  EQUAL(unlinkat(root, "x", 0) == 0 || unlinkat(root, "a", 0) == 0, 1);
  (void)renameat(root, "x", root, "a");
}

int main(void) {
  build();
  table();
  random_paths();
  race();
  static const char *const names[] = {
      "root/a/b/up", "root/a/b/root", "root/a/b/out", "root/a/b/f", "root/a/b", "root/a/up_f", "root/a/f", "root/a",
      "root/f", "root/to_b", "root/to_b_slash", "root/out", "root/out_f", "root/absolute", "root/absolute_directory",
      "root/chain", "root/chain_long", "root/chain_out", "root/self", "root/ping", "root/pong", "root/dangling",
      "root/dots", "root/magic", "root/fifo", "root", "outside/f", "outside", "secret", NULL};
  char folder[64] = "", link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", top);
  clean_up(top, names);
  ssize_t size = readlink(link, folder, sizeof folder - 1);
  CHECK(size > 0);
  EQUAL(rmdir(folder), 0);
  return 0;
}
