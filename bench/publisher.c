/* The producer of servers that only pass on: it posts every event over HTTP, for S streams, each when it is due.
 *
 *   publisher port=8000 streams=300 start=<ns> ramp=<ns> step=<ns between two events of a stream> count=<of each stream>
 *             burst=<events that are due at once> pad=<bytes>
 *
 * Stream i begins at `start + ramp * i / streams`; event n of it is due `n / burst * step` later, and its text is
 * `<n>:<due>;`. The head of the request comes on stdin, without Content-Length and the blank line; `@@@@@` in it becomes
 * the stream's number. A stream keeps to one of a few connections, on which requests follow each other without waiting
 * for answers, so that its order holds. Answers are only counted: one that is no success ends the program with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 8, HEAD_LIMIT = 4096, PAD_LIMIT = 1 << 16, OUT_LIMIT = 1 << 20 };

typedef struct {
    int fd;
    size_t filled, sent;
    char *out; /* requests that wait for the socket */
} connection;

typedef struct { int64_t due; int stream; uint64_t number; } event;

static struct {
    int port, streams, pad;
    int64_t start, ramp, step;
    uint64_t count, burst;
    char head[HEAD_LIMIT];
    size_t head_length;
    char *marker;
    connection to[CONNECTIONS];
} plan;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "publisher: %s\n", what);
    exit(1);
}

/* ---- a heap of streams, by when their next event is due ---- */

static event *heap;
static int heap_size;

static void swap(int a, int b) { event kept = heap[a]; heap[a] = heap[b]; heap[b] = kept; }

static void sink(int at) {
    for (int child; (child = 2 * at + 1) < heap_size; at = child) {
        if (child + 1 < heap_size && heap[child + 1].due < heap[child].due) child++;
        if (heap[at].due <= heap[child].due) return;
        swap(at, child);
    }
}

static int64_t due_of(int stream, uint64_t number) {
    return plan.start + plan.ramp * stream / plan.streams + (int64_t)(number / plan.burst) * plan.step;
}

static void fill_heap(void) {
    heap = calloc((size_t)plan.streams, sizeof *heap);
    if (!heap) fail("no memory");
    for (heap_size = 0; heap_size < plan.streams; heap_size++) heap[heap_size] = (event){due_of(heap_size, 0), heap_size, 0};
}

static void next_event(void) {
    event *e = heap;
    if (++e->number < plan.count) e->due = due_of(e->stream, e->number);
    else heap[0] = heap[--heap_size];
    sink(0);
}

/* ---- connections ---- */

static void open_connection(connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)plan.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->out = malloc(OUT_LIMIT);
    if (!c->out || c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) fail("no connection");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void flush(connection *c) {
    while (c->sent < c->filled) {
        ssize_t put = send(c->fd, c->out + c->sent, c->filled - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) return;
        if (put <= 0) fail("a connection was lost");
        c->sent += (size_t)put;
    }
    c->sent = c->filled = 0;
}

/* Answers are read and thrown away; of each read only the first status line is looked at. */
static void swallow(connection *c) {
    static char answers[1 << 16];
    ssize_t got;
    while ((got = recv(c->fd, answers, sizeof answers, MSG_DONTWAIT)) > 0)
        if (got > 12 && !memcmp(answers, "HTTP/1.1 ", 9) && answers[9] != '2') {
            fprintf(stderr, "publisher: refused: %.*s\n", (int)(got < 300 ? got : 300), answers);
            exit(1);
        }
    if (got == 0) fail("a connection was closed");
}

static void wait_for_room(connection *c, size_t wanted) {
    while (OUT_LIMIT - c->filled < wanted) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLOUT};
        poll(&p, 1, -1);
        swallow(c);
        flush(c);
    }
}

static void publish(const event *e) {
    static char text[PAD_LIMIT + 256];
    connection *c = &plan.to[e->stream % CONNECTIONS];
    if (plan.marker) {
        char digits[16];
        if (snprintf(digits, sizeof digits, "%05d", e->stream) == 5) memcpy(plan.marker, digits, 5);
    }
    int length = snprintf(text, sizeof text,
                          "{\"seq\":%" PRIu64 ",\"type\":\"text.delta\",\"part\":\"p1\",\"text\":\"%" PRIu64 ":%" PRId64 ";%*s\"}",
                          e->number, e->number, e->due, plan.pad, "");
    wait_for_room(c, plan.head_length + (size_t)length + 64);
    memcpy(c->out + c->filled, plan.head, plan.head_length);
    c->filled += plan.head_length;
    c->filled += (size_t)sprintf(c->out + c->filled, "Content-Length: %d\r\n\r\n%s", length, text);
}

static void run(void) {
    while (heap_size) {
        int64_t now = now_ns();
        while (heap_size && heap[0].due <= now) { publish(&heap[0]); next_event(); }
        struct pollfd polled[CONNECTIONS];
        for (int i = 0; i < CONNECTIONS; i++) {
            flush(&plan.to[i]);
            polled[i] = (struct pollfd){.fd = plan.to[i].fd, .events = (short)(POLLIN | (plan.to[i].filled ? POLLOUT : 0))};
        }
        int64_t left = heap_size ? heap[0].due - now_ns() : 0;
        struct timespec wait = {.tv_sec = left > 0 ? left / 1000000000 : 0, .tv_nsec = left > 0 ? left % 1000000000 : 0};
        ppoll(polled, CONNECTIONS, &wait, NULL);
        for (int i = 0; i < CONNECTIONS; i++) if (polled[i].revents) swallow(&plan.to[i]);
    }
}

/* What is on its way is still answered: a connection that is closed too early would take it back. */
static void finish(void) {
    for (int i = 0; i < CONNECTIONS; i++) {
        connection *c = &plan.to[i];
        wait_for_room(c, OUT_LIMIT);
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        while (poll(&p, 1, 300) > 0) swallow(c);
    }
}

static void read_option(const char *option) {
    const char *value = strchr(option, '=');
    int64_t number = value ? strtoll(value + 1, NULL, 10) : 0;
    size_t length = value ? (size_t)(value - option) : 0;
#define IS(name) (length == strlen(name) && !strncmp(option, name, length))
    if (IS("port")) plan.port = (int)number;
    else if (IS("streams")) plan.streams = (int)number;
    else if (IS("start")) plan.start = number;
    else if (IS("ramp")) plan.ramp = number;
    else if (IS("step")) plan.step = number;
    else if (IS("count")) plan.count = (uint64_t)number;
    else if (IS("burst")) plan.burst = (uint64_t)number;
    else if (IS("pad")) plan.pad = number < PAD_LIMIT ? (int)number : PAD_LIMIT;
    else { fprintf(stderr, "unknown option: %s\n", option); exit(2); }
#undef IS
}

int main(int count, char **options) {
    for (int i = 1; i < count; i++) read_option(options[i]);
    plan.head_length = fread(plan.head, 1, sizeof plan.head, stdin);
    if (plan.streams < 1 || !plan.count || !plan.burst || !plan.head_length) {
        fprintf(stderr, "streams=N count=N burst=N and the head of a request on stdin are needed\n");
        return 2;
    }
    plan.marker = memmem(plan.head, plan.head_length, "@@@@@", 5);
    for (int i = 0; i < CONNECTIONS; i++) open_connection(&plan.to[i]);
    fill_heap();
    run();
    finish();
    return 0;
}
