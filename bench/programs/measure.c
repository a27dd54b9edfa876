/*
 * measure COMMAND...: runs a program and prints on descriptor 3 what it took, its children included:
 * {"wall", "user", "sys", "rss", "status"}: seconds, MiB at the peak of the largest process, exit status.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  pid_t child = fork();
  if (child == 0) {
    close(3);
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    _exit(127);
  }
  int status;
  waitpid(child, &status, 0);
  clock_gettime(CLOCK_MONOTONIC, &end);
  struct rusage use;
  getrusage(RUSAGE_CHILDREN, &use);
  dprintf(3, "{\"wall\":%.4f,\"user\":%.3f,\"sys\":%.3f,\"rss\":%.1f,\"status\":%d}\n", (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9,
          (double)use.ru_utime.tv_sec + (double)use.ru_utime.tv_usec / 1e6, (double)use.ru_stime.tv_sec + (double)use.ru_stime.tv_usec / 1e6,
          (double)use.ru_maxrss / 1024, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return 0;
}
