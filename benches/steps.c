/* Counts the user instructions of a program, one step at a time, ptrace(2): slow, but it knows every system call.
 *
 *   steps PROGRAM ARGUMENT...
 *
 * Counts from where the program stops itself, raise(SIGSTOP), until it ends; prints the number on standard error. The program
 * is told to by the variable STEPS in its environment. An instruction that makes a system call is one. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fputs("usage: steps PROGRAM ARGUMENT...\n", stderr);
    return 2;
  }
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    if (setenv("STEPS", "1", 1) < 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) fail("ptrace");
    execvp(argv[1], argv + 1);
    fail(argv[1]);
  }
  long counting = 0, steps = 0;
  for (;;) {
    int status;
    if (waitpid(child, &status, 0) < 0) fail("waitpid");
    if (WIFEXITED(status)) {
      fprintf(stderr, "%ld\n", steps);
      return WEXITSTATUS(status);
    }
    if (!WIFSTOPPED(status)) return EXIT_FAILURE;
    int signal = WSTOPSIG(status);
    if (signal == SIGSTOP) counting = 1;
    if (signal == SIGTRAP || signal == SIGSTOP) signal = 0; /* the others are the program's */
    steps += counting;
    if (ptrace(counting ? PTRACE_SINGLESTEP : PTRACE_CONT, child, NULL, (void *)(long)signal) < 0) fail("ptrace");
  }
}
