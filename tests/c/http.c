/* What httpd's headers compute: paths, dates, ranges, conditions, lateness. Pure functions against tables. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "check.h"

#include "../../c-examples/http_file.h"
#include "../../c-examples/httpd_lateness.h"

static void check_path(const char *path, int expected, const char *decoded) {
  char text[64];
  check_context = path;
  size_t size = strlen(path);
  memcpy(text, path, size);
  int result = http_path_decode(text, size);
  EQUAL(result, expected);
  if (expected > 0) CHECK(memcmp(text, decoded, (size_t)expected) == 0);
}

static void paths(void) {
  check_path("", 0, "");
  check_path("/a/b", 4, "/a/b");
  check_path("/%41%7a%2e%2E", 5, "/Az..");
  check_path("/%e2%82%ac", 4, "/\xe2\x82\xac");
  check_path("/%25%32%35", 4, "/%25"); /* decoded once */
  check_path("/a%2fb", -404, NULL);
  check_path("/a%2Fb", -404, NULL);
  check_path("/a%00", -400, NULL);
  check_path("/%", -400, NULL);
  check_path("/%4", -400, NULL);
  check_path("/%4g", -400, NULL);
  check_path("/%g4", -400, NULL);
  check_path("/%%41", -400, NULL);
}

static void characters(void) {
  static const char token[] = "!#$%&'*+-.^_`|~", host[] = "-._~%!$&'()*+;=:[]";
  check_context = "characters";
  for (int i = 0; i < 256; i++) {
    char c = (char)i;
    bool ascii = i > 0 && i < 128, alphanumeric = http_is_alphanumeric(c);
    EQUAL(http_consists_of(HTTP_TOKEN, &c, 1), alphanumeric || (ascii && strchr(token, c) != NULL));
    EQUAL(http_consists_of(HTTP_HOST, &c, 1), alphanumeric || (ascii && strchr(host, c) != NULL));
    EQUAL(http_consists_of(HTTP_VALUE, &c, 1), i == '\t' || (i >= ' ' && i != 127));
    EQUAL(http_consists_of(HTTP_TARGET, &c, 1), i > ' ' && i <= '~' && i != '#');
  }
  CHECK(http_consists_of(HTTP_TOKEN, "ab", 2) && !http_consists_of(HTTP_TOKEN, "a b", 3));
  CHECK(!http_is_token("", 0));
}

static void check_type(const char *path, const char *expected) {
  check_context = path;
  CHECK(strncmp(http_media_type(path, strlen(path)), expected, strlen(expected)) == 0);
}

static void types(void) {
  check_type("index.html", "text/html;");
  check_type("a/b/STYLE.CSS", "text/css;");
  check_type("a.tar.gz", "application/gzip");
  check_type("html", "application/octet-stream");
  check_type("a.html/b", "application/octet-stream");
  check_type("a.", "application/octet-stream");
  check_type("a.unknown", "application/octet-stream");
  check_type("", "application/octet-stream");
}

#define NOW INT64_C(1700000000) /* 14 November 2023 */

static void check_date(const char *text, int64_t expected) {
  check_context = text;
  EQUAL(http_date_read(text, strlen(text), NOW), expected);
}

