/* Loaded by LD_PRELOAD: counts the calls of the allocator that a program makes, its libc's own ones included.
 *
 * At exit it appends the line "<pid> <calls>" to the file that $BECKET_COUNT_FILE names; a program that starts others
 * thus gets one line for each. It allocates nothing itself. The real work is done by glibc's own entry points, so it is
 * for glibc only. A process that ends by _exit or by a signal leaves no line: the test then fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

/* Not in every feature set of <stdlib.h>. */
void *memalign(size_t alignment, size_t size);
void *pvalloc(size_t size);

static atomic_ulong calls;

static void count(void) { atomic_fetch_add(&calls, 1); }

void *malloc(size_t size) {
  count();
  return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
  count();
  return __libc_calloc(n, size);
}

void *realloc(void *block, size_t size) {
  count();
  return __libc_realloc(block, size);
}

void *reallocarray(void *block, size_t n, size_t size) {
  count();
  if (size != 0 && n > SIZE_MAX / size) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_realloc(block, n * size);
}

void free(void *block) {
  count();
  __libc_free(block);
}

void *memalign(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
  count();
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *memory = __libc_memalign(alignment, size);
  if (memory == NULL) return ENOMEM;
  *block = memory;
  return 0;
}

void *valloc(size_t size) {
  count();
  return __libc_memalign((size_t)sysconf(_SC_PAGESIZE), size);
}

void *pvalloc(size_t size) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  count();
  return __libc_memalign(page, (size + page - 1) / page * page);
}

/* Appends a number in decimal to the end of what stands before `end`; the place where it starts. */
static char *decimal(char *end, unsigned long number) {
  do {
    *--end = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  return end;
}

__attribute__((destructor)) static void report(void) {
  unsigned long total = atomic_load(&calls);
  const char *path = getenv("BECKET_COUNT_FILE");
  char line[64];
  char *start = line + sizeof line;
  int fd;
  if (path == NULL) return;
  fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return;
  *--start = '\n';
  start = decimal(start, total);
  *--start = ' ';
  start = decimal(start, (unsigned long)getpid());
  /* A line that is cut short does not parse: the test then fails, which is what it should do. */
  if (write(fd, start, (size_t)(line + sizeof line - start)) < 0) {
    static const char message[] = "count_malloc: cannot write the count\n";
    (void)!write(2, message, sizeof message - 1);
  }
  close(fd);
}
