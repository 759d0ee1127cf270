/* hello_client: how long does a small request take while others do large ones? (benches/files.sh)
 *
 *   hello_client PORT SECONDS
 *
 * Asks for /hello over one connection, 2 ms after each answer, and prints half, 99 % and the worst of the latencies, in
 * microseconds, and their number. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAUSE       UINT64_C(2000000)
#define SAMPLES_MAX 300000

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

int main(int count, char **arguments) {
  static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
  static uint64_t samples[SAMPLES_MAX];
  if (count != 3) return fprintf(stderr, "usage: hello_client PORT SECONDS\n"), 2;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return perror("connect"), 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  uint64_t end = now() + strtoull(arguments[2], NULL, 10) * 1000000000;
  size_t taken = 0;
  while (now() < end && taken < SAMPLES_MAX) {
    nanosleep(&(struct timespec){.tv_nsec = (long)PAUSE}, NULL);
    uint64_t begin = now();
    char answer[512];
    size_t size = 0;
    if (send(fd, request, sizeof request - 1, 0) != sizeof request - 1) return perror("send"), 1;
    do {
      ssize_t got = recv(fd, answer + size, sizeof answer - 1 - size, 0);
      if (got <= 0) return perror("recv"), 1;
      size += (size_t)got;
      answer[size] = '\0';
    } while (strstr(answer, "\r\n\r\nHello, world!") == NULL && size < sizeof answer - 1);
    samples[taken++] = now() - begin;
  }
  if (taken == 0) return 1;
  qsort(samples, taken, sizeof samples[0], by_size);
  printf("%llu %llu %llu %zu\n", (unsigned long long)samples[taken / 2] / 1000,
         (unsigned long long)samples[taken * 99 / 100] / 1000, (unsigned long long)samples[taken - 1] / 1000, taken);
  return 0;
}
