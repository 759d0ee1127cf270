/* httpd_text.h: text without stdio, whose streams allocate their buffers; numbers are all that is formatted here. */
#ifndef HTTPD_TEXT_H
#define HTTPD_TEXT_H

#include <becket.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct text {
  char *at, *end;
};

static void put_bytes(struct text *text, const char *bytes, size_t size) {
  size_t room = (size_t)(text->end - text->at);
  size = size < room ? size : room; /* cut, never beyond; those who call leave room */
  memcpy(text->at, bytes, size);
  text->at += size;
}

static inline void put(struct text *text, const char *string) {
  put_bytes(text, string, strlen(string));
}

/* All of these, in turn. */
static void put_all(struct text *text, const char *const *parts) {
  while (*parts != NULL) put(text, *parts++);
}
#define PUT(text, ...) put_all(text, (const char *const[]){__VA_ARGS__, NULL})

static void put_number(struct text *text, uint64_t number) {
  char digits[20];
  size_t first = sizeof digits;
  do digits[--first] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  put_bytes(text, digits + first, sizeof digits - first);
}

/* A member of a JSON object, after the first. */
static void put_field(struct text *text, const char *name, uint64_t number) {
  PUT(text, ",\"", name, "\":");
  put_number(text, number);
}

/* One line, in one write: "httpd: " and the parts until NULL. A terminal that is gone is no reason to stop. */
static void say(int fd, const char *const *parts) {
  char line[512];
  struct text text = {line, line + sizeof line - 1};
  put(&text, "httpd: ");
  put_all(&text, parts);
  *text.at++ = '\n';
  if (write(fd, line, (size_t)(text.at - line)) < 0) return;
}
#define SAY(fd, ...)    say(fd, (const char *const[]){__VA_ARGS__, NULL})
#define FAIL(code, ...) (SAY(STDERR_FILENO, __VA_ARGS__), exit(code))

static const char *number_text(uint64_t number, char room[static 21]) {
  struct text text = {room, room + 20};
  put_number(&text, number);
  *text.at = '\0';
  return room;
}

/* A negative answer of becket that a correct program never gets: say where, and stop. */
static void must(int code, const char *what) {
  if (code < 0) FAIL(1, what, ": ", becket_strerror(code));
}

#endif