static void dates(void) {
  check_date("Sun, 06 Nov 1994 08:49:37 GMT", 784111777);
  check_date("Sunday, 06-Nov-94 08:49:37 GMT", 784111777);
  check_date("Sun Nov  6 08:49:37 1994", 784111777);
  check_date("Sun Nov 16 08:49:37 1994", 784111777 + 864000);
  check_date("Thu, 01 Jan 1970 00:00:00 GMT", 0);
  check_date("Wed, 31 Dec 1969 23:59:59 GMT", -1);
  check_date("Tue, 29 Feb 2000 12:00:00 GMT", 951825600);
  check_date("Thu, 29 Feb 2024 12:00:00 GMT", 1709208000);
  check_date("Fri, 31 Dec 9999 23:59:59 GMT", HTTP_DATE_LAST);
  check_date("Mon, 01 Jan 0001 00:00:00 GMT", HTTP_DATE_FIRST);
  check_date("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800); /* a leap second */
  check_date("Friday, 01-Jan-60 00:00:00 GMT", 2840140800); /* 2060 is less than 50 years away */
  check_date("Saturday, 01-Jan-80 00:00:00 GMT", 315532800); /* 2080 is not: 1980 */
  static const char *const none[] = {
      "", "x", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 6 Nov 1994 08:49:37 GMT",
      "sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 32 Nov 1994 08:49:37 GMT",
      "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 1900 08:49:37 GMT", "Sun, 29 Feb 2023 08:49:37 GMT",
      "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
      "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 06 Nov 1994 08-49-37 GMT",
      "Sun, -6 Nov 1994 08:49:37 GMT", "Sun,,06 Nov 1994 08:49:37 GMT", "Someday, 06-Nov-94 08:49:37 GMT",
      "Sunday, 06-Nov-94 08:49:37", "Sunday, 06 Nov 94 08:49:37 GMT", "Sun Nov 06 08:49:37 1994 ",
      "Sun Nov  x 08:49:37 1994", ",", "Sunday,", "Sunday,                        "};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) check_date(none[i], HTTP_DATE_NONE);

  /* What is written is read as the same, every 13 days and some from one end to the other; and names the right day. */
  char text[HTTP_DATE_SIZE];
  static char shown[HTTP_DATE_SIZE + 1];
  static const char days[] = "SunMonTueWedThuFriSat";
  int64_t week_day = 1; /* 1 January 0001 is a Monday in this calendar */
  for (int64_t day = 0; day * 86400 + HTTP_DATE_FIRST <= HTTP_DATE_LAST; day += 13) {
    int64_t seconds = HTTP_DATE_FIRST + day * 86400 + day % 86400;
    http_date_write(seconds, text);
    check_context = memcpy(shown, text, sizeof text);
    EQUAL(http_date_read(text, sizeof text, NOW), seconds);
    CHECK(memcmp(text, days + 3 * ((week_day + day) % 7), 3) == 0);
  }
  http_date_write(INT64_MAX, text);
  CHECK(memcmp(text, "Fri, 31 Dec 9999 23:59:59 GMT", sizeof text) == 0);
  http_date_write(INT64_MIN, text);
  CHECK(memcmp(text, "Mon, 01 Jan 0001 00:00:00 GMT", sizeof text) == 0);
}

static void check_range(const char *value, uint64_t size, int status, uint64_t first, uint64_t end) {
  uint64_t a = 77, b = 77;
  check_context = value;
  EQUAL(http_range(value, strlen(value), size, &a, &b), status);
  EQUAL(a, status == 206 ? first : 77);
  EQUAL(b, status == 206 ? end : 77);
}

static void ranges(void) {
  check_range("bytes=0-0", 10, 206, 0, 1);
  check_range("bytes=2-5", 10, 206, 2, 6);
  check_range("BYTES=2-5", 10, 206, 2, 6);
  check_range("bytes= 2-5", 10, 206, 2, 6);
  check_range("bytes=2-", 10, 206, 2, 10);
  check_range("bytes=2-9", 10, 206, 2, 10);
  check_range("bytes=2-10", 10, 206, 2, 10);
  check_range("bytes=2-99999999999999999999999", 10, 206, 2, 10);
  check_range("bytes=-3", 10, 206, 7, 10);
  check_range("bytes=-10", 10, 206, 0, 10);
  check_range("bytes=-99", 10, 206, 0, 10);
  check_range("bytes=-99999999999999999999999", 10, 206, 0, 10);
  check_range("bytes=10-", 10, 416, 0, 0);
  check_range("bytes=10-20", 10, 416, 0, 0);
  check_range("bytes=99999999999999999999999-", 10, 416, 0, 0);
  check_range("bytes=-0", 10, 416, 0, 0);
  check_range("bytes=0-", 0, 416, 0, 0);
  check_range("bytes=0-0", 0, 416, 0, 0);
  check_range("bytes=-1", 0, 416, 0, 0);
  check_range("bytes=0-", UINT64_MAX, 206, 0, UINT64_MAX);
  static const char *const ignored[] = {
      "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=1-2,4-5", "bytes=0-0,-1", "lines=1-2",
      "bytes=1", "bytes=1--2", "bytes=--1", "bytes=+1-2", "bytes=1-2x", "bytes 1-2", "bytes=0x1-2"};
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) check_range(ignored[i], 10, 200, 0, 0);
}

