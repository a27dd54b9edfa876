/*
 * mover: the work of our mover with one native thread and nothing around it. What it takes is the machine's limit.
 *
 *   mover NBD_SOCKET PORT DEPTH [AREAS]
 *
 * It maps the disk (16 windows of 1 GiB ahead; or takes "offset length" lines from AREAS), reads chunks of up to 2 MiB cut
 * on 2 MiB boundaries, DEPTH ahead, and sends each with its 12-byte head over TLS. Records are gathered in memory and leave
 * in pieces of 240 KiB: writing every 16 KiB record by itself costs a tenth more. Certificates are not looked at; it is a
 * benchmark on loopback.
 */
#define _GNU_SOURCE
#include <openssl/ssl.h>
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 2 << 20, WINDOW = 1 << 30, WINDOWS_AHEAD = 16, GATHERED = 240 << 10, MOST_PAIRS = 20 << 20 };
enum { READ = 0, DISCONNECT = 2, BLOCK_STATUS = 7 };
enum { DATA = 1, STATUS = 5 };

typedef struct { uint64_t offset, length; } Range;
typedef struct { Range *list; size_t count, room; } Ranges;

static int nbd, out;
static SSL *ssl;
static BIO *records;

static void die(const char *what) { perror(what); exit(1); }

static void receive(int fd, void *into, size_t length) {
  for (char *at = into; length > 0; ) {
    ssize_t got = recv(fd, at, length, MSG_WAITALL);
    if (got <= 0) die("recv");
    at += got, length -= (size_t)got;
  }
}

static void send_all(int fd, const void *bytes, size_t length) {
  for (const char *at = bytes; length > 0; ) {
    ssize_t sent = send(fd, at, length, 0);
    if (sent <= 0) die("send");
    at += sent, length -= (size_t)sent;
  }
}

static void encrypted(const char *bytes, size_t length) {
  while (length > 0) {
    size_t part = length < GATHERED ? length : GATHERED;
    if (SSL_write(ssl, bytes, (int)part) != (int)part) die("SSL_write");
    char *ready;
    long n = BIO_get_mem_data(records, &ready);
    send_all(out, ready, (size_t)n);
    BIO_reset(records);
    bytes += part, length -= part;
  }
}

static void request(uint16_t command, uint64_t id, uint64_t offset, uint32_t length) {
  struct __attribute__((packed)) { uint32_t magic; uint16_t flags, command; uint64_t id, offset; uint32_t length; } r = {
      htobe32(0x25609513), 0, htobe16(command), htobe64(id), htobe64(offset), htobe32(length)};
  send_all(nbd, &r, sizeof r);
}

/* The head of a structured reply; `length` bytes follow. */
static uint16_t reply(uint64_t *id, uint32_t *length) {
  struct __attribute__((packed)) { uint32_t magic; uint16_t flags, type; uint64_t id; uint32_t length; } r;
  receive(nbd, &r, sizeof r);
  if (be32toh(r.magic) != 0x668e33ef || !(be16toh(r.flags) & 1)) die("a reply that is not one structured chunk");
  *id = be64toh(r.id), *length = be32toh(r.length);
  return be16toh(r.type);
}

static uint64_t option(uint32_t code, const void *data, uint32_t length) {
  struct __attribute__((packed)) { uint64_t magic; uint32_t code, length; } o = {htobe64(0x49484156454f5054ull), htobe32(code), htobe32(length)};
  send_all(nbd, &o, sizeof o);
  send_all(nbd, data, length);
  for (uint64_t size = 0;;) {
    struct __attribute__((packed)) { uint64_t magic; uint32_t code, type, length; } r;
    char body[65536];
    receive(nbd, &r, sizeof r);
    if (be32toh(r.length) > sizeof body) die("option reply");
    receive(nbd, body, be32toh(r.length));
    if (be32toh(r.type) == 1) return size;
    if (be32toh(r.type) & 0x80000000) die("option refused");
    if (be32toh(r.type) == 3 && body[0] == 0 && body[1] == 0) memcpy(&size, body + 2, 8), size = be64toh(size);
  }
}

static uint64_t open_disk(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  nbd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(nbd, (void *)&address, sizeof address)) die("nbd");
  char greeting[18];
  receive(nbd, greeting, sizeof greeting);
  send_all(nbd, "\0\0\0\3", 4);
  option(8, "", 0);
  option(10, "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation", 27);
  return option(7, "\0\0\0\0\0\0", 6);
}

static void add(Ranges *ranges, uint64_t offset, uint64_t length) {
  Range *last = ranges->count ? &ranges->list[ranges->count - 1] : NULL;
  if (last && last->offset + last->length == offset) { last->length += length; return; }
  if (ranges->count == ranges->room) ranges->list = realloc(ranges->list, (ranges->room = ranges->room * 2 + 64) * sizeof *ranges->list);
  ranges->list[ranges->count++] = (Range){offset, length};
}

