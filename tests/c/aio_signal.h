/* Whether POSIX AIO can tell of a completion by a signal. glibc's is rt_sigqueueinfo(2), which some emulators refuse. */
#ifndef AIO_SIGNAL_H
#define AIO_SIGNAL_H

#include "check.h"
#include <aio.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static inline int aio_can_signal(void) {
  static int answer = -1;
  if (answer >= 0) return answer;
  char byte = 0;
  struct aiocb control;
  struct sigaction ignore, before;
  memset(&control, 0, sizeof control);
  memset(&ignore, 0, sizeof ignore);
  ignore.sa_handler = SIG_IGN;
  control.aio_fildes = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  control.aio_buf = &byte;
  control.aio_nbytes = 1;
  control.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
  control.aio_sigevent.sigev_signo = SIGRTMAX;
  CHECK(sigaction(SIGRTMAX, &ignore, &before) == 0);
  CHECK(control.aio_fildes >= 0 && aio_read(&control) == 0);
  while (aio_error(&control) == EINPROGRESS) usleep(1000);
  answer = aio_error(&control) != EINVAL;
  CHECK(!answer || aio_return(&control) == 1);
  if (!answer) fprintf(stderr, "skipped: POSIX AIO with a signal (this system cannot send it)\n");
  CHECK(sigaction(SIGRTMAX, &before, NULL) == 0 && close(control.aio_fildes) == 0);
  return answer;
}

#endif
