/* io.c - reads, on worker threads of each disk; the scripted misfortunes of reads. */
#define _GNU_SOURCE
#include "mock.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
  struct job *next;
  uint64_t start, count;
  unsigned char *buf;
  done_fn done;
  void *data;
};

static uint64_t reads; /* of the whole process, from 1 */

static void limit_bandwidth(struct disk *d, uint64_t bytes) {
  long long kib_per_second = number_setting("bandwidth_kib", 0);
  struct timespec t;
  double now, wait;

  if (kib_per_second <= 0)
    return;
  clock_gettime(CLOCK_MONOTONIC, &t);
  now = t.tv_sec + t.tv_nsec / 1e9;
  pthread_mutex_lock(&d->lock);
  if (d->free_at < now)
    d->free_at = now;
  d->free_at += bytes / 1024.0 / kib_per_second;
  wait = d->free_at - now;
  pthread_mutex_unlock(&d->lock);
  nap_us(wait * 1e6);
}

static VixError read_sectors(struct disk *d, uint64_t start, uint64_t count, unsigned char *buf) {
  uint64_t nth = count_up(&reads), own = count_up(&d->reads);
  long long lost_every = number_setting("lost_every", 0);
  VixError rc;

  if (start + count > d->capacity || start + count < start)
    return E_DISK_OUT_OF_RANGE;
  if (nth_fault("crash_read", nth, E_FAIL)) {
    audit("crash", E_FAIL, NULL);
    kill(getpid(), SIGSEGV);
  }
  if (nth_fault("hang_read", nth, E_FAIL)) {
    audit("hang", E_FAIL, NULL);
    for (;;)
      pause();
  }
  nap_us(number_setting("read_delay_us", 0));
  limit_bandwidth(d, count * SECTOR);
  if (nth_fault("lost_read", nth, E_CONN_LOST) || (lost_every > 0 && own > (uint64_t)lost_every))
    __atomic_store_n(&d->lost, 1, __ATOMIC_RELAXED);
  if (__atomic_load_n(&d->lost, __ATOMIC_RELAXED)) {
    say(log_warn, "[NFC ERROR] mock: the data connection to the host was lost");
    return E_CONN_LOST;
  }
  if ((rc = nth_fault("fail_read", nth, E_CONN_LOST)) != E_OK || (rc = sector_fault(start, count)) != E_OK)
    return rc;
  if (read_links(d, 0, buf, count * SECTOR, start * SECTOR) == -1)
    return E_FILE_ERROR;
  __atomic_add_fetch(&d->bytes, count * SECTOR, __ATOMIC_RELAXED);
  return E_OK;
}

void *worker(void *disk) {
  struct disk *d = disk;

  pthread_mutex_lock(&d->lock);
  for (;;) {
    struct job *j;
    VixError rc;

    while (!d->head && !d->stop)
      pthread_cond_wait(&d->work, &d->lock);
    if (!d->head)
      break;
    j = d->head;
    d->head = j->next;
    if (!d->head)
      d->tail = &d->head;
    pthread_mutex_unlock(&d->lock);
    rc = read_sectors(d, j->start, j->count, j->buf);
    j->done(j->data, rc);
    free(j);
    pthread_mutex_lock(&d->lock);
    if (--d->pending == 0)
      pthread_cond_broadcast(&d->idle);
  }
  pthread_mutex_unlock(&d->lock);
  return NULL;
}

EXPORT VixError VixDiskLib_Read(struct disk *d, uint64_t start, uint64_t count, unsigned char *buf) {
  return read_sectors(d, start, count, buf);
}

EXPORT VixError VixDiskLib_ReadAsync(struct disk *d, uint64_t start, uint64_t count, unsigned char *buf, done_fn done,
                                     void *data) {
  struct job *j = malloc(sizeof *j);

  if (!j)
    return E_NOMEM;
  *j = (struct job){NULL, start, count, buf, done, data};
  pthread_mutex_lock(&d->lock);
  *d->tail = j;
  d->tail = &j->next;
  d->pending++;
  pthread_cond_signal(&d->work);
  pthread_mutex_unlock(&d->lock);
  return E_ASYNC;
}

/* The plugin insists that these exist.  A source is never written. */
EXPORT VixError VixDiskLib_Write(void) { return E_NOT_SUPPORTED; }
EXPORT VixError VixDiskLib_WriteAsync(void) { return E_NOT_SUPPORTED; }
EXPORT VixError VixDiskLib_Create(void) { return E_NOT_SUPPORTED; }
EXPORT VixError VixDiskLib_Flush(void) { return E_OK; }
