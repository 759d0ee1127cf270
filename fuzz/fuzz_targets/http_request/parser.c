/* The C half of the fuzz target `http_request`: the parser as the server compiles it. The struct is C's own; the Rust
 * half sees what it says. */
#include <http_file.h>

#if defined __SANITIZE_ADDRESS__
#define WATCHED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif

#ifdef WATCHED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#endif

/* What a request says of itself. */
struct facts {
  uint64_t content_length;
  uint32_t line, scanned, path, path_size, fields;
  uint8_t method, minor;
  bool has_line, has_host, has_length, has_encoding, close, keep_alive, expect_continue, persists;
  uint32_t conditions[HTTP_CONDITIONS][3]; /* whether it is there, where, its size */
};

size_t parser_bytes(void);
int parser_parse(struct http_request *request, const char *head, size_t size, size_t capacity);
void parser_facts(const struct http_request *request, struct facts *facts);
int parser_file(const struct http_request *request, const char *head, uint64_t size, uint64_t *first, uint64_t *end);
int parser_path(const struct http_request *request, char *head);

size_t parser_bytes(void) {
  return sizeof(struct http_request);
}

/* Parses on. Of `capacity` bytes of memory `size` have arrived: the others must not be touched. */
int parser_parse(struct http_request *request, const char *head, size_t size, size_t capacity) {
  ASAN_POISON_MEMORY_REGION(head + size, capacity - size);
  int answer = http_request_parse(request, head, size);
  ASAN_UNPOISON_MEMORY_REGION(head + size, capacity - size);
  return answer;
}

void parser_facts(const struct http_request *request, struct facts *facts) {
  memset(facts, 0, sizeof *facts);
  facts->content_length = request->content_length;
  facts->line = request->line;
  facts->scanned = request->scanned;
  facts->path = request->path;
  facts->path_size = request->path_size;
  facts->fields = request->fields;
  facts->method = request->method;
  facts->minor = request->minor;
  facts->has_line = request->has_line;
  facts->has_host = request->has_host;
  facts->has_length = request->has_length;
  facts->has_encoding = request->has_encoding;
  facts->close = request->close;
  facts->keep_alive = request->keep_alive;
  facts->expect_continue = request->expect_continue;
  for (size_t i = 0; i < HTTP_CONDITIONS; i++) {
    facts->conditions[i][0] = request->conditions[i].present;
    facts->conditions[i][1] = request->conditions[i].at;
    facts->conditions[i][2] = request->conditions[i].size;
  }
  facts->persists = http_request_persists(request);
}

/* What the head means for a file of that size, which was changed on Sun, 06 Nov 1994 08:49:37 GMT. */
int parser_file(const struct http_request *request, const char *head, uint64_t size, uint64_t *first, uint64_t *end) {
  const struct http_file file = {.size = size, .inode = 1, .modified = 784111777, .modified_ns = 513};
  struct http_verdict verdict = http_file_verdict(request, head, &file, 1700000000);
  *first = verdict.first;
  *end = verdict.end;
  return verdict.status;
}

/* Decodes the path where it lies. */
int parser_path(const struct http_request *request, char *head) {
  return http_path_decode(head + request->path, request->path_size);
}