static void etags(void) {
  const struct http_file file = {.size = 255, .inode = 16, .modified = 0, .modified_ns = 1};
  const struct http_file most = {UINT64_MAX, UINT64_MAX, INT64_MAX, UINT32_MAX};
  char tag[HTTP_ETAG_MAX];
  EQUAL(http_etag_write(&file, tag), 9);
  CHECK(memcmp(tag, "\"10-ff-1\"", 9) == 0);
  CHECK(http_etag_write(&most, tag) <= HTTP_ETAG_MAX);

  /* The fields; and those of another file, which is kept at the same place, and of another version. */
  static const char fields[] = "\r\nETag: \"10-ff-1\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT";
  struct http_file other = file;
  for (int i = 0; i < 3; i++) {
    const struct http_validators *validators = http_validators_of(&file);
    EQUAL(validators->size, sizeof fields - 1);
    CHECK(memcmp(validators->fields, fields, sizeof fields - 1) == 0);
    if (i == 0) other.inode += 16;
    else other = file, other.modified_ns = 2;
    validators = http_validators_of(&other);
    EQUAL(validators->size, sizeof fields - 1);
    CHECK(memcmp(validators->fields, fields, sizeof fields - 1) != 0);
  }
  CHECK(http_validators_of(&most)->size <= sizeof(((struct http_validators *)0)->fields));

  static const struct {
    const char *list;
    bool strong, weak;
  } lists[] = {
      {"*", true, true},
      {"\"x\"", true, true},
      {"W/\"x\"", false, true},
      {"\"a\", \"x\"", true, true},
      {"\"a\" , W/\"b\",\t,W/\"x\"", false, true},
      {"\"a,\"\"x\"", true, true},
      {"", false, false},
      {"x", false, false},
      {"\"x", false, false},
      {"\"xx\"", false, false},
      {"\"a\"; \"x\"", false, false},
      {"w/\"x\"", false, false},
      {"W/", false, false},
      {"*, \"x\"", false, false},
      {"\", \"x\"", false, false},
  };
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    check_context = lists[i].list;
    EQUAL(http_etag_listed(lists[i].list, strlen(lists[i].list), "\"x\"", 3, false), lists[i].strong);
    EQUAL(http_etag_listed(lists[i].list, strlen(lists[i].list), "\"x\"", 3, true), lists[i].weak);
  }
}

/* The file: 100 bytes, changed on Sun, 06 Nov 1994 08:49:37 GMT. */
#define TAG     "\"1-64-ae1b981bc490c01\""
#define DATE    "Sun, 06 Nov 1994 08:49:37 GMT"
#define EARLIER "Sun, 06 Nov 1994 08:49:36 GMT"
#define LATER   "Sun, 06 Nov 1994 08:49:38 GMT"

static void check_verdict(const char *method, const char *fields, int status, uint64_t first, uint64_t end) {
  const struct http_file file = {.size = 100, .inode = 1, .modified = 784111777, .modified_ns = 513};
  char head[512] = "";
  struct http_request request = {0};
  strcat(strcat(strcat(strcat(head, method), " / HTTP/1.1\r\nHost: a\r\n"), fields), "\r\n");
  check_context = head;
  EQUAL(http_request_parse(&request, head, strlen(head)), (long long)strlen(head));
  struct http_verdict verdict = http_file_verdict(&request, head, &file, NOW);
  EQUAL(verdict.status, status);
  EQUAL(verdict.first, first);
  EQUAL(verdict.end, end);
}

