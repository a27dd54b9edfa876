/* disk.c - opening, describing and closing a disk; which blocks it holds. */
#define _GNU_SOURCE
#include "mock.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_MIN 128u            /* sectors: 64 KiB */
#define CHUNKS_MAX (512u * 1024u) /* per query: 32 GiB at CHUNK_MIN */

static uint64_t opens, queries;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct disk *open_disks;

static void remember(struct disk *d) {
  pthread_mutex_lock(&open_lock);
  d->next = open_disks;
  open_disks = d;
  pthread_mutex_unlock(&open_lock);
}

static void forget(struct disk *d) {
  pthread_mutex_lock(&open_lock);
  for (struct disk **at = &open_disks; *at; at = &(*at)->next)
    if (*at == d) {
      *at = d->next;
      break;
    }
  pthread_mutex_unlock(&open_lock);
}

static void audit_close(struct disk *d, const char *by) {
  char reads[24], bytes[24], asked[24];

  snprintf(reads, sizeof reads, "%" PRIu64, d->reads);
  snprintf(bytes, sizeof bytes, "%" PRIu64, d->bytes);
  snprintf(asked, sizeof asked, "%" PRIu64, d->queries);
  audit("Close", E_OK, "path", d->path, "reads", reads, "bytes", bytes, "queries", asked, "by", by, NULL);
}

/* After what is queued: nobody may still run code of ours once it is unloaded. */
static void stop_threads(struct disk *d) {
  pthread_mutex_lock(&d->lock);
  d->stop = 1;
  pthread_cond_broadcast(&d->work);
  pthread_mutex_unlock(&d->lock);
  for (int i = 0; i < d->nthreads; i++)
    pthread_join(d->threads[i], NULL);
}

void end_left_open(void) {
  pthread_mutex_lock(&open_lock);
  for (struct disk *d = open_disks; d; d = d->next) {
    stop_threads(d);
    audit_close(d, "exit");
  }
  open_disks = NULL;
  pthread_mutex_unlock(&open_lock);
}

static void release(struct disk *d) {
  for (int i = 0; i < d->links; i++)
    close(d->fd[i]);
  if (d->session_fd >= 0)
    close(d->session_fd);
  pthread_mutex_destroy(&d->lock);
  pthread_cond_destroy(&d->work);
  pthread_cond_destroy(&d->idle);
  free(d->path);
  free(d);
}

static VixError start_threads(struct disk *d) {
  long long n = number_setting("async_threads", 4);

  for (d->nthreads = 0; d->nthreads < n && d->nthreads < MAX_THREADS; d->nthreads++)
    if (pthread_create(&d->threads[d->nthreads], NULL, worker, d) != 0)
      break;
  return d->nthreads ? E_OK : E_NOMEM;
}

EXPORT VixError VixDiskLib_Open(struct conn *c, const char *path, uint32_t flags, struct disk **out) {
  uint64_t nth = count_up(&opens);
  struct disk *d = calloc(1, sizeof *d);
  struct stat st;
  char flagtext[16];
  VixError rc;

  if (!d)
    return E_NOMEM;
  nap_us(number_setting("open_delay_us", 0));
  *d = (struct disk){.conn = c, .path = strdup(path), .flags = flags, .session_fd = -1};
  pthread_mutex_init(&d->lock, NULL);
  pthread_cond_init(&d->work, NULL);
  pthread_cond_init(&d->idle, NULL);
  d->tail = &d->head;

  rc = c->pending;
  if (rc == E_OK)
    rc = nth_fault("fail_open", nth, E_CONN_REFUSED);
  if (rc == E_OK && !(flags & OPEN_READ_ONLY)) {
    say(log_warn, "mock: %s: a source is only ever opened read-only", path);
    rc = E_FILE_ACCESS;
  }
  if (rc == E_OK)
    rc = check_owner(c->moref, path);
  if (rc == E_OK && (d->session_fd = take_session()) == -2) {
    say(log_warn, "[NFC ERROR] mock: no free session on the host");
    rc = E_CONN_REFUSED;
  }
  if (rc == E_OK)
    rc = open_links(d);
  if (rc == E_OK)
    rc = fstat(d->fd[0], &st) == -1 ? E_FILE_ERROR : E_OK;
  if (rc == E_OK) {
    d->capacity = st.st_size / SECTOR;
    rc = start_threads(d);
  }
  snprintf(flagtext, sizeof flagtext, "%u", flags);
  audit("Open", rc, "path", path, "flags", flagtext, "vm", c->moref, "snapshot", c->snapshot, "mode", c->mode, NULL);
  if (rc != E_OK) {
    say(log_info, "VixDiskLib: VixDiskLib_OpenEx: Cannot open disk %s. Error %u", path, (unsigned)rc);
    release(d);
    return rc;
  }
  say(log_info, "mock: opened %s, %" PRIu64 " sectors, %d link(s)", path, d->capacity, d->links);
  remember(d);
  *out = d;
  return E_OK;
}

