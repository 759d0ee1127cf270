/* echo_client: asks an echo server on the loopback interface.
 *
 *   echo_client PORT CONNECTIONS REQUESTS [IN_FLIGHT [SIZE [SECONDS]]]
 *
 * Each connection has IN_FLIGHT (1) requests of SIZE bytes (64) on their way, again and again, until there were so many in all,
 * or, where they are given, so many seconds have passed. Then it prints requests and seconds; with SECONDS 0 it prints `idle`
 * after the requests, and keeps the connections until its input ends. One thread, poll(2). Fails when a byte is wrong or a
 * connection ends. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 10000
#define BYTES_MAX       (1 << 20) /* of one connection in flight */
#define PERIOD          251       /* byte number n of a connection is n modulo this: what is lost, doubled or exchanged shows */

static unsigned char pattern[BYTES_MAX + PERIOD], bytes[BYTES_MAX];
static struct pollfd fds[CONNECTIONS_MAX];
static struct client {
  uint64_t sent, received;
} clients[CONNECTIONS_MAX];
static long in_flight = 1;
static size_t size = 64;

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(EXIT_FAILURE);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* So many requests at once. (There is room for what is in flight in the sockets' buffers, or in the server's.) */
static void ask(long i, long count) {
  size_t length = (size_t)count * size;
  if (send(fds[i].fd, pattern + clients[i].sent % PERIOD, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
  clients[i].sent += length;
}

/* How many requests have been answered by what is there. */
static long hear(long i) {
  struct client *client = &clients[i];
  ssize_t count = recv(fds[i].fd, bytes, sizeof bytes, 0);
  if (count <= 0) fail("recv");
  if (memcmp(bytes, pattern + client->received % PERIOD, (size_t)count) != 0) {
    fputs("echo_client: another byte than was sent\n", stderr);
    exit(EXIT_FAILURE);
  }
  uint64_t before = client->received / size;
  client->received += (uint64_t)count;
  return (long)(client->received / size - before);
}

int main(int argc, char **argv) {
  long port = argc > 3 ? atol(argv[1]) : 0, connections = argc > 3 ? atol(argv[2]) : 0, requests = argc > 3 ? atol(argv[3]) : 0;
  if (argc > 4) in_flight = atol(argv[4]);
  if (argc > 5) size = (size_t)atol(argv[5]);
  double seconds = argc > 6 ? atof(argv[6]) : 0;
  if (port < 1 || port > UINT16_MAX || connections < 1 || connections > CONNECTIONS_MAX || in_flight < 1 || size < 1 ||
      in_flight > BYTES_MAX || size > BYTES_MAX / (size_t)in_flight || requests < connections * in_flight) {
    fputs("usage: echo_client PORT CONNECTIONS REQUESTS [IN_FLIGHT [SIZE [SECONDS]]]\n", stderr);
    return 2;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (unsigned char)(i % PERIOD);
  for (long i = 0; i < connections; i++) {
    int on = 1;
    fds[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
    if (fds[i].fd < 0 || connect(fds[i].fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        setsockopt(fds[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
      fail("connect");
  }
  double begin = now();
  long asked = 0, answered = 0, enough = requests;
  for (long i = 0; i < connections; i++, asked += in_flight) ask(i, in_flight);
  while (answered < enough) {
    if (poll(fds, (nfds_t)connections, 60000) <= 0) fail("poll");
    for (long i = 0; i < connections; i++) {
      if (fds[i].revents == 0) continue;
      long count = hear(i);
      answered += count;
      if (count > requests - asked) count = requests - asked;
      if (count > 0) ask(i, count);
      asked += count;
    }
    if (seconds > 0 && requests > asked && now() - begin >= seconds) enough = requests = asked; /* what was asked is answered */
  }
  if (argc > 6 && seconds <= 0) {
    puts("idle");
    fflush(stdout);
    while (getchar() != EOF) {}
  } else if (argc > 6) {
    printf("%ld %.6f\n", answered, now() - begin);
  }
  return EXIT_SUCCESS;
}
