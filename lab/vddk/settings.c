/* settings.c - settings and scripted faults; README.md lists the keys.
 *
 * LIBDIR/faults.conf comes before LIBDIR/mock-vddk.conf.  Both are looked at
 * again before each use, so a test can switch a fault while nbdkit runs. */
#define _GNU_SOURCE
#include "mock.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct source {
  const char *name;
  char *path, *text;
  ino_t inode;
  struct timespec changed;
} sources[] = {{.name = "faults.conf"}, {.name = "mock-vddk.conf"}};
enum { NSOURCES = sizeof sources / sizeof sources[0] };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The whole file as text, malloc'd; NULL if it cannot be read. */
char *slurp(const char *path) {
  FILE *f = fopen(path, "re");
  char *text = NULL;
  size_t room = 0;

  if (!f)
    return NULL;
  if (getdelim(&text, &room, 0, f) < 0) {
    free(text);
    text = strdup("");
  }
  fclose(f);
  return text;
}

void settings_open(const char *libdir) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < NSOURCES; i++) {
    free(sources[i].path);
    free(sources[i].text);
    sources[i].path = sources[i].text = NULL;
    if (libdir && asprintf(&sources[i].path, "%s/%s", libdir, sources[i].name) == -1)
      sources[i].path = NULL;
  }
  pthread_mutex_unlock(&lock);
}

static void refresh(struct source *s) {
  struct stat st;

  if (!s->path || stat(s->path, &st) == -1) {
    free(s->text);
    s->text = NULL;
  } else if (!s->text || st.st_ino != s->inode || st.st_mtim.tv_sec != s->changed.tv_sec ||
             st.st_mtim.tv_nsec != s->changed.tv_nsec) {
    free(s->text);
    s->text = slurp(s->path);
    s->inode = st.st_ino;
    s->changed = st.st_mtim;
  }
}

/* The value of the line "key=value" in text, malloc'd, or NULL. */
static char *find(const char *text, const char *key) {
  size_t n = strlen(key);

  while (text && *text) {
    const char *end = strchrnul(text, '\n');
    if ((size_t)(end - text) > n && !memcmp(text, key, n) && text[n] == '=')
      return strndup(text + n + 1, end - text - n - 1);
    text = *end ? end + 1 : end;
  }
  return NULL;
}

char *setting(const char *key) {
  char *value = NULL;

  pthread_mutex_lock(&lock);
  for (int i = 0; i < NSOURCES && !value; i++) {
    refresh(&sources[i]);
    value = find(sources[i].text, key);
  }
  pthread_mutex_unlock(&lock);
  return value;
}

long long number_setting(const char *key, long long fallback) {
  char *value = setting(key);
  long long n = value ? strtoll(value, NULL, 10) : fallback;

  free(value);
  return n;
}

void nap_us(long long us) {
  struct timespec t = {us / 1000000, us % 1000000 * 1000};

  while (us > 0 && nanosleep(&t, &t) == -1 && errno == EINTR)
    ;
}

uint64_t count_up(uint64_t *counter) { return __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }

/* With "once" set, only the process that removes that file may fail. */
static int may_fire(void) {
  char *path = setting("once");
  int yes = !path || unlink(path) == 0;

  free(path);
  return yes;
}

/* NTH[+[COUNT]][=CODE]: does call number nth fail?  0 or the error code. */
VixError nth_fault(const char *key, uint64_t nth, VixError code) {
  char *value = setting(key), *p;
  uint64_t first, last;

  if (!value)
    return E_OK;
  first = last = strtoull(value, &p, 10);
  if (*p == '+') {
    p++;
    last = isdigit((unsigned char)*p) ? first + strtoull(p, &p, 10) - 1 : UINT64_MAX;
  }
  if (*p == '=')
    code = strtoull(p + 1, NULL, 10);
  free(value);
  return first && nth >= first && nth <= last && may_fire() ? code : E_OK;
}

/* fail_lba=FIRST[-LAST][=CODE]: sectors that cannot be read. */
VixError sector_fault(uint64_t start, uint64_t count) {
  char *value = setting("fail_lba"), *p;
  uint64_t first, last;
  VixError code = E_FILE_ERROR;

  if (!value)
    return E_OK;
  first = last = strtoull(value, &p, 10);
  if (*p == '-')
    last = strtoull(p + 1, &p, 10);
  if (*p == '=')
    code = strtoull(p + 1, NULL, 10);
  free(value);
  return start <= last && start + count > first ? code : E_OK;
}
