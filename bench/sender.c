/* The least a server can do: the same events from one thread of C, with one write each and nothing kept.
 *
 * It shows what the kernel alone takes (the floor of every figure) and how much the load client can swallow (the ceiling).
 *
 *   sender <port>        GET /stream?seconds=10&rate=50
 *                        POST /fan?start=<ns>&count=500&rate=50&burst=1&pad=0 begins a run for all who came by GET /fan
 *
 * Due events stand in a wheel of one-millisecond slots. A viewer that does not take a whole frame at once is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1024, READY_LIMIT = 512, BACKLOG = 4096, REQUEST_LIMIT = 8192, PAD_LIMIT = 1 << 16 };
static const int64_t MS = 1000000;

typedef struct viewer {
    int fd;
    int64_t start, step; /* event n is due at start + n * step */
    uint64_t number, count;
    struct viewer *next; /* in its slot */
} viewer;

static viewer *wheel[SLOTS];
static int64_t tick; /* the first millisecond not served yet */
static int epoll;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t due_of(const viewer *v) { return v->start + (int64_t)v->number * v->step; }

/* A slot that was served already comes round only after a whole turn, so a late event takes the next one. */
static void stand(viewer *v) {
    int64_t due = due_of(v) / MS;
    viewer **slot = &wheel[(due > tick ? due : tick) % SLOTS];
    v->next = *slot;
    *slot = v;
}

static void leave(viewer *v) {
    close(v->fd);
    free(v);
}

static bool put(viewer *v, const char *bytes, int length) {
    return send(v->fd, bytes, (size_t)length, MSG_NOSIGNAL) == length;
}

/* A chunk with the event; its length. */
static int write_event(char *chunk, size_t size, uint64_t number, int64_t due, int pad) {
    static char data[PAD_LIMIT + 256];
    int length = snprintf(data, sizeof data,
                          "id: 0123456789abcdef0123456789.1.%" PRIu64 "\ndata: {\"seq\":%" PRIu64
                          ",\"type\":\"text.delta\",\"part\":\"p1\",\"text\":\"%" PRIu64 ":%" PRId64 ";%*s\"}\n\n",
                          number, number, number, due, pad, "");
    return snprintf(chunk, size, "%x\r\n%s\r\n", length, data);
}

static bool put_event(viewer *v) {
    char chunk[320];
    return put(v, chunk, write_event(chunk, sizeof chunk, v->number, due_of(v), 0));
}

/* Serves one slot; who is due a whole turn later stands in it again. */
static void serve_slot(void) {
    viewer *v = wheel[tick % SLOTS], *next;
    wheel[tick++ % SLOTS] = NULL;
    for (; v; v = next) {
        next = v->next;
        if (due_of(v) / MS >= tick) { stand(v); continue; }
        if (!put_event(v)) { leave(v); continue; }
        if (++v->number < v->count) { stand(v); continue; }
        put(v, "0\r\n\r\n", 5);
        leave(v);
    }
}

/* ---- the run that many watch ---- */

static struct {
    viewer *viewers;
    int64_t start, step; /* burst k is due at start + k * step */
    uint64_t count, burst, number;
    int pad;
} fan;

static void put_to_all(const char *bytes, int length) {
    for (viewer **at = &fan.viewers; *at;) {
        viewer *v = *at;
        if (put(v, bytes, length)) { at = &v->next; continue; }
        *at = v->next;
        leave(v);
    }
}

static void serve_fan(int64_t now) {
    static char chunk[PAD_LIMIT + 320];
    for (; fan.number < fan.count; fan.number++) {
        int64_t due = fan.start + (int64_t)(fan.number / fan.burst) * fan.step;
        if (due > now) return;
        put_to_all(chunk, write_event(chunk, sizeof chunk, fan.number, due, fan.pad));
    }
    if (!fan.count) return;
    put_to_all("0\r\n\r\n", 5);
    for (viewer *v = fan.viewers, *next; v; v = next) { next = v->next; leave(v); }
    fan.viewers = NULL;
    fan.count = fan.number = 0;
}

/* ---- requests ---- */

static double parameter(const char *request, const char *name, double otherwise) {
    const char *at = strstr(request, name);
    return at ? strtod(at + strlen(name), NULL) : otherwise;
}

static void begin_fan(viewer *v, const char *request) {
    static const char accepted[] = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    double rate = parameter(request, "rate=", 50);
    const char *start = strstr(request, "start=");
    fan.burst = (uint64_t)parameter(request, "burst=", 1);
    fan.step = rate > 0 ? (int64_t)(1e9 * (double)fan.burst / rate) : 0;
    fan.start = start ? strtoll(start + 6, NULL, 10) : 0;
    if (!fan.start) fan.start = now_ns();
    int pad = (int)parameter(request, "pad=", 0);
    fan.pad = pad < PAD_LIMIT ? pad : PAD_LIMIT;
    fan.number = 0;
    fan.count = (uint64_t)parameter(request, "count=", 0);
    put(v, accepted, sizeof accepted - 1);
    leave(v);
}

static void greet(viewer *v) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    char request[REQUEST_LIMIT];
    ssize_t got = read(v->fd, request, sizeof request - 1);
    epoll_ctl(epoll, EPOLL_CTL_DEL, v->fd, NULL);
    request[got > 0 ? got : 0] = 0;
    if (!strncmp(request, "POST", 4)) { begin_fan(v, request); return; }
    if (got <= 0 || !put(v, head, sizeof head - 1)) { leave(v); return; }
    if (!strncmp(request, "GET /fan", 8)) { v->next = fan.viewers; fan.viewers = v; return; }
    double rate = parameter(request, "rate=", 50);
    v->step = (int64_t)(1e9 / rate);
    v->count = (uint64_t)(parameter(request, "seconds=", 10) * rate + 0.5);
    v->start = now_ns();
    stand(v);
}

static void welcome(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    viewer *v = calloc(1, sizeof *v);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = v};
    if (!v) { close(fd); return; }
    v->fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0) leave(v);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, BACKLOG) < 0) { perror("listen"); exit(1); }
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

int main(int count, char **options) {
    struct epoll_event ready[READY_LIMIT];
    epoll = epoll_create1(0);
    int listener = listen_on(count > 1 ? atoi(options[1]) : 8000);
    for (tick = now_ns() / MS;;) {
        int n = epoll_wait(epoll, ready, READY_LIMIT, 1);
        for (int i = 0; i < n; i++)
            if (ready[i].data.ptr) greet(ready[i].data.ptr); else welcome(listener);
        for (int64_t now = now_ns() / MS; tick <= now;) serve_slot();
        serve_fan(now_ns());
    }
}
