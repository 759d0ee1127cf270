/* raw_poll_httpd: what a loop by hand costs. The measure for c-examples/httpd.c on the poll backend (benches/httpd.sh).
 *
 * The same parser and byte for byte the same answer to GET /hello, keep-alive and pipelining included; one array of
 * struct pollfd, kept dense, walked after each poll(2). It leaves out what costs time and is not the loop's alone: no
 * deadlines, no statistics, no other resource, no orderly end. So it is a bound from above, not a server. */
#define _GNU_SOURCE /* accept4 */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../c-examples/http_request.h"

#define CONNECTIONS_MAX 1000
#define OUTPUT_SIZE 8192

static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\n"
                            "Hello, world!";
#define HELLO_SIZE (sizeof hello - 1)

struct connection {
  struct http_request request;
  size_t input_size, output_size, sent;
  char input[HTTP_HEAD_MAX];
  char output[OUTPUT_SIZE];
};

static struct connection pool[CONNECTIONS_MAX];
static struct connection *free_blocks[CONNECTIONS_MAX];
static struct connection *connections[1 + CONNECTIONS_MAX]; /* beside fds; [0] is the listener */
static struct pollfd fds[1 + CONNECTIONS_MAX];
static nfds_t fd_count = 1;
static size_t free_count;

/* Answers what is complete and sends it. False: close. */
static bool serve(struct connection *connection, struct pollfd *entry) {
  for (;;) {
    size_t start = 0;
    while (OUTPUT_SIZE - connection->output_size >= HELLO_SIZE) {
      int size = http_request_parse(&connection->request, connection->input + start, connection->input_size - start);
      if (size < 0) return false;
      if (size == 0) break;
      const struct http_request *request = &connection->request;
      if (request->method != HTTP_METHOD_GET || request->path_size != 6 || !http_request_persists(request) ||
          memcmp(connection->input + start + request->path, "/hello", 6) != 0)
        return false;
      start += (size_t)size;
      memset(&connection->request, 0, sizeof connection->request);
      memcpy(connection->output + connection->output_size, hello, HELLO_SIZE);
      connection->output_size += HELLO_SIZE;
    }
    bool full = OUTPUT_SIZE - connection->output_size < HELLO_SIZE;
    connection->input_size -= start;
    if (connection->input_size > 0 && start > 0)
      memmove(connection->input, connection->input + start, connection->input_size);
    entry->events = POLLIN;
    if (connection->output_size == 0) return true;
    ssize_t sent = send(entry->fd, connection->output + connection->sent, connection->output_size - connection->sent,
                        MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent > 0) connection->sent += (size_t)sent;
    if (connection->sent < connection->output_size) {
      entry->events = POLLOUT;
      return true;
    }
    connection->sent = connection->output_size = 0;
    if (!full) return true;
  }
}

static bool receive(struct connection *connection, struct pollfd *entry) {
  if (entry->events == POLLIN) {
    ssize_t size =
        recv(entry->fd, connection->input + connection->input_size, HTTP_HEAD_MAX - connection->input_size, 0);
    if (size < 0 && errno == EAGAIN) return true;
    if (size <= 0) return false;
    connection->input_size += (size_t)size;
  }
  return serve(connection, entry);
}

static void accept_all(void) {
  while (free_count > 0) {
    int fd = accept4(fds[0].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct connection *connection = free_blocks[--free_count];
    memset(&connection->request, 0, sizeof connection->request);
    connection->input_size = connection->output_size = connection->sent = 0;
    connections[fd_count] = connection;
    fds[fd_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
  }
}

int main(int count, char **arguments) {
  int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  address.sin_port = htons((uint16_t)(count > 1 ? atoi(arguments[1]) : 8081));
  if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
      setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
      bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, SOMAXCONN) < 0)
    return 1;
  for (size_t i = CONNECTIONS_MAX; i > 0; i--) free_blocks[free_count++] = &pool[i - 1];
  fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
  for (;;) {
    int ready = poll(fds, fd_count, -1);
    if (ready < 0 && errno != EINTR) return 1;
    for (nfds_t i = fd_count - 1; ready > 0 && i > 0; i--) { /* downwards: what fills a gap has had its turn */
      if (fds[i].revents == 0) continue;
      ready--;
      if (receive(connections[i], &fds[i])) continue;
      close(fds[i].fd);
      free_blocks[free_count++] = connections[i];
      connections[i] = connections[--fd_count];
      fds[i] = fds[fd_count];
    }
    if (fds[0].revents != 0) accept_all();
  }
}
