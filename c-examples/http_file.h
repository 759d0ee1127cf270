/* http_file.h: what a request for a file means, once the file is known. Pure functions on text and numbers.
 *
 *   path        percent-decoding, in place
 *   media type  by the name's extension
 *   validators  ETag and Last-Modified; the five conditional fields decide between 200, 206, 304, 412
 *   range       one range of bytes; several at once are answered with the whole file, as a server may (RFC 9110, 14.2)
 *
 * RFC 9110 is quoted by section. */
#ifndef HTTP_FILE_H
#define HTTP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "http_date.h"
#include "http_request.h"

#define HTTP_ETAG_MAX 56 /* three numbers of at most 16 hexadecimal digits, their separators, two quotes */

/* A version of a file: what its validators are made of. */
struct http_file {
  uint64_t size;
  uint64_t inode;
  int64_t modified; /* seconds since 1970 */
  uint32_t modified_ns;
};

/* What to answer: a status, and of a file the bytes from `first` to before `end`. */
struct http_verdict {
  int status; /* 200, 206, 304, 412, 416 */
  uint64_t first, end;
};

/* ---- The path --------------------------------------------------------------------------------------------------- */

static inline int http_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes %XX in place. Returns the size that remains, or minus the status that refuses it: 400 for what is no encoding
 * and for a NUL, which would end the path elsewhere than it ends; 404 for an encoded slash, which is no separator but part
 * of a name, and no file has it in its name. */
static inline int http_path_decode(char *path, size_t size) {
  size_t to = 0;
  for (size_t from = 0; from < size; to++) {
    if (path[from] != '%') {
      path[to] = path[from++];
      continue;
    }
    int high = size - from > 2 ? http_hex(path[from + 1]) : -1;
    int low = size - from > 2 ? http_hex(path[from + 2]) : -1;
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return -400;
    path[to] = (char)(high * 16 + low);
    if (path[to] == '/') return -404;
    from += 3;
  }
  return (int)to;
}

/* ---- The media type --------------------------------------------------------------------------------------------- */

#define HTTP_MEDIA_TYPE_BYTES "application/octet-stream" /* of what is unknown; a browser saves it and does not interpret it */

/* By the extension, in any case. */
static inline const char *http_media_type(const char *path, size_t size) {
  static const struct {
    char extension[8]; /* with zeros behind it, as `last` below: one comparison each */
    const char *type;
  } types[] = {
      {"html", "text/html; charset=utf-8"},
      {"htm", "text/html; charset=utf-8"},
      {"css", "text/css; charset=utf-8"},
      {"js", "text/javascript; charset=utf-8"},
      {"mjs", "text/javascript; charset=utf-8"},
      {"json", "application/json"},
      {"txt", "text/plain; charset=utf-8"},
      {"md", "text/markdown; charset=utf-8"},
      {"csv", "text/csv; charset=utf-8"},
      {"xml", "application/xml"},
      {"svg", "image/svg+xml"},
      {"png", "image/png"},
      {"jpg", "image/jpeg"},
      {"jpeg", "image/jpeg"},
      {"gif", "image/gif"},
      {"webp", "image/webp"},
      {"avif", "image/avif"},
      {"ico", "image/x-icon"},
      {"woff2", "font/woff2"},
      {"wasm", "application/wasm"},
      {"pdf", "application/pdf"},
      {"zip", "application/zip"},
      {"gz", "application/gzip"},
      {"mp3", "audio/mpeg"},
      {"ogg", "audio/ogg"},
      {"mp4", "video/mp4"},
      {"webm", "video/webm"},
  };
  char last[sizeof types->extension] = {0};
  size_t start = size;
  while (start > 0 && path[start - 1] != '.' && path[start - 1] != '/') start--;
  if (start == 0 || path[start - 1] != '.' || size - start >= sizeof last) return HTTP_MEDIA_TYPE_BYTES;
  for (size_t i = start; i < size; i++) last[i - start] = http_lower(path[i]);
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    if (memcmp(last, types[i].extension, sizeof last) == 0) return types[i].type;
  return HTTP_MEDIA_TYPE_BYTES;
}

