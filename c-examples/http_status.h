/* http_status.h: what a status says: its reason, a page for whoever reads it, and which errors of files it stands for. */
#ifndef HTTP_STATUS_H
#define HTTP_STATUS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "httpd_text.h"

static const struct http_status {
  unsigned code;
  const char *reason, *explanation; /* NULL: the last one's */
} http_statuses[] = {
    {200, "200 OK", NULL},
    {206, "206 Partial Content", NULL},
    {301, "301 Moved Permanently", "What you asked for is a folder; its address ends with a slash."},
    {304, "304 Not Modified", NULL},
    {400, "400 Bad Request", NULL},
    {403, "403 Forbidden", "This is not served to you."},
    {404, "404 Not Found", "There is nothing of this name here."},
    {405, "405 Method Not Allowed", "Here you can GET and HEAD."},
    {408, "408 Request Timeout", "Your request did not arrive in time."},
    {412, "412 Precondition Failed", "The file is not the version that you know."},
    {413, "413 Content Too Large", NULL},
    {414, "414 URI Too Long", NULL},
    {416, "416 Range Not Satisfiable", "The file has no such bytes."},
    {417, "417 Expectation Failed", NULL},
    {431, "431 Request Header Fields Too Large", NULL},
    {500, "500 Internal Server Error", "The file could not be read."},
    {501, "501 Not Implemented", NULL},
    {503, "503 Service Unavailable", "There is too much to do at the moment. Please try again."},
    {505, "505 HTTP Version Not Supported", "The server did not understand, or does not want, this request."},
};

static inline const struct http_status *http_status_find(unsigned code) {
  const struct http_status *status = http_statuses;
  while (status->code != code && status->code != 505) status++;
  return status;
}

/* An error page, which repeats nothing of the request. */
static inline void http_error_page(struct text *text, unsigned code) {
  const struct http_status *status = http_status_find(code);
  const char *explanation = status->explanation != NULL ? status->explanation : http_status_find(505)->explanation;
  PUT(text, "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<title>", status->reason,
      "</title>\n<style>:root { color-scheme: light dark; } body { font: 16px/1.6 system-ui, sans-serif; "
      "max-width: 34em; margin: 18vh auto; padding: 0 1.5em; } h1 { letter-spacing: -.02em; }</style>\n<h1>", status->reason,
      "</h1>\n<p>", explanation, "</p>\n</html>\n");
}

/* What it means that a file could not be opened: a negative errno value. */
static inline uint16_t http_status_of(int code) {
  switch (code) {
  case -ENOENT:
  case -ENOTDIR:
  case -ENAMETOOLONG:
  case -ELOOP: return 404;
  case -EACCES:
  case -EPERM:
  case -EXDEV: /* it leads out */
  case -ENXIO: /* a socket, a device that is not there */
  case -ENODEV: return 403;
  case -EMFILE:
  case -ENFILE:
  case -ENOMEM:
  case -ECANCELED: return 503; /* the disk did not answer in time, or the server ends */
  default: return 500;
  }
}

#endif
