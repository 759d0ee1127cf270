/* http_request.h: the head of an HTTP/1.x request, parsed as it arrives.
 *
 * The caller keeps the bytes; the parser keeps offsets. A line is looked at once, when its end has arrived, so a
 * request that comes byte by byte costs what one in a single piece costs, and the outcome is the same.
 *
 * It is strict where leniency lets two servers disagree on where a request ends (request smuggling): a line ends with
 * CR LF and has no other CR, no space stands before a colon, no field is folded, and Content-Length comes once.
 *
 * Bounds: HTTP_HEAD_MAX bytes of head, HTTP_LINE_MAX bytes of request line, HTTP_FIELDS_MAX fields. Nothing is stored
 * of a field but what it means for this server, or where its value lies when that depends on a file. RFC 9110 and
 * RFC 9112 are quoted by section. */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HTTP_HEAD_MAX   12288 /* what the caller's buffer must hold */
#define HTTP_LINE_MAX   8000  /* RFC 9112, 3: "at a minimum, request-line lengths of 8000 octets" */
#define HTTP_FIELDS_MAX 100

enum http_method { HTTP_METHOD_UNKNOWN, HTTP_METHOD_GET, HTTP_METHOD_HEAD, HTTP_METHOD_OTHER };

/* The fields whose meaning only the file decides that is asked for: http_file.h. */
enum http_condition {
  HTTP_IF_MATCH,
  HTTP_IF_NONE_MATCH,
  HTTP_IF_MODIFIED_SINCE,
  HTTP_IF_UNMODIFIED_SINCE,
  HTTP_IF_RANGE,
  HTTP_RANGE,
  HTTP_CONDITIONS
};

/* Where the value of a field lies, from the first byte of the head. */
struct http_value {
  uint32_t at, size; /* size 0 although present: it came twice, and means nothing */
  bool present;
};

/* All zero: nothing has arrived yet. */
struct http_request {
  uint32_t line;            /* where the line begins whose end is awaited */
  uint32_t scanned;         /* no line feed between `line` and here */
  uint32_t path, path_size; /* from the first byte of the head; without the query; size 0 stands for "/" */
  uint32_t fields;
  uint8_t method;
  uint8_t minor; /* of the version, 1.x */
  bool has_line, has_host, has_length, has_encoding;
  bool close, keep_alive; /* Connection said so */
  bool expect_continue;
  uint64_t content_length; /* saturated at UINT64_MAX */
  bool has_condition;
  struct http_value conditions[HTTP_CONDITIONS];
};

/* Does the connection outlive this request? RFC 9112, 9.3. */
static inline bool http_request_persists(const struct http_request *request) {
  return !request->close && (request->minor > 0 || request->keep_alive);
}

static inline bool http_is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* What a character may be part of. */
enum http_part {
  HTTP_TOKEN = 1,  /* letters, digits, !#$%&'*+-.^_`|~ (tchar, RFC 9110, 5.6.2) */
  HTTP_HOST = 2,   /* letters, digits, -._~%!$&'()*+;=:[] (RFC 3986, 3.2.2 and 3.2.3) */
  HTTP_VALUE = 4,  /* of a field: no CR, NUL and the like */
  HTTP_TARGET = 8, /* visible ASCII, but for '#' */
};

static const uint8_t http_parts[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  4,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     4, 15, 12,  5, 15, 15, 15, 15, 14, 14, 15, 15, 12, 15, 15, 12,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 12, 14, 12, 12,
    12, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 12, 14, 13, 15,
    13, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 12, 13, 12, 15,  0,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
};

static inline bool http_consists_of(enum http_part part, const char *text, size_t size) {
  unsigned all = part;
  for (size_t i = 0; i < size; i++) all &= http_parts[(unsigned char)text[i]];
  return all != 0;
}

static inline bool http_is_token(const char *text, size_t size) {
  return size > 0 && http_consists_of(HTTP_TOKEN, text, size);
}

static inline char http_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