/* ---- Validators ------------------------------------------------------------------------------------------------- */

/* The strong ETag of a version, in quotes: inode, size, and time of modification to the nanosecond. Returns its size. */
static inline size_t http_etag_write(const struct http_file *file, char text[static HTTP_ETAG_MAX]) {
  uint64_t time = (uint64_t)file->modified * 1000000000 + file->modified_ns; /* may wrap: it is compared, no more */
  const uint64_t numbers[] = {file->inode, file->size, time};
  size_t size = 0;
  text[size++] = '"';
  for (size_t i = 0; i < 3; i++) {
    if (i > 0) text[size++] = '-';
    int shift = 60;
    while (shift > 0 && numbers[i] >> shift == 0) shift -= 4;
    for (; shift >= 0; shift -= 4) text[size++] = "0123456789abcdef"[numbers[i] >> shift & 15];
  }
  text[size++] = '"';
  return size;
}

/* The fields that say which version of a file it is, as they stand in an answer. */
struct http_validators {
  struct http_file file;
  size_t size; /* 0: none yet */
  char fields[HTTP_ETAG_MAX + HTTP_DATE_SIZE + 32];
};

/* Those of a few files are kept as they were written: files are asked for again. Good until the next call. */
static inline const struct http_validators *http_validators_of(const struct http_file *file) {
  static struct http_validators kept[16];
  struct http_validators *it = &kept[file->inode % (sizeof kept / sizeof *kept)];
  const struct http_file *is = &it->file;
  if (it->size > 0 && is->inode == file->inode && is->size == file->size && is->modified == file->modified &&
      is->modified_ns == file->modified_ns)
    return it;
  static const char tag[] = "\r\nETag: ", date[] = "\r\nLast-Modified: ";
  it->file = *file;
  it->size = sizeof tag - 1;
  memcpy(it->fields, tag, sizeof tag);
  it->size += http_etag_write(file, it->fields + it->size);
  memcpy(it->fields + it->size, date, sizeof date);
  it->size += sizeof date - 1;
  http_date_write(file->modified, it->fields + it->size);
  it->size += HTTP_DATE_SIZE;
  return it;
}

/* Is the tag in the list, or is the list "*"? Weak comparison takes W/"x" for "x", strong does not (8.8.3.2). What is
 * no list of tags matches up to where it goes wrong. */
static inline bool http_etag_listed(const char *list, size_t size, const char *tag, size_t tag_size, bool weak) {
  const char *at = list, *end = list + size;
  if (size == 1 && *list == '*') return true;
  while (at < end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == ',')) at++;
    bool is_weak = end - at >= 2 && at[0] == 'W' && at[1] == '/';
    if (is_weak) at += 2;
    if (at == end || *at != '"') return false;
    const char *close = memchr(at + 1, '"', (size_t)(end - at - 1));
    if (close == NULL) return false;
    size_t this_size = (size_t)(close + 1 - at);
    if ((weak || !is_weak) && this_size == tag_size && memcmp(at, tag, tag_size) == 0) return true;
    at = close + 1;
  }
  return false;
}

/* ---- Range ------------------------------------------------------------------------------------------------------ */

/* Digits, saturated at UINT64_MAX; false: it is no number. */
static inline bool http_range_number(const char *text, size_t size, uint64_t *number) {
  *number = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    uint64_t digit = (uint64_t)(text[i] - '0');
    *number = *number <= (UINT64_MAX - digit) / 10 ? *number * 10 + digit : UINT64_MAX;
  }
  return size > 0;
}

/* bytes=2-5, bytes=2-, bytes=-5 of a file of that size. Returns 206 and the bytes; 416 when there are none of these;
 * 200 when the field is to be ignored: another unit, several ranges, not well-formed (14.2). */
