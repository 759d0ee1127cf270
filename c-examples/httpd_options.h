/* httpd_options.h: what the command line says. */
#ifndef HTTPD_OPTIONS_H
#define HTTPD_OPTIONS_H

#include <becket.h>
#include <stdint.h>
#include <string.h>

#include "httpd_text.h"

#define CONNECTIONS_MAX 1000 /* select(2) knows 1024 fds; the rest is for the listener and the loop's own */
#define BLOCKS_MAX      64   /* of files, in memory at once; as many operations at once */
#define DAY_MS          86400000

/* In the order of BECKET_BACKEND_AUTO, _SELECT, …; the last has two names. */
static const char *const backends[] = {"auto", "select", "poll", "epoll", "uring", "io_uring", NULL};
/* In the order of BECKET_FILES_AUTO, _IO_URING, …; behind them pread(2) in the handler, for which everybody waits. */
static const char *const files_names[] = {"auto", "uring", "aio", "aio-signal", "read", NULL};
enum { FILES_IN_HANDLER = BECKET_FILES_AIO_SIGNAL + 1 };
static const char *const open_names[] = {"auto", "operation", "walk", NULL};
enum { OPEN_AUTO, OPEN_BY_OPERATION, OPEN_BY_WALK };

static struct {
  const char *address, *root;
  uint64_t port, connections, blocks, send_buffer, request_timeout_ms, idle_timeout_ms, disk_timeout_ms, lateness_ms;
  uint32_t backend, files, open;
} options = {.address = "127.0.0.1",
             .port = 8080,
             .connections = CONNECTIONS_MAX,
             .blocks = 16, /* more keep no disk busier, but the loop: what the kernel has read it copies in the loop's own time */
             .request_timeout_ms = 10000,
             .idle_timeout_ms = 30000,
             .disk_timeout_ms = 30000};

/* What takes a text, a number within bounds, or one of several names. */
static const struct option {
  const char *name, *value, *help;
  const char **text;
  uint64_t *number, least, most;
  uint32_t *choice;
  const char *const *choices;
} option_table[] = {
    {"--root", "DIR", "serve the files beneath DIR", .text = &options.root},
    {"--port", "N", "port to listen on, 0 for any free one (8080)", .number = &options.port, .most = 65535},
    {"--address", "A", "IPv4 address to listen on (127.0.0.1)", .text = &options.address},
    {"--backend", "B", "select, poll, epoll, uring or auto (auto)", .choice = &options.backend, .choices = backends},
    {"--files", "F", "who reads files: uring, aio, aio-signal; auto, the best of them, for what is not in memory; or\n"
                     "                           read, in the handler, where everybody waits for the disk (auto)",
     .choice = &options.files, .choices = files_names},
    {"--open", "O", "how files are opened: by an operation; by a walk, a name at a time, as where there is no\n"
                    "                           openat2; or auto, at once for names that the kernel has in its cache (auto)",
     .choice = &options.open, .choices = open_names},
    {"--connections", "N", "clients served at the same time (1000)",
     .number = &options.connections, .least = 1, .most = CONNECTIONS_MAX},
    {"--blocks", "N", "blocks that files go through (16)", .number = &options.blocks, .least = 1, .most = BLOCKS_MAX},
    {"--send-buffer", "N", "bytes that the kernel keeps for a client that is slow (0: what it likes)",
     .number = &options.send_buffer, .most = 1 << 30},
    {"--request-timeout-ms", "N", "from a request's first byte to its last, and to send an answer (10000)",
     .number = &options.request_timeout_ms, .least = 1, .most = DAY_MS},
    {"--idle-timeout-ms", "N", "between requests (30000)",
     .number = &options.idle_timeout_ms, .least = 1, .most = DAY_MS},
    {"--disk-timeout-ms", "N", "for a file to be opened, and for each block of it to be read (30000)",
     .number = &options.disk_timeout_ms, .least = 1, .most = DAY_MS},
    {"--lateness-ms", "N", "measure how late a timer of this period is (0: do not)",
     .number = &options.lateness_ms, .most = 60000},
};
#define HELP_COLUMN 27
#define OPTIONS     (sizeof option_table / sizeof *option_table)

static void options_help(void) {
  char room[4096];
  struct text text = {room, room + sizeof room};
  put(&text, "usage: httpd [options]\n");
  for (size_t i = 0; i < OPTIONS; i++) {
    const char *line = text.at;
    PUT(&text, "  ", option_table[i].name, " ", option_table[i].value);
    while (text.at < line + HELP_COLUMN) put(&text, " ");
    PUT(&text, option_table[i].help, "\n");
  }
  put(&text, "  --help                   this text\n"
             "Then open http://127.0.0.1:8080/_status for the loop at work; /_status.json is the same as JSON, /hello says hello.\n");
  exit(write(STDOUT_FILENO, room, (size_t)(text.at - room)) < 0);
}

static uint64_t option_number(const struct option *option, const char *value) {
  char from[21], to[21];
  uint64_t number = 0;
  size_t digits = 0;
  while (digits < 10 && value[digits] >= '0' && value[digits] <= '9')
    number = number * 10 + (uint64_t)(value[digits++] - '0');
  if (digits == 0 || value[digits] != '\0' || number < option->least || number > option->most)
    FAIL(2, option->name, " takes a number from ", number_text(option->least, from), " to ", number_text(option->most, to),
         ", not '", value, "'");
  return number;
}

static uint32_t option_choice(const struct option *option, const char *value) {
  uint32_t choice = 0;
  while (option->choices[choice] != NULL && strcmp(value, option->choices[choice]) != 0) choice++;
  if (option->choices[choice] == NULL) FAIL(2, option->name, " does not take '", value, "' (--help says what it takes)");
  return choice;
}

static void read_options(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--help") == 0) options_help();
    const struct option *option = option_table;
    while (option < option_table + OPTIONS && strcmp(name, option->name) != 0) option++;
    if (option == option_table + OPTIONS) FAIL(2, "no such option: ", name, " (--help lists them)");
    if (++i == count) FAIL(2, name, " takes a value (--help lists the options)");
    if (option->text != NULL) *option->text = arguments[i];
    if (option->number != NULL) *option->number = option_number(option, arguments[i]);
    if (option->choice != NULL) *option->choice = option_choice(option, arguments[i]);
  }
  if (options.backend > BECKET_BACKEND_IO_URING) options.backend = BECKET_BACKEND_IO_URING; /* by its other name */
}

#endif