/* A reply may end early; the rest of its window is asked for again, and comes behind what was asked meanwhile. */
static void map_disk(Ranges *ranges, uint64_t size) {
  size_t windows = (size_t)((size + WINDOW - 1) / WINDOW), asked = 0;
  struct { uint64_t at, end; Ranges data; } *window = calloc(windows, sizeof *window);
  uint32_t *pairs = malloc(MOST_PAIRS);
  for (size_t open = 0; asked < windows || open > 0;) {
    for (; asked < windows && open < WINDOWS_AHEAD; asked++, open++) {
      window[asked].at = (uint64_t)asked * WINDOW;
      window[asked].end = size - window[asked].at < WINDOW ? size : window[asked].at + WINDOW;
      request(BLOCK_STATUS, asked, window[asked].at, (uint32_t)(window[asked].end - window[asked].at));
    }
    uint64_t id;
    uint32_t length;
    if (reply(&id, &length) != STATUS || length > MOST_PAIRS || id >= asked) die("block status");
    receive(nbd, pairs, length);
    uint64_t at = window[id].at, end = window[id].end;
    for (uint32_t i = 1; i + 1 < length / 4 && at < end; i += 2) {
      uint64_t run = be32toh(pairs[i]);
      if (run > end - at) run = end - at;
      if (!(be32toh(pairs[i + 1]) & 2)) add(&window[id].data, at, run);
      at += run;
    }
    window[id].at = at;
    if (at < end) request(BLOCK_STATUS, id, at, (uint32_t)(end - at));
    else open--;
  }
  for (size_t i = 0; i < windows; i++) {
    for (size_t j = 0; j < window[i].data.count; j++) add(ranges, window[i].data.list[j].offset, window[i].data.list[j].length);
    free(window[i].data.list);
  }
  free(window), free(pairs);
}

static void read_areas(Ranges *ranges, const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) die(path);
  for (unsigned long long offset, length; fscanf(file, "%llu %llu", &offset, &length) == 2; ) add(ranges, offset, length);
  fclose(file);
}

static void connect_tls(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  out = socket(AF_INET, SOCK_STREAM, 0);
  int one = 1;
  setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(out, (void *)&address, sizeof address)) die("sink");
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  ssl = SSL_new(context);
  SSL_set_fd(ssl, out);
  if (SSL_connect(ssl) != 1) die("TLS");
  records = BIO_new(BIO_s_mem());
  SSL_set0_wbio(ssl, records);
}

int main(int argc, char **argv) {
  if (argc < 4) return fprintf(stderr, "usage: mover NBD_SOCKET PORT DEPTH [AREAS]\n"), 2;
  uint64_t size = open_disk(argv[1]);
  Ranges ranges = {0};
  if (argc > 4) read_areas(&ranges, argv[4]);
  else map_disk(&ranges, size);
  Ranges chunks = {0};
  for (size_t i = 0; i < ranges.count; i++) {
    for (Range *r = &ranges.list[i]; r->length > 0; ) {
      uint64_t part = CHUNK - r->offset % CHUNK;
      if (part > r->length) part = r->length;
      if (chunks.count == chunks.room) chunks.list = realloc(chunks.list, (chunks.room = chunks.room * 2 + 64) * sizeof *chunks.list);
      chunks.list[chunks.count++] = (Range){r->offset, part};
      r->offset += part, r->length -= part;
    }
  }
  connect_tls(atoi(argv[2]));
  const char *head = "PUT /import_raw_vdi?vdi=x&format=raw&chunked=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  encrypted(head, strlen(head));

  size_t depth = (size_t)atoi(argv[3]), asked = 0;
  char *buffer = calloc(1, CHUNK + 12);
  for (; asked < chunks.count && asked < depth; asked++) request(READ, asked, chunks.list[asked].offset, (uint32_t)chunks.list[asked].length);
  for (size_t got = 0; got < chunks.count; got++) {
    uint64_t id, offset;
    uint32_t length;
    if (reply(&id, &length) != DATA || id >= chunks.count || length != chunks.list[id].length + 8) die("read");
    receive(nbd, &offset, sizeof offset);
    receive(nbd, buffer + 12, length - 8);
    if (asked < chunks.count) request(READ, asked, chunks.list[asked].offset, (uint32_t)chunks.list[asked].length), asked++;
    memcpy(buffer, &chunks.list[id].offset, 8);
    uint32_t payload = length - 8;
    memcpy(buffer + 8, &payload, 4);
    encrypted(buffer, payload + 12);
  }
  memset(buffer, 0, 12);
  encrypted(buffer, 12);
  while (SSL_read(ssl, buffer, CHUNK) > 0) continue;
  request(DISCONNECT, 0, 0, 0);
  return 0;
}