static inline int http_range(const char *value, size_t size, uint64_t file_size, uint64_t *first, uint64_t *end) {
  uint64_t from, to;
  if (size < 6 || !http_is_word(value, 6, "bytes=")) return 200;
  const char *text = value + 6;
  size_t left = size - 6;
  while (left > 0 && (*text == ' ' || *text == '\t')) text++, left--;
  const char *dash = memchr(text, '-', left);
  if (dash == NULL) return 200;
  size_t from_size = (size_t)(dash - text), to_size = left - from_size - 1;
  if (from_size == 0) {
    if (!http_range_number(dash + 1, to_size, &to)) return 200;
    if (to == 0 || file_size == 0) return 416;
    *first = to < file_size ? file_size - to : 0;
    *end = file_size;
    return 206;
  }
  if (!http_range_number(text, from_size, &from)) return 200;
  if (to_size == 0)
    to = UINT64_MAX;
  else if (!http_range_number(dash + 1, to_size, &to) || to < from)
    return 200;
  if (from >= file_size) return 416;
  *first = from;
  *end = to < file_size - 1 ? to + 1 : file_size;
  return 206;
}

/* ---- All together ----------------------------------------------------------------------------------------------- */

/* Weighs the conditions of a request in the order of 13.2.2. `head` is its first byte; `now`, in seconds since 1970. */
static inline struct http_verdict http_file_verdict(const struct http_request *request, const char *head,
                                                    const struct http_file *file, int64_t now) {
  struct http_verdict verdict = {200, 0, file->size};
  if (!request->has_condition) return verdict;
  const struct http_value *c = request->conditions;
  char tag[HTTP_ETAG_MAX];
  const char *text[HTTP_CONDITIONS];
  int64_t dates[HTTP_CONDITIONS];
  for (size_t i = 0; i < HTTP_CONDITIONS; i++) {
    text[i] = head + c[i].at;
    dates[i] = c[i].present ? http_date_read(text[i], c[i].size, now) : HTTP_DATE_NONE;
  }
  size_t tag_size = http_etag_write(file, tag);

  if (c[HTTP_IF_MATCH].present) {
    if (!http_etag_listed(text[HTTP_IF_MATCH], c[HTTP_IF_MATCH].size, tag, tag_size, false)) verdict.status = 412;
  } else if (dates[HTTP_IF_UNMODIFIED_SINCE] != HTTP_DATE_NONE) {
    if (file->modified > dates[HTTP_IF_UNMODIFIED_SINCE]) verdict.status = 412;
  }
  if (verdict.status != 200) return verdict;

  if (c[HTTP_IF_NONE_MATCH].present) {
    if (http_etag_listed(text[HTTP_IF_NONE_MATCH], c[HTTP_IF_NONE_MATCH].size, tag, tag_size, true))
      verdict.status = 304;
  } else if (dates[HTTP_IF_MODIFIED_SINCE] != HTTP_DATE_NONE) {
    if (file->modified <= dates[HTTP_IF_MODIFIED_SINCE]) verdict.status = 304;
  }
  if (verdict.status != 200) return verdict;

  if (!c[HTTP_RANGE].present || request->method != HTTP_METHOD_GET) return verdict;
  if (c[HTTP_IF_RANGE].present) {
    /* The rest of which version? A date says that only when it is exact, and a second old: within that second the file
     * could have changed once more (13.1.5, 8.8.2.2). */
    const char *value = text[HTTP_IF_RANGE];
    size_t size = c[HTTP_IF_RANGE].size;
    bool same = size == tag_size && memcmp(value, tag, size) == 0;
    if (dates[HTTP_IF_RANGE] != HTTP_DATE_NONE) same = dates[HTTP_IF_RANGE] == file->modified && now > file->modified + 1;
    if (!same) return verdict;
  }
  verdict.status =
      http_range(text[HTTP_RANGE], c[HTTP_RANGE].size, file->size, &verdict.first, &verdict.end);
  return verdict;
}

#endif
