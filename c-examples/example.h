/* What the examples share: lines on the standard streams, errors, options.
 *
 * Nothing here allocates. printf(3) and its relatives write to streams, whose buffers the C library allocates;
 * a line on the stack and write(2) do not. An example names itself in PROGRAM, and its options in USAGE. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <becket.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MILLISECOND UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

/* Prints one line, "PROGRAM: ...". What is too long is cut off. */
static inline void say(const char *format, ...) {
  char line[256] = PROGRAM ": ";
  size_t prefix = sizeof PROGRAM + 1;
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
  va_end(arguments);
  strcat(line, "\n");
  if (length < 0 || write(STDOUT_FILENO, line, strlen(line)) < 0) exit(EXIT_FAILURE);
}

/* Prints what went wrong, and why: `code` is a negative errno value, as becket's functions return it. */
static inline int fail(const char *what, int code) {
  char line[256];
  int length = snprintf(line, sizeof line, PROGRAM ": %s: %s\n", what, becket_strerror(code));
  if (length < 0 || write(STDERR_FILENO, line, strlen(line)) < 0) return EXIT_FAILURE;
  return EXIT_FAILURE;
}

/* For calls that fail only by a mistake in the program, or because it cannot do its work at all. */
static inline int must(const char *what, int code) {
  if (code < 0) exit(fail(what, code));
  return code;
}

/* Answers --help, or an option that nobody knows. */
static inline int usage(int help) {
  if (write(help ? STDOUT_FILENO : STDERR_FILENO, USAGE, sizeof USAGE - 1) < 0) return EXIT_FAILURE;
  return help ? EXIT_SUCCESS : 2;
}

/* Takes argv[*index] and its value when they say `--backend NAME`. */
static inline int backend_option(char **argv, int *index, becket_config *config) {
  /* In the order of BECKET_BACKEND_AUTO, _SELECT, …; the last has two names. */
  static const char *const names[] = {"auto", "select", "poll", "epoll", "uring", "io_uring"};
  if (strcmp(argv[*index], "--backend") != 0 || argv[*index + 1] == NULL) return 0;
  for (uint32_t backend = 0; backend < sizeof names / sizeof *names; backend++) {
    if (strcmp(argv[*index + 1], names[backend]) != 0) continue;
    config->backend = backend < BECKET_BACKEND_IO_URING ? backend : BECKET_BACKEND_IO_URING;
    *index += 1;
    return 1;
  }
  return 0;
}

/* Takes argv[*index] and its value when they say `--files NAME`: the engine for file operations. */
static inline int files_option(char **argv, int *index, becket_config *config) {
  static const char *const names[] = {"auto", "uring", "aio", "aio-signal", "none"};
  static const uint32_t engines[] = {BECKET_FILES_AUTO, BECKET_FILES_IO_URING, BECKET_FILES_AIO, BECKET_FILES_AIO_SIGNAL,
                                     BECKET_FILES_NONE};
  if (strcmp(argv[*index], "--files") != 0 || argv[*index + 1] == NULL) return 0;
  for (size_t engine = 0; engine < sizeof names / sizeof *names; engine++) {
    if (strcmp(argv[*index + 1], names[engine]) != 0) continue;
    config->files = engines[engine];
    *index += 1;
    return 1;
  }
  return 0;
}

/* Reads a number of at most `limit`. */
static inline int number_argument(const char *text, unsigned long limit, unsigned long *number) {
  if (strlen(text) == 0 || strlen(text) > 9 || strspn(text, "0123456789") != strlen(text)) return 0;
  unsigned long value = strtoul(text, NULL, 10);
  if (value > limit) return 0;
  *number = value;
  return 1;
}

/* Takes argv[*index] and its value when they say `name NUMBER`, with a number of at most `limit`. */
static inline int number_option(char **argv, int *index, const char *name, unsigned long limit, unsigned long *number) {
  if (strcmp(argv[*index], name) != 0 || argv[*index + 1] == NULL) return 0;
  if (!number_argument(argv[*index + 1], limit, number)) return 0;
  *index += 1;
  return 1;
}

#endif