/* The same word in any case; `word` in lower case. No strcasecmp(3), which asks the locale. */
static inline bool http_is_word(const char *text, size_t size, const char *word) {
  if (strlen(word) != size) return false;
  for (size_t i = 0; i < size; i++)
    if (http_lower(text[i]) != word[i]) return false;
  return true;
}

/* Is the word an element of a comma-separated list? */
static inline bool http_list_has(const char *text, size_t size, const char *word) {
  const char *end = text + size;
  while (text < end) {
    const char *comma = memchr(text, ',', (size_t)(end - text));
    const char *last = comma != NULL ? comma : end;
    const char *stop = last;
    while (text < stop && (*text == ' ' || *text == '\t')) text++;
    while (stop > text && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
    if (http_is_word(text, (size_t)(stop - text), word)) return true;
    text = last + 1;
  }
  return false;
}

/* method SP request-target SP HTTP-version. Returns 0 or the status that refuses it. */
static inline int http_request_line(struct http_request *request, const char *head, const char *line, size_t size) {
  static const char *const others[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
  const char *space = memchr(line, ' ', size);
  if (space == NULL || !http_is_token(line, (size_t)(space - line))) return 400;
  size_t method_size = (size_t)(space - line);
  if (method_size == 3 && memcmp(line, "GET", 3) == 0)
    request->method = HTTP_METHOD_GET;
  else if (method_size == 4 && memcmp(line, "HEAD", 4) == 0)
    request->method = HTTP_METHOD_HEAD;
  else
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
      if (strlen(others[i]) == method_size && memcmp(line, others[i], method_size) == 0)
        request->method = HTTP_METHOD_OTHER;

  const char *target = space + 1;
  const char *end = line + size;
  if (end - target < 10) /* one byte of target, a space, "HTTP/1.1" */
    return 400;
  const char *version = end - 8;
  if (version[-1] != ' ' || memcmp(version, "HTTP/", 5) != 0 || version[5] < '0' || version[5] > '9' ||
      version[6] != '.' || version[7] < '0' || version[7] > '9')
    return 400;
  if (version[5] != '1') return 505;
  request->minor = (uint8_t)(version[7] - '0');

  end = version - 1;
  if (!http_consists_of(HTTP_TARGET, target, (size_t)(end - target))) return 400;
  if (end - target > 7 && http_is_word(target, 7, "http://")) { /* absolute-form: RFC 9112, 3.2.2 */
    const char *authority = target + 7;
    target = authority;
    while (target < end && *target != '/' && *target != '?') target++;
    if (target == authority) return 400;
  } else if (*target != '/' && request->method != HTTP_METHOD_OTHER) { /* "*" and "host:port" are for others */
    return 400;
  }
  const char *query = memchr(target, '?', (size_t)(end - target));
  request->path = (uint32_t)(target - head);
  request->path_size = (uint32_t)((query != NULL ? query : end) - target);
  return 0;
}

/* Content-Length: digits, once. A list of equal numbers could be taken; refusing is also right (RFC 9112, 6.3). */
static inline int http_content_length(struct http_request *request, const char *value, size_t size) {
  if (request->has_length || size == 0) return 400;
  request->has_length = true;
  for (size_t i = 0; i < size; i++) {
    if (value[i] < '0' || value[i] > '9') return 400;
    uint64_t digit = (uint64_t)(value[i] - '0');
    bool fits = request->content_length <= (UINT64_MAX - digit) / 10;
    request->content_length = fits ? request->content_length * 10 + digit : UINT64_MAX;
  }
  return 0;
}

/* Keeps where the value lies if the field is a condition. */
static inline void http_condition_field(struct http_request *request, const char *name, size_t name_size, size_t at,
                                        size_t size) {
  static const char *const names[HTTP_CONDITIONS] = {
      "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"};
  for (size_t i = 0; i < HTTP_CONDITIONS; i++) {
    struct http_value *value = &request->conditions[i];
    if (!http_is_word(name, name_size, names[i])) continue;
    value->size = value->present ? 0 : (uint32_t)size;
    value->at = (uint32_t)at;
    value->present = request->has_condition = true;
  }
}

/* field-name ":" OWS field-value OWS. Returns 0 or the status that refuses it. */
static inline int http_request_field(struct http_request *request, const char *head, const char *line, size_t size) {
  if (++request->fields > HTTP_FIELDS_MAX) return 431;
  const char *colon = memchr(line, ':', size);
  size_t name_size = colon != NULL ? (size_t)(colon - line) : 0;
  if (!http_is_token(line, name_size)) /* so neither "name :", nor a folded line, nor one without a colon */
    return 400;
  const char *value = colon + 1;
  size_t value_size = size - name_size - 1;
  if (!http_consists_of(HTTP_VALUE, value, value_size)) return 400;
  while (value_size > 0 && (*value == ' ' || *value == '\t')) value++, value_size--;
  while (value_size > 0 && (value[value_size - 1] == ' ' || value[value_size - 1] == '\t')) value_size--;

  if (http_is_word(line, name_size, "host")) {
    if (request->has_host) /* RFC 9112, 3.2: more than one is 400 */
      return 400;
    request->has_host = true;
    if (!http_consists_of(HTTP_HOST, value, value_size)) return 400;
  } else if (http_is_word(line, name_size, "content-length")) {
    return http_content_length(request, value, value_size);
  } else if (http_is_word(line, name_size, "transfer-encoding")) {
    request->has_encoding = true;
  } else if (http_is_word(line, name_size, "connection")) {
    request->close = request->close || http_list_has(value, value_size, "close");
    request->keep_alive = request->keep_alive || http_list_has(value, value_size, "keep-alive");
  } else if (http_is_word(line, name_size, "expect")) {
    if (!http_is_word(value, value_size, "100-continue")) return 417;
    request->expect_continue = request->minor > 0; /* RFC 9110, 10.1.1: ignored in HTTP/1.0 */
  } else {
    http_condition_field(request, line, name_size, (size_t)(value - head), value_size);
  }
  return 0;
}

/* What can only be said when all fields are there. */
static inline int http_request_verdict(const struct http_request *request) {
  if (request->minor > 0 && !request->has_host) return 400;
  if (request->has_encoding) /* with a length, or in HTTP/1.0: smuggling (RFC 9112, 6.1); alone: not known here */
    return request->has_length || request->minor == 0 ? 400 : 501;
  return 0;
}

/* Parses on, as far as the bytes go: `head` is the first byte of this request, `size` all that has arrived since.
 * Returns the size of the head when it is complete, 0 when more is needed, or minus the status that refuses it. */
static inline int http_request_parse(struct http_request *request, const char *head, size_t size) {
  if (size > HTTP_HEAD_MAX) size = HTTP_HEAD_MAX;
  while (request->scanned < size) {
    const char *feed = memchr(head + request->scanned, '\n', size - request->scanned);
    const char *line = head + request->line;
    size_t line_size = feed != NULL ? (size_t)(feed - line) : size - request->line;
    if (!request->has_line && line_size > HTTP_LINE_MAX + 1) /* 1: the CR */
      return -414;
    if (feed == NULL) {
      request->scanned = (uint32_t)size;
      break;
    }
    request->line = request->scanned = (uint32_t)(feed + 1 - head);
    if (line_size == 0 || line[line_size - 1] != '\r') return -400;
    line_size--;
    int status = 0;
    if (request->has_line && line_size == 0) {
      status = http_request_verdict(request);
      return status != 0 ? -status : (int)request->line;
    }
    if (request->has_line) {
      status = http_request_field(request, head, line, line_size);
    } else if (line_size > 0) { /* empty lines before a request are skipped: RFC 9112, 2.2 */
      status = http_request_line(request, head, line, line_size);
      request->has_line = true;
    }
    if (status != 0) return -status;
  }
  return size == HTTP_HEAD_MAX ? -431 : 0;
}

#endif
