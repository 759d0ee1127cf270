/* echo_client: asks an echo server on the loopback interface.
 *
 *   echo_client PORT CONNECTIONS REQUESTS
 *
 * Each connection sends 64 bytes and waits for its echo, again and again, until there were so many requests in all. One
 * thread, poll(2). Fails when an echo is wrong or a connection ends. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1000
#define SIZE 64

static char request[SIZE];

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(EXIT_FAILURE);
}

static void ask(int fd) {
  if (send(fd, request, SIZE, MSG_NOSIGNAL) != SIZE) fail("send");
}

int main(int argc, char **argv) {
  struct pollfd fds[CONNECTIONS_MAX];
  size_t received[CONNECTIONS_MAX] = {0};
  long port = argc > 3 ? atol(argv[1]) : 0, connections = argc > 3 ? atol(argv[2]) : 0, requests = argc > 3 ? atol(argv[3]) : 0;
  if (port < 1 || port > UINT16_MAX || connections < 1 || connections > CONNECTIONS_MAX || requests < connections) {
    fputs("usage: echo_client PORT CONNECTIONS REQUESTS\n", stderr);
    return 2;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  memset(request, 'x', SIZE);
  for (long i = 0; i < connections; i++) {
    fds[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
    if (fds[i].fd < 0 || connect(fds[i].fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
  }
  long asked = 0, answered = 0;
  for (long i = 0; i < connections; i++, asked++) ask(fds[i].fd);
  while (answered < requests) {
    if (poll(fds, (nfds_t)connections, 60000) <= 0) fail("poll");
    for (long i = 0; i < connections; i++) {
      if (fds[i].revents == 0) continue;
      char bytes[SIZE];
      ssize_t count = recv(fds[i].fd, bytes, SIZE - received[i], 0);
      if (count <= 0 || memcmp(bytes, request, (size_t)count) != 0) fail("recv");
      received[i] += (size_t)count;
      if (received[i] < SIZE) continue;
      received[i] = 0;
      answered++;
      if (asked < requests) {
        ask(fds[i].fd);
        asked++;
      }
    }
  }
  return EXIT_SUCCESS;
}
