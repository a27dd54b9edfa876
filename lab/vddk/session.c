/* session.c - the library's start and end, its error texts, logging in. */
#define _GNU_SOURCE
#include "mock.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t connects;

EXPORT VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, log_fn *info, log_fn *warn, log_fn *panic,
                                  const char *libdir, const char *config) {
  (void)panic;
  log_info = info;
  log_warn = warn;
  settings_open(libdir);
  say(log_info, "mock VixDiskLib: API %u.%u, config %s", major, minor, config ? config : "none");
  audit("InitEx", E_OK, "config", config, NULL);
  return E_OK;
}

/* nbdkit closes no disk once it has been told to end (free_connection): what such a disk was asked is counted here. */
EXPORT void VixDiskLib_Exit(void) {
  end_left_open();
  audit("Exit", E_OK, NULL);
  log_info = log_warn = NULL;
  settings_open(NULL);
}

EXPORT const char *VixDiskLib_ListTransportModes(void) { return "file:san:hotadd:nbdssl:nbd"; }

EXPORT char *VixDiskLib_GetErrorText(VixError err, const char *locale) {
  static const struct { unsigned code; const char *text; } known[] = {
      {E_OK, "The operation was successful"},
      {E_FAIL, "Unknown error"},
      {E_NOMEM, "Memory allocation failed. Out of memory"},
      {E_INVALID_ARG, "One of the parameters supplied is invalid"},
      {E_NOT_FOUND, "A file was not found"},
      {E_NOT_SUPPORTED, "The operation is not supported"},
      {E_FILE_ERROR, "A file access error occurred on the host or guest operating system"},
      {E_FILE_ACCESS, "You do not have access rights to this file"},
      {E_HOST_PERMISSIONS, "Insufficient permissions in the host operating system"},
      {E_SNAPSHOT_NOT_FOUND, "The snapshot was not found"},
      {E_SERVER_NOT_FOUND, "The specified server could not be contacted"},
      {E_CONN_REFUSED, "The server refused connection"},
      {E_CONN_LOST, "The connection was lost"},
      {E_DISK_INVAL, "One of the parameters was invalid"},
      {E_DISK_OUT_OF_RANGE, "You have requested access to an area of the virtual disk that is out of bounds"},
  };
  char *other;

  (void)locale;
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (known[i].code == (err & 0xffff))
      return strdup(known[i].text);
  return asprintf(&other, "Error %u", (unsigned)(err & 0xffff)) == -1 ? NULL : other;
}

EXPORT void VixDiskLib_FreeErrorText(char *text) { free(text); }

EXPORT struct connect_params *VixDiskLib_AllocateConnectParams(void) {
  return calloc(1, sizeof(struct connect_params));
}

/* The texts in it belong to the caller. */
EXPORT void VixDiskLib_FreeConnectParams(struct connect_params *p) { free(p); }

/* Is `got` what setting `key` demands?  An unset key accepts anything. */
static int expected(const char *key, const char *got) {
  char *want = setting(key);
  int ok = !want || (got && !strcmp(want, got));

  free(want);
  return ok;
}

/* Equal but for colons and case. */
static int same_thumbprint(const char *a, const char *b) {
  for (;; a++, b++) {
    while (*a == ':') a++;
    while (*b == ':') b++;
    if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
      return 0;
    if (!*a)
      return 1;
  }
}

static VixError check_login(const struct connect_params *p) {
  int by_session = p->cred_type == CRED_SESSION;
  const char *user = by_session ? p->cred.session.user : p->cred.uid.user;
  const char *password = by_session ? p->cred.session.key : p->cred.uid.password;
  char *thumbprint;
  long long port = p->port ? p->port : 443;
  int same;

  if (!expected("server", p->server) || number_setting("port", port) != port) {
    say(log_warn, "mock: cannot reach server %s:%lld", p->server, port);
    return E_SERVER_NOT_FOUND;
  }
  thumbprint = setting("thumbprint");
  same = !thumbprint || (p->thumbprint && same_thumbprint(thumbprint, p->thumbprint));
  if (!same)
    say(log_info, "VixDiskLibVim: Failed to verify SSL certificate: actual thumbprint=%s expected=%s", thumbprint,
        p->thumbprint ? p->thumbprint : "");
  free(thumbprint);
  if (!same)
    return E_FAIL;
  if (by_session && !expected("cookie", p->cred.session.cookie)) {
    say(log_warn, "mock: login to %s refused: session not valid", p->server);
    return E_HOST_PERMISSIONS;
  }
  if (!expected("user", user) || !expected("password", password)) {
    say(log_warn, "mock: login to %s as %s refused: incorrect user name or password", p->server,
        user ? user : "(nobody)");
    return E_HOST_PERMISSIONS;
  }
  return E_OK;
}

/* The first wanted mode that works from here, malloc'd: never san or hotadd. */
static char *pick_mode(const char *wanted) {
  char *copy = strdup(wanted && *wanted ? wanted : VixDiskLib_ListTransportModes()), *save, *t, *found = NULL;

  for (t = strtok_r(copy, ":", &save); t && !found; t = strtok_r(NULL, ":", &save))
    if (!strcmp(t, "nbd") || !strcmp(t, "nbdssl"))
      found = strdup(t);
  free(copy);
  return found;
}

EXPORT VixError VixDiskLib_Disconnect(struct conn *c) {
  if (c) {
    free(c->moref);
    free(c->snapshot);
    free(c->mode);
    free(c);
  }
  return E_OK;
}

EXPORT VixError VixDiskLib_ConnectEx(const struct connect_params *p, char read_only, const char *snapshot,
                                     const char *modes, struct conn **out) {
  struct conn *c = calloc(1, sizeof *c);
  VixError rc = nth_fault("fail_connect", count_up(&connects), E_CONN_LOST);
  char *stage = setting("auth_stage");

  if (!c || !p || !p->server) {
    rc = E_NOT_SUPPORTED; /* local disks are not our business */
  } else if (!p->vmx_spec || strncmp(p->vmx_spec, "moref=", 6)) {
    say(log_warn, "mock: cannot use VM specification \"%s\"", p->vmx_spec ? p->vmx_spec : "");
    rc = E_INVALID_ARG;
  } else if ((c->mode = pick_mode(modes)) == NULL) {
    say(log_warn, "mock: no usable transport mode among \"%s\"", modes);
    rc = E_INVALID_ARG;
  } else {
    c->moref = strdup(p->vmx_spec + 6);
    c->snapshot = snapshot ? strdup(snapshot) : NULL;
    c->pending = check_login(p);
    if (rc == E_OK && stage && !strcmp(stage, "connect"))
      rc = c->pending;
  }
  free(stage);
  audit("ConnectEx", rc, "server", p ? p->server : NULL, "vm", p ? p->vmx_spec : NULL, "snapshot", snapshot,
        "transports", modes, "mode", c ? c->mode : NULL, "cred",
        p && p->cred_type == CRED_SESSION ? "session" : "password", "login",
        c && c->pending == E_OK ? "ok" : "refused", "readOnly", read_only ? "true" : "false", NULL);
  if (rc != E_OK) {
    VixDiskLib_Disconnect(c);
    return rc;
  }
  *out = c;
  return E_OK;
}
