/* abi.h - what `nbdkit vddk` expects of libvixDiskLib, on x86-64 Linux.
 *
 * Only names, argument lists and structure layouts that the plugin calls
 * through; nothing here comes from VMware or from nbdkit.  A wrong layout
 * would corrupt memory silently, so each one is asserted. */
#ifndef ABI_H
#define ABI_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define SECTOR 512ull

typedef uint64_t VixError;
enum {
  E_OK = 0, E_FAIL = 1, E_NOMEM = 2, E_INVALID_ARG = 3, E_NOT_FOUND = 4, E_NOT_SUPPORTED = 6,
  E_FILE_ERROR = 7, E_FILE_ACCESS = 13, E_HOST_PERMISSIONS = 3014, E_SNAPSHOT_NOT_FOUND = 13003,
  E_SERVER_NOT_FOUND = 14008, E_CONN_REFUSED = 14009, E_CONN_LOST = 14011,
  E_DISK_INVAL = 16000, E_DISK_OUT_OF_RANGE = 16007, E_ASYNC = 25000
};
enum { CRED_PASSWORD = 1, CRED_SESSION = 2 };
enum { OPEN_UNBUFFERED = 1, OPEN_SINGLE_LINK = 2, OPEN_READ_ONLY = 4 };

typedef void log_fn(const char *fmt, va_list ap);
typedef void (*done_fn)(void *data, VixError result);

struct connect_params {
  char *vmx_spec, *server, *thumbprint;
  long reserved1;
  int cred_type;
  union {
    struct { char *user, *password; } uid;
    struct { char *cookie, *user, *key; } session;
  } cred;
  uint32_t port, nfc_port;
  char *reserved2[3];
  struct { char *id, *datastore, *ssid; } object;
  int spec_type;
};
struct geometry { uint32_t cylinders, heads, sectors; };
struct disk_info {
  struct geometry bios, physical;
  uint64_t capacity; /* sectors */
  int adapter, links;
  char *parent_hint, *uuid;
  uint32_t logical_sector, physical_sector; /* read by the plugin from version 7 on */
};
struct block { uint64_t offset, length; }; /* sectors */
struct block_list { uint32_t count; struct block at[]; };

#define AT(type, field, where) _Static_assert(offsetof(type, field) == (where), #type "." #field)
AT(struct connect_params, cred_type, 32);
AT(struct connect_params, cred, 40);
AT(struct connect_params, port, 64);
AT(struct connect_params, object, 96);
AT(struct connect_params, spec_type, 120);
_Static_assert(sizeof(struct connect_params) == 128, "connect_params");
AT(struct disk_info, capacity, 24);
AT(struct disk_info, parent_hint, 40);
AT(struct disk_info, logical_sector, 56);
_Static_assert(sizeof(struct disk_info) == 64, "disk_info");
AT(struct block_list, at, 8);
#endif