static void conditions(void) {
  static const struct {
    const char *fields;
    int status;
    uint64_t first, end;
  } cases[] = {
      {"", 200, 0, 100},
      {"If-None-Match: " TAG "\r\n", 304, 0, 100},
      {"If-None-Match: W/" TAG "\r\n", 304, 0, 100},
      {"If-None-Match: *\r\n", 304, 0, 100},
      {"If-None-Match: \"a\", " TAG "\r\n", 304, 0, 100},
      {"If-None-Match: \"a\"\r\n", 200, 0, 100},
      {"If-None-Match:\r\n", 200, 0, 100},
      {"If-Modified-Since: " DATE "\r\n", 304, 0, 100},
      {"If-Modified-Since: " LATER "\r\n", 304, 0, 100},
      {"If-Modified-Since: " EARLIER "\r\n", 200, 0, 100},
      {"If-Modified-Since: yesterday\r\n", 200, 0, 100},
      /* the tag counts, the date does not */
      {"If-Modified-Since: " DATE "\r\nIf-None-Match: \"a\"\r\n", 200, 0, 100},
      {"If-None-Match: " TAG "\r\nIf-Modified-Since: " EARLIER "\r\n", 304, 0, 100},
      {"If-Match: " TAG "\r\n", 200, 0, 100},
      {"If-Match: *\r\n", 200, 0, 100},
      {"If-Match: W/" TAG "\r\n", 412, 0, 100},
      {"If-Match: \"a\"\r\n", 412, 0, 100},
      {"If-Match: \"a\"\r\nIf-None-Match: " TAG "\r\n", 412, 0, 100},
      {"If-Match: " TAG "\r\nIf-None-Match: " TAG "\r\n", 304, 0, 100},
      {"If-Match: " TAG "\r\nIf-Unmodified-Since: " EARLIER "\r\n", 200, 0, 100},
      {"If-Unmodified-Since: " DATE "\r\n", 200, 0, 100},
      {"If-Unmodified-Since: " EARLIER "\r\n", 412, 0, 100},
      {"If-Unmodified-Since: never\r\n", 200, 0, 100},
      /* twice: means nothing */
      {"If-None-Match: " TAG "\r\nIf-None-Match: " TAG "\r\n", 200, 0, 100},
      {"If-Modified-Since: " DATE "\r\nIf-Modified-Since: " DATE "\r\n", 200, 0, 100},
      {"Range: bytes=0-1\r\nRange: bytes=0-1\r\n", 200, 0, 100},
      {"Range: bytes=0-1\r\nIf-Range: " TAG "\r\nIf-Range: " TAG "\r\n", 200, 0, 100},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    check_verdict("GET", cases[i].fields, cases[i].status, cases[i].first, cases[i].end);
    check_verdict("HEAD", cases[i].fields, cases[i].status, cases[i].first, cases[i].end);
  }
  check_verdict("GET", "Range: bytes=10-19\r\n", 206, 10, 20);
  check_verdict("HEAD", "Range: bytes=10-19\r\n", 200, 0, 100); /* Range is for GET */
  check_verdict("GET", "Range: bytes=100-\r\n", 416, 0, 100);
  check_verdict("GET", "range:  bytes=-1 \r\n", 206, 99, 100);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Range: " TAG "\r\n", 206, 1, 3);
  check_verdict("GET", "If-Range: " TAG "\r\n", 200, 0, 100);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Range: W/" TAG "\r\n", 200, 0, 100);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Range: \"a\"\r\n", 200, 0, 100);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Range: " DATE "\r\n", 206, 1, 3);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Range: " LATER "\r\n", 200, 0, 100); /* exactly that date, or not at all */
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Range: " EARLIER "\r\n", 200, 0, 100);
  check_verdict("GET", "Range: bytes=200-\r\nIf-Range: \"a\"\r\n", 200, 0, 100);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-None-Match: " TAG "\r\n", 304, 0, 100);
  check_verdict("GET", "Range: bytes=1-2\r\nIf-Match: \"a\"\r\n", 412, 0, 100);
}

static void late(void) {
  static struct lateness lateness;
  check_context = "lateness";
  lateness_start(&lateness, 1000, 1000);
  EQUAL(lateness_percentile(&lateness, 500), 0);
  lateness_record(&lateness, 1007, 1);  /* 7 */
  lateness_record(&lateness, 5000, 4);  /* 3000, 2000, 1000, 0 */
  lateness_record(&lateness, 5999, 1);  /* before its time, by clocks that differ: 0 */
  EQUAL(lateness.samples, 6);
  EQUAL(lateness.max, 3000);
  EQUAL(lateness.due, 7000);
  EQUAL(lateness_percentile(&lateness, 1000), 3000);
  EQUAL(lateness_percentile(&lateness, 333), 0);
  EQUAL(lateness_percentile(&lateness, 500), 7);
  for (uint64_t late_by = 0; late_by < 1 << 20; late_by += 97) {
    static struct lateness one;
    memset(&one, 0, sizeof one);
    lateness_start(&one, 0, 1);
    lateness_record(&one, late_by, 1);
    one.max = UINT64_MAX; /* so that the bucket shows */
    uint64_t end = lateness_percentile(&one, 1000);
    CHECK(end >= late_by && end <= late_by + late_by / 8);
  }
  memset(&lateness, 0, sizeof lateness);
  lateness_start(&lateness, 0, 1);
  lateness_record(&lateness, UINT64_MAX, 1);
  EQUAL(lateness_percentile(&lateness, 1000) == UINT64_MAX, 1);
}

int main(void) {
  paths();
  characters();
  types();
  dates();
  ranges();
  etags();
  conditions();
  late();
  return 0;
}