EXPORT VixError VixDiskLib_Wait(struct disk *d) {
  pthread_mutex_lock(&d->lock);
  while (d->pending)
    pthread_cond_wait(&d->idle, &d->lock);
  pthread_mutex_unlock(&d->lock);
  return E_OK;
}

EXPORT VixError VixDiskLib_Close(struct disk *d) {
  stop_threads(d);
  forget(d);
  audit_close(d, "caller");
  release(d);
  return E_OK;
}

EXPORT const char *VixDiskLib_GetTransportMode(struct disk *d) { return d->conn->mode; }

EXPORT VixError VixDiskLib_GetInfo(struct disk *d, struct disk_info **out) {
  struct disk_info *i = calloc(1, sizeof *i);

  if (!i)
    return E_NOMEM;
  i->capacity = d->capacity;
  i->bios = i->physical = (struct geometry){d->capacity / (255 * 63), 255, 63};
  i->adapter = 3; /* LSI Logic */
  i->links = d->links;
  i->logical_sector = i->physical_sector = SECTOR;
  *out = i;
  return E_OK;
}

EXPORT void VixDiskLib_FreeInfo(struct disk_info *i) { free(i); }

/* Appends sectors [from, to) to the list, or widens its last block. */
static struct block_list *append(struct block_list *list, size_t *room, uint64_t from, uint64_t to) {
  struct block *last = list->count ? &list->at[list->count - 1] : NULL;

  if (last && last->offset + last->length >= from) {
    last->length = to - last->offset;
    return list;
  }
  if (list->count == *room) {
    struct block_list *more = realloc(list, sizeof *list + (*room *= 2) * sizeof(struct block));
    if (!more) {
      free(list);
      return NULL;
    }
    list = more;
  }
  list->at[list->count++] = (struct block){from, to - from};
  return list;
}

/* Allocation in whole chunks, from the holes of the files. */
EXPORT VixError VixDiskLib_QueryAllocatedBlocks(struct disk *d, uint64_t start, uint64_t count, uint64_t chunk,
                                                struct block_list **out) {
  uint64_t nth = count_up(&queries), step = chunk * SECTOR, at, end, to;
  size_t room = 64;
  struct block_list *list;
  VixError rc;

  count_up(&d->queries);
  nap_us(number_setting("query_delay_us", 0));
  if (number_setting("no_query", 0))
    return E_NOT_SUPPORTED;
  if (__atomic_load_n(&d->lost, __ATOMIC_RELAXED))
    return E_CONN_LOST;
  if ((rc = nth_fault("fail_query", nth, E_CONN_LOST)) != E_OK)
    return rc;
  /* As strict as the real one: a caller's mistake must show. */
  if (chunk < CHUNK_MIN || (chunk & (chunk - 1)) || start % chunk || count % chunk || count == 0 ||
      count / chunk > CHUNKS_MAX || start + count > d->capacity)
    return E_DISK_INVAL;
  list = malloc(sizeof *list + room * sizeof(struct block));
  if (list)
    list->count = 0;
  end = (start + count) * SECTOR;
  for (at = start * SECTOR; list && (at = next_data(d, at, end)) < end; at = to) {
    to = (data_end(d, at, end) + step - 1) / step * step;
    list = append(list, &room, at / step * chunk, to / SECTOR);
  }
  *out = list;
  return list ? E_OK : E_NOMEM;
}

EXPORT VixError VixDiskLib_FreeBlockList(struct block_list *list) {
  free(list);
  return E_OK;
}
