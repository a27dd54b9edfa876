/* files.c - from "[datastore] path" to raw files, and through chains of links.
 *
 * The folder layout is the one lab/vsphere publishes; README.md has it. */
#define _GNU_SOURCE
#include "mock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2))) static char *text(const char *fmt, ...) {
  char *out;
  va_list ap;

  va_start(ap, fmt);
  if (vasprintf(&out, fmt, ap) == -1)
    abort(); /* out of memory: nothing a test could learn from going on */
  va_end(ap);
  return out;
}

/* The file with the disk's bytes, malloc'd; NULL and *rc set if there is none. */
static char *locate(const char *disk, const char *snapshot, VixError *rc) {
  char *root = setting("root"), *close_bracket = strchr(disk, ']'), *store = NULL, *found = NULL;
  const char *rel;
  size_t stem;

  *rc = E_NOT_FOUND;
  if (!root || disk[0] != '[' || !close_bracket)
    goto out;
  store = strndup(disk + 1, close_bracket - disk - 1);
  for (rel = close_bracket + 1; *rel == ' '; rel++)
    ;
  /* no way out of the root, and no opening of the files behind snapshots */
  if (!*rel || !*store || strchr(store, '/') || store[0] == '.' || store[0] == '@' || strstr(rel, "..") ||
      strchr(rel, '@'))
    goto out;
  if (snapshot) {
    found = text("%s/%s/%s@%s", root, store, rel, snapshot);
    if (access(found, F_OK) == -1) {
      free(found);
      found = NULL;
      *rc = E_SNAPSHOT_NOT_FOUND;
    }
    goto out;
  }
  stem = strlen(rel);
  if (stem > 5 && !strcmp(rel + stem - 5, ".vmdk"))
    stem -= 5;
  found = text("%s/%s/%.*s-flat.vmdk", root, store, (int)stem, rel);
  if (access(found, F_OK) == -1) {
    free(found);
    found = text("%s/%s/%s", root, store, rel);
    if (access(found, F_OK) == -1) {
      free(found);
      found = NULL;
    }
  }
out:
  if (!found)
    say(log_warn, "mock: no file for %s%s%s", disk, snapshot ? " at " : "", snapshot ? snapshot : "");
  free(store);
  free(root);
  return found;
}

/* ROOT/@vms/MOREF lists the disks of that VM, one a line. */
VixError check_owner(const char *moref, const char *disk) {
  char *root = setting("root"), *path = text("%s/@vms/%s", root ? root : "", moref), *list, *line, *save;
  VixError rc = E_NOT_FOUND;

  list = strchr(moref, '/') ? NULL : slurp(path);
  if (!list)
    say(log_warn, "mock: there is no VM %s", moref);
  else {
    for (line = strtok_r(list, "\r\n", &save); line && rc != E_OK; line = strtok_r(NULL, "\r\n", &save))
      if (!strcmp(line, disk))
        rc = E_OK;
    if (rc != E_OK)
      say(log_warn, "mock: VM %s has no disk %s", moref, disk);
  }
  free(list);
  free(path);
  free(root);
  return rc;
}

/* Takes one of max_sessions places.  They are file locks: a killed process frees its own. */
int take_session(void) {
  long long max = number_setting("max_sessions", 0);
  char *root = setting("root"), *path;
  int fd = -1;

  if (max > 0 && root) {
    path = text("%s/@sessions", root);
    mkdir(path, 0700);
    free(path);
    fd = -2;
    for (long long i = 0; i < max && fd == -2; i++) {
      path = text("%s/@sessions/%lld", root, i);
      fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == -1) {
        close(fd);
        fd = -2;
      }
      free(path);
    }
  }
  free(root);
  return fd;
}

VixError open_links(struct disk *d) {
  VixError rc = E_OK;
  char *disk = strdup(d->path);
  const char *snapshot = d->conn->snapshot;

  while (disk) {
    char *file = locate(disk, snapshot, &rc), *note;

    free(disk);
    disk = NULL;
    if (!file)
      return rc;
    if (d->links == MAX_LINKS || (d->fd[d->links] = open(file, O_RDONLY | O_CLOEXEC)) == -1) {
      say(log_warn, "mock: cannot open %s: %s", file, strerror(errno));
      free(file);
      return errno == EACCES ? E_FILE_ACCESS : E_FILE_ERROR;
    }
    d->links++;
    if (!(d->flags & OPEN_SINGLE_LINK)) {
      note = text("%s.parent", file);
      disk = slurp(note);
      if (disk)
        disk[strcspn(disk, "\r\n")] = 0;
      snapshot = NULL;
      free(note);
    }
    free(file);
  }
  return E_OK;
}

static int read_file(int fd, unsigned char *buf, uint64_t len, uint64_t at) {
  while (len) {
    ssize_t n = pread(fd, buf, len, at);
    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return -1;
    if (n == 0) { /* a parent shorter than its child */
      memset(buf, 0, len);
      return 0;
    }
    buf += n, at += n, len -= n;
  }
  return 0;
}

/* What a link does not hold comes from its parent. */
int read_links(struct disk *d, int link, unsigned char *buf, uint64_t len, uint64_t at) {
  uint64_t end = at + len;

  if (link == d->links - 1)
    return read_file(d->fd[link], buf, len, at);
  while (at < end) {
    off_t data = lseek(d->fd[link], at, SEEK_DATA), hole;
    uint64_t stop = data == -1 || (uint64_t)data > end ? end : (uint64_t)data;

    if (stop > at) {
      if (read_links(d, link + 1, buf, stop - at, at) == -1)
        return -1;
    } else {
      hole = lseek(d->fd[link], at, SEEK_HOLE);
      stop = hole == -1 || (uint64_t)hole > end ? end : (uint64_t)hole;
      if (read_file(d->fd[link], buf, stop - at, at) == -1)
        return -1;
    }
    buf += stop - at;
    at = stop;
  }
  return 0;
}

/* First byte at or after `at` that some link holds; `end` if none before it. */
uint64_t next_data(struct disk *d, uint64_t at, uint64_t end) {
  uint64_t best = end;

  for (int i = 0; i < d->links; i++) {
    off_t o = lseek(d->fd[i], at, SEEK_DATA);
    if (o == -1 && errno != ENXIO)
      return at; /* a file system without holes: all is data */
    if (o != -1 && (uint64_t)o < best)
      best = o;
  }
  return best;
}

/* End of the data that starts at `at`, in whichever link holds most of it. */
uint64_t data_end(struct disk *d, uint64_t at, uint64_t end) {
  uint64_t far = at;

  for (int i = 0; i < d->links; i++) {
    off_t hole;
    if (lseek(d->fd[i], at, SEEK_DATA) != (off_t)at)
      continue;
    hole = lseek(d->fd[i], at, SEEK_HOLE);
    if (hole == -1 || (uint64_t)hole > end)
      hole = end;
    if ((uint64_t)hole > far)
      far = hole;
  }
  return far > at ? far : end;
}
