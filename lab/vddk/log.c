/* log.c - messages to the caller, and an audit log for tests. */
#define _GNU_SOURCE
#include "mock.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

log_fn *log_info, *log_warn; /* NULL during `nbdkit --dump-plugin` */

void say(log_fn *fn, const char *fmt, ...) {
  va_list ap;

  if (!fn)
    return;
  va_start(ap, fmt);
  fn(fmt, ap);
  va_end(ap);
}

static void json_text(FILE *f, const char *s) {
  if (!s) {
    fputs("null", f);
    return;
  }
  fputc('"', f);
  for (; *s; s++) {
    unsigned char c = *s;
    if (c == '"' || c == '\\')
      fprintf(f, "\\%c", c);
    else if (c < 32)
      fprintf(f, "\\u%04x", c);
    else
      fputc(c, f);
  }
  fputc('"', f);
}

/* Appends one JSON line to the file named by "log"; never a secret in it.
 * One write per line, so several processes can share the file. */
void audit(const char *call, VixError rc, ...) {
  char *path = setting("log"), *line = NULL, *key;
  size_t len = 0;
  struct timespec t;
  va_list ap;
  FILE *f;
  int fd;

  if (!path)
    return;
  clock_gettime(CLOCK_REALTIME, &t);
  f = open_memstream(&line, &len);
  if (f) {
    fprintf(f, "{\"time\":%lld.%03ld,\"pid\":%d,\"call\":\"%s\",\"rc\":%" PRIu64, (long long)t.tv_sec,
            t.tv_nsec / 1000000, (int)getpid(), call, rc);
    va_start(ap, rc);
    while ((key = va_arg(ap, char *)) != NULL) {
      fprintf(f, ",\"%s\":", key);
      json_text(f, va_arg(ap, const char *));
    }
    va_end(ap);
    fputs("}\n", f);
    fclose(f);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, len) != (ssize_t)len)
      say(log_warn, "mock: the audit log %s cannot be written", path);
    if (fd >= 0)
      close(fd);
    free(line);
  }
  free(path);
}
