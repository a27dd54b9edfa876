/*
 * sink: a receiver that behaves like XAPI's PUT /import_raw_vdi?chunked and keeps nothing. It measures the sender.
 *
 *   sink tls CERT KEY | sink plain
 *
 * TLS as XAPI offers it: 1.2, ECDHE-RSA-AES256-GCM preferred, then AES128, curve P-384. It answers 200 before the body,
 * takes chunks (offset u64 LE, length u32 LE, data) until 12 zero bytes, and closes. Without "chunked" in the query it takes as
 * many bytes as the content-length says. A transfer-encoding is refused.
 *
 * SINK_WRITE_US=N: a piece of at most 2 MiB is read completely, then "written" for N microseconds, as XAPI's vhd-tool does
 * it: one buffer, no reading meanwhile.
 *
 * First line of stdout: the port. Then one line for each PUT that has ended:
 * {"wire": bytes after decryption, "data": of it payload, "chunks": n, "ok": end marker seen, "cpu": seconds of this process so far}
 */
#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PIECE = 2 << 20, SMALL = 64 << 10 };

static SSL_CTX *tls;
static unsigned write_us;

typedef struct {
  int fd;
  SSL *ssl;
  char small[SMALL];
  size_t filled, used;
  uint64_t wire;
} Peer;

static ssize_t receive(Peer *peer, void *into, size_t length) {
  ssize_t got = peer->ssl ? SSL_read(peer->ssl, into, (int)length) : recv(peer->fd, into, length, 0);
  if (got > 0) peer->wire += (uint64_t)got;
  return got;
}

/* Exactly that many bytes. What is small comes through a buffer, what is large goes straight to its place. */
static int take(Peer *peer, char *into, size_t length) {
  while (length > 0) {
    size_t ready = peer->filled - peer->used;
    if (ready > 0) {
      size_t part = ready < length ? ready : length;
      memcpy(into, peer->small + peer->used, part);
      peer->used += part, into += part, length -= part;
    } else if (length >= SMALL) {
      ssize_t got = receive(peer, into, length);
      if (got <= 0) return -1;
      into += got, length -= (size_t)got;
    } else {
      ssize_t got = receive(peer, peer->small, SMALL);
      if (got <= 0) return -1;
      peer->filled = (size_t)got, peer->used = 0;
    }
  }
  return 0;
}

static void answer(Peer *peer, const char *text) {
  if (peer->ssl) SSL_write(peer->ssl, text, (int)strlen(text));
  else if (write(peer->fd, text, strlen(text)) < 0) perror("answer");
}

static int read_head(Peer *peer, char *head, size_t size) {
  for (size_t n = 0; n + 1 < size; ) {
    if (take(peer, head + n, 1)) return -1;
    head[++n] = 0;
    if (n >= 4 && !memcmp(head + n - 4, "\r\n\r\n", 4)) return 0;
  }
  return -1;
}

static void *serve(void *arg) {
  Peer *peer = calloc(1, sizeof *peer);
  peer->fd = (int)(intptr_t)arg;
  int one = 1, ok = 0;
  setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  char *piece = malloc(PIECE), head[16384];
  uint64_t data = 0, chunks = 0, before = 0;
  if (tls) {
    peer->ssl = SSL_new(tls);
    SSL_set_fd(peer->ssl, peer->fd);
    if (SSL_accept(peer->ssl) <= 0) goto end;
  }
  if (read_head(peer, head, sizeof head)) goto end;
  const char *stated = strcasestr(head, "\r\ncontent-length:");
  int chunked = memmem(head, (size_t)(strchr(head, '\r') - head), "chunked", 7) != NULL;
  if (strcasestr(head, "\r\ntransfer-encoding:") || (!chunked && !stated)) {
    answer(peer, "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n");
    goto end;
  }
  answer(peer, "HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: no-cache, no-store\r\n\r\n");
  before = strlen(head);
  if (!chunked) {
    for (uint64_t left = strtoull(stated + 17, NULL, 10); left > 0; ) {
      uint32_t part = left < PIECE ? (uint32_t)left : PIECE;
      if (take(peer, piece, part)) goto end;
      left -= part, data += part;
    }
    ok = 1;
    goto end;
  }
  for (;;) {
    struct __attribute__((packed)) { uint64_t offset; uint32_t length; } chunk;
    if (take(peer, (char *)&chunk, sizeof chunk)) break;
    if (chunk.offset == 0 && chunk.length == 0) { ok = 1; break; }
    chunks++, data += chunk.length;
    for (uint32_t left = chunk.length; left > 0; ) {
      uint32_t part = left < PIECE ? left : PIECE;
      if (take(peer, piece, part)) goto end;
      if (write_us) usleep(write_us);
      left -= part;
    }
  }
end:
  if (peer->ssl) SSL_shutdown(peer->ssl), SSL_free(peer->ssl);
  if (before) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"wire\":%llu,\"data\":%llu,\"chunks\":%llu,\"ok\":%s,\"cpu\":%.3f}\n", (unsigned long long)(peer->wire - before),
           (unsigned long long)data, (unsigned long long)chunks, ok ? "true" : "false", cpu);
    fflush(stdout);
  }
  close(peer->fd);
  free(piece), free(peer);
  return NULL;
}

static void use_tls(const char *cert, const char *key) {
  tls = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
  SSL_CTX_set_max_proto_version(tls, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(tls, "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256");
  SSL_CTX_set1_curves_list(tls, "P-384");
  SSL_CTX_set_options(tls, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION);
  /* The sink should cost little: fewer, larger reads of the socket. */
  SSL_CTX_set_read_ahead(tls, 1);
  SSL_CTX_set_default_read_buffer_len(tls, 256 << 10);
  if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 || SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
    ERR_print_errors_fp(stderr);
    exit(1);
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* a benchmark that was killed leaves nothing behind */
  if (argc == 4 && !strcmp(argv[1], "tls")) use_tls(argv[2], argv[3]);
  else if (argc != 2 || strcmp(argv[1], "plain")) return fprintf(stderr, "usage: sink tls CERT KEY | sink plain\n"), 2;
  if (getenv("SINK_WRITE_US")) write_us = (unsigned)atoi(getenv("SINK_WRITE_US"));
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (void *)&address, size) || listen(listener, 64) || getsockname(listener, (void *)&address, &size)) {
    perror("listen");
    return 1;
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, 0, 0);
    pthread_t thread;
    if (fd >= 0 && !pthread_create(&thread, 0, serve, (void *)(intptr_t)fd)) pthread_detach(thread);
  }
}
