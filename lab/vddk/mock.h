/* mock.h - what the files of the mock library share. */
#ifndef MOCK_H
#define MOCK_H
#include "abi.h"
#include <pthread.h>

#define MAX_LINKS 32
#define MAX_THREADS 16

/* One VixDiskLib connection. */
struct conn {
  VixError pending; /* login error, reported by Open */
  char *moref, *snapshot, *mode;
};

/* One open disk. */
struct disk {
  struct conn *conn;
  char *path;
  uint32_t flags;
  int fd[MAX_LINKS], links; /* [0] is the newest link */
  uint64_t capacity;        /* sectors */
  int session_fd;
  pthread_mutex_t lock;
  pthread_cond_t work, idle;
  struct job *head, **tail;
  unsigned pending;
  int stop, lost, nthreads;
  pthread_t threads[MAX_THREADS];
  uint64_t reads, bytes, queries;
  double free_at;    /* bandwidth limiter, seconds on the monotonic clock */
  struct disk *next; /* of those that are open */
};

/* settings.c */
void settings_open(const char *libdir);
char *slurp(const char *path);
char *setting(const char *key);                       /* malloc'd, or NULL */
long long number_setting(const char *key, long long fallback);
VixError nth_fault(const char *key, uint64_t nth, VixError code);
VixError sector_fault(uint64_t start, uint64_t count);
uint64_t count_up(uint64_t *counter);
void nap_us(long long us);

/* log.c */
extern log_fn *log_info, *log_warn;
void say(log_fn *fn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void audit(const char *call, VixError rc, ...) __attribute__((sentinel)); /* pairs of key and text, then NULL */

/* files.c: where a disk's bytes are */
VixError check_owner(const char *moref, const char *disk);
int take_session(void); /* -1 no limit, -2 none free */
VixError open_links(struct disk *d);
int read_links(struct disk *d, int link, unsigned char *buf, uint64_t len, uint64_t at);
uint64_t next_data(struct disk *d, uint64_t at, uint64_t end);
uint64_t data_end(struct disk *d, uint64_t at, uint64_t end);

/* disk.c */
void end_left_open(void);

/* io.c */
void *worker(void *disk);
#endif
