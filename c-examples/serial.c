/* serial: lines of text over a serial line.
 *
 * Puts the device into raw mode, cuts what arrives into lines, prints each and answers it with "ok LENGTH". When the
 * device hangs up (a USB adapter that is pulled out), it is closed and opened again as soon as it is back.
 * SIGTERM and SIGINT end it. */
#define _DEFAULT_SOURCE
#define PROGRAM "serial"
#define USAGE "usage: serial [--backend auto|select|poll|epoll|uring] [--retry-ms N] DEVICE\n"
#include "example.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <termios.h>

#define CHUNK 64 /* bytes a read */

struct line {
  const char *device;
  unsigned long retry_ms;
  int told;             /* that it is away: once is enough */
  becket_handle source; /* 0: hung up */
  becket_handle retry;
  char in[128]; /* the line so far; a longer one is answered "too long" */
  size_t in_size;
  int too_long;
  char out[CHUNK * 8]; /* answers; one chunk makes at most CHUNK of them, "ok 0\n" each */
  size_t out_begin, out_end;
};

static BECKET_MEMORY(memory, 4, 0, 0); /* the device, a timer and two signals */

static void on_device(becket_loop *loop, const becket_event *event, void *user);

/* Opens the device, or leaves it to the next retry. */
static void connect_line(becket_loop *loop, struct line *line) {
  struct termios mode;
  int fd = open(line->device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  int rc = fd < 0 ? -errno : 0;
  if (rc == 0 && tcgetattr(fd, &mode) < 0) rc = -errno;
  if (rc == 0) {
    cfmakeraw(&mode);
    mode.c_cflag |= CLOCAL | CREAD; /* no modem lines; receive */
    if (cfsetspeed(&mode, B115200) < 0 || tcsetattr(fd, TCSAFLUSH, &mode) < 0) rc = -errno;
  }
  if (rc == 0) rc = becket_io_add(loop, fd, BECKET_READABLE, on_device, line, &line->source);
  if (rc < 0) {
    if (fd >= 0) close(fd);
    if (!line->told) say("%s: %s; trying again every %lu ms", line->device, becket_strerror(rc), line->retry_ms);
    line->told = 1;
    must("retry", becket_timer_arm(loop, line->retry, line->retry_ms * MILLISECOND, 0));
    return;
  }
  line->in_size = line->out_begin = line->out_end = 0; /* half a line from before the hang-up is worth nothing */
  line->too_long = line->told = 0;
  say("%s: open", line->device);
}

static void hang_up(becket_loop *loop, struct line *line) {
  say("%s: hung up", line->device);
  must("close", becket_io_close(loop, line->source));
  line->source = 0;
  must("retry", becket_timer_arm(loop, line->retry, line->retry_ms * MILLISECOND, 0));
}

static void end_of_line(struct line *line) {
  char *out = line->out + line->out_end;
  size_t room = sizeof line->out - line->out_end;
  if (!line->too_long) say("line: %.*s", (int)line->in_size, line->in);
  int count = line->too_long ? snprintf(out, room, "too long\n") : snprintf(out, room, "ok %zu\n", line->in_size);
  if (count < 0 || (size_t)count >= room) exit(fail("answer", -ENOBUFS));
  line->out_end += (size_t)count;
  line->in_size = 0;
  line->too_long = 0;
}

static void take(struct line *line, const char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] == '\n') end_of_line(line);
    else if (bytes[i] == '\r') continue;
    else if (line->in_size == sizeof line->in) line->too_long = 1;
    else line->in[line->in_size++] = bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '?'; /* safe to print */
  }
}

/* Reads only while no answer waits: a device that does not listen is not listened to either. */
static void on_device(becket_loop *loop, const becket_event *event, void *user) {
  struct line *line = user;
  if (line->out_begin == line->out_end) {
    char bytes[CHUNK];
    ssize_t count = read(event->fd, bytes, sizeof bytes);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) { /* the end, or EIO: a terminal's way to say that it is gone */
      hang_up(loop, line);
      return;
    }
    line->out_begin = line->out_end = 0;
    take(line, bytes, (size_t)count);
  }
  while (line->out_begin < line->out_end) {
    ssize_t count = write(event->fd, line->out + line->out_begin, line->out_end - line->out_begin);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {
      hang_up(loop, line);
      return;
    }
    line->out_begin += (size_t)count;
  }
  uint32_t interest = line->out_begin == line->out_end ? BECKET_READABLE : BECKET_WRITABLE;
  must("modify", becket_io_modify(loop, event->handle, interest));
}

static void on_retry(becket_loop *loop, const becket_event *event, void *user) {
  (void)event;
  connect_line(loop, user);
}

static void on_end(becket_loop *loop, const becket_event *event, void *user) {
  (void)event, (void)user;
  must("stop", becket_stop(loop));
}

int main(int argc, char **argv) {
  static struct line line = {.retry_ms = 500};
  becket_config config = {.size = sizeof config};
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++)
    if (!backend_option(argv, &i, &config) && !number_option(argv, &i, "--retry-ms", 3600000, &line.retry_ms))
      return usage(strcmp(argv[i], "--help") == 0);
  if (i + 1 != argc) return usage(0);
  line.device = argv[i];

  becket_loop *loop;
  becket_handle signal;
  must("init", becket_loop_init(&loop, &memory, &config));
  must("SIGTERM", becket_signal_add(loop, SIGTERM, on_end, NULL, &signal));
  must("SIGINT", becket_signal_add(loop, SIGINT, on_end, NULL, &signal));
  must("timer", becket_timer_add(loop, BECKET_NEVER, 0, on_retry, &line, &line.retry));
  connect_line(loop, &line);
  must("run", becket_run(loop));
  if (line.source != 0) must("close", becket_io_close(loop, line.source));
  must("loop", becket_loop_close(loop));
  say("ended");
  return EXIT_SUCCESS;
}
