/* The load client: S viewers of server-sent events on one thread, with no dependency but Linux.
 *
 * It opens its connections evenly over a ramp, whatever the server does (an open loop), and finds in each body the tokens
 * `<n>:<due>;`: the n-th event of that stream, and the nanosecond of CLOCK_MONOTONIC at which it was meant to happen.
 * Latency counts from that intended time, so a server that stalls cannot hide its stall. Only tokens are read, never
 * frames: a frame that carries several merged events counts as several.
 *
 *   client port=8000 streams=300 start=<ns> ramp=<ns> from=<ns> to=<ns> until=<ns> expect=<events per stream, 0: any>
 *          leave=<1: a viewer that has all it expects is done>
 *
 * Times are absolute except `ramp`. The request comes as raw bytes on stdin; `@@@@@` in it becomes the stream's number. `from` and `to` bound the window whose
 * latencies count; everything is checked for loss. At the end, or at `until`, one line of JSON goes to stdout. Beside
 * the latencies it tells when the first byte of each body came, the gaps between reads that brought tokens, and how long
 * after `start` the last event came.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_LIMIT = 4096, READ_SIZE = 1 << 16, READY_LIMIT = 512, REQUEST_LIMIT = 8192, TOKEN_LIMIT = 48 };

/* ---- what is counted ---- */

/* Log-linear: 64 buckets to every power of two, so a value is known to 1.6 %. */
enum { SUB_BITS = 6, SUBS = 1 << SUB_BITS, BUCKETS = SUBS * (64 - SUB_BITS + 1) };

typedef struct { uint64_t count, max, bucket[BUCKETS]; } histogram;

static int bucket_of(uint64_t value) {
    if (value < SUBS) return (int)value;
    int shift = 63 - __builtin_clzll(value) - SUB_BITS;
    return (shift << SUB_BITS) + (int)(value >> shift);
}

static uint64_t bucket_top(int bucket) {
    if (bucket < SUBS) return (uint64_t)bucket;
    int shift = (bucket >> SUB_BITS) - 1;
    uint64_t sub = (uint64_t)(bucket & (SUBS - 1)) + SUBS;
    return ((sub + 1) << shift) - 1;
}

static void record(histogram *h, int64_t value) {
    uint64_t v = value > 0 ? (uint64_t)value : 0; /* a timer may fire a little early */
    h->count++;
    if (v > h->max) h->max = v;
    h->bucket[bucket_of(v)]++;
}

static uint64_t quantile(const histogram *h, double q) {
    uint64_t wanted = (uint64_t)(q * (double)h->count), seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += h->bucket[i]) > wanted) return bucket_top(i) < h->max ? bucket_top(i) : h->max;
    return h->max;
}

static struct {
    uint64_t events, window_events, gaps, duplicates, bytes;
    int64_t last; /* when the last event came */
    int started, failed, ended;
    histogram latency, first, byte, gap;
} total;

/* ---- one stream ---- */

typedef enum { CONNECTING, HEAD, SIZE, EXTENSION, DATA, DATA_END, TO_CLOSE, ENDED } http_state;
typedef enum { NOTHING, NUMBER, DUE } token_state;

typedef struct {
    int fd;
    http_state http;
    token_state token;
    bool first_seen, byte_seen;
    int head_length;
    uint64_t left;       /* bytes of this chunk still to come, or its size so far */
    uint64_t number, due; /* the token being read */
    uint64_t next;       /* the number of the event that must come next */
    int64_t opened;      /* when it was meant to connect */
    int64_t heard;       /* when the last token came, 0 before */
    char *head;          /* the response head, while it is read */
} stream;

static struct {
    int port, streams;
    int64_t start, ramp, from, to, until;
    uint64_t expect;
    bool leave;
    char request[REQUEST_LIMIT];
    char *marker; /* where the number of the stream goes */
    size_t request_length;
    int epoll;
} plan;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void leave(stream *s, bool failed) {
    if (s->http == ENDED) return;
    s->http = ENDED;
    close(s->fd);
    free(s->head);
    s->head = NULL;
    total.ended++;
    total.failed += failed;
}

static void arrived(stream *s, int64_t now) {
    if (!s->first_seen) record(&total.first, now - s->opened);
    s->first_seen = true;
    if (s->heard && now > s->heard) record(&total.gap, now - s->heard);
    s->heard = now;
    if (s->number < s->next) { total.duplicates++; return; }
    total.gaps += s->number - s->next;
    s->next = s->number + 1;
    total.events++;
    total.last = now;
    if (now >= plan.from && now < plan.to) total.window_events++;
    int64_t due = (int64_t)s->due;
    if (due >= plan.from && due < plan.to) record(&total.latency, now - due);
}

/* Any bytes, a token may begin in one call and end in another. */
static void scan_slowly(stream *s, const char *bytes, size_t length, int64_t now) {
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        if (c >= '0' && c <= '9') {
            uint64_t digit = (uint64_t)(c - '0');
            if (s->token == NOTHING) { s->token = NUMBER; s->number = digit; }
            else if (s->token == NUMBER) s->number = s->number * 10 + digit;
            else s->due = s->due * 10 + digit;
        } else if (c == ':' && s->token == NUMBER) { s->token = DUE; s->due = 0; }
        else {
            if (c == ';' && s->token == DUE) arrived(s, now);
            s->token = NOTHING;
        }
    }
}

/* A token ends at a `;`, and what cannot belong to one is never looked at: a replay brings millions a second. */
static void scan(stream *s, const char *bytes, size_t length, int64_t now) {
    if (length && !s->byte_seen) record(&total.byte, now - s->opened);
    s->byte_seen |= length > 0;
    const char *at = bytes, *end = bytes + length, *semicolon;
    while ((semicolon = memchr(at, ';', (size_t)(end - at)))) {
        if (semicolon - at > TOKEN_LIMIT) { s->token = NOTHING; at = semicolon - TOKEN_LIMIT; }
        scan_slowly(s, at, (size_t)(semicolon + 1 - at), now);
        at = semicolon + 1;
    }
    if (end - at > TOKEN_LIMIT) { s->token = NOTHING; at = end - TOKEN_LIMIT; }
    scan_slowly(s, at, (size_t)(end - at), now);
}

/* Takes bytes until the blank line; returns how many belonged to the head. */
static size_t take_head(stream *s, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (s->head_length + 1 >= HEAD_LIMIT) { leave(s, true); return length; }
        s->head[s->head_length++] = bytes[i];
        if (s->head_length < 4 || memcmp(s->head + s->head_length - 4, "\r\n\r\n", 4) != 0) continue;
        s->head[s->head_length] = 0;
        if (strncmp(s->head + 8, " 200 ", 5) != 0) {
            if (!total.failed) fprintf(stderr, "refused: %.*s\n", (int)strcspn(s->head, "\r\n"), s->head);
            leave(s, true);
            return length;
        }
        s->http = strcasestr(s->head, "\r\ntransfer-encoding: chunked\r\n") ? SIZE : TO_CLOSE;
        s->left = 0;
        free(s->head);
        s->head = NULL;
        return i + 1;
    }
    return length;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void take_size(stream *s, char c) {
    int digit = hex(c);
    if (s->http == SIZE && digit >= 0) s->left = s->left * 16 + (uint64_t)digit;
    else if (c != '\n') s->http = EXTENSION;
    else if (s->left) s->http = DATA;
    else leave(s, false); /* the last chunk: the stream ended as it should */
}

static void take(stream *s, const char *bytes, size_t length, int64_t now) {
    size_t i = 0;
    while (i < length && s->http != ENDED) {
        size_t rest = length - i;
        switch (s->http) {
        case HEAD: i += take_head(s, bytes + i, rest); break;
        case SIZE: case EXTENSION: take_size(s, bytes[i++]); break;
        case DATA: {
            size_t part = rest < s->left ? rest : (size_t)s->left;
            scan(s, bytes + i, part, now);
            i += part;
            if (!(s->left -= part)) s->http = DATA_END;
            break;
        }
        case DATA_END: if (bytes[i++] == '\n') s->http = SIZE; break;
        case TO_CLOSE: scan(s, bytes + i, rest, now); i = length; break;
        default: return;
        }
    }
}

static void drain(stream *s) {
    static char buffer[READ_SIZE];
    while (s->http != ENDED) {
        ssize_t got = read(s->fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) { leave(s, got < 0 || s->http != TO_CLOSE); return; }
        total.bytes += (uint64_t)got;
        take(s, buffer, (size_t)got, now_ns());
        if (plan.leave && s->next >= plan.expect) leave(s, false);
        if (got < (ssize_t)sizeof buffer) return;
    }
}

/* ---- opening ---- */

static void watch(stream *s, int operation, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = s};
    if (epoll_ctl(plan.epoll, operation, s->fd, &e) < 0) leave(s, true);
}

static void open_stream(stream *s, int64_t due) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)plan.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    s->opened = due;
    s->head = malloc(HEAD_LIMIT);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (!s->head || s->fd < 0) { leave(s, true); return; }
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) { leave(s, true); return; }
    watch(s, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask(stream *s, int number) {
    char digits[16];
    if (plan.marker && snprintf(digits, sizeof digits, "%05d", number) == 5) memcpy(plan.marker, digits, 5);
    ssize_t sent = write(s->fd, plan.request, plan.request_length);
    if (sent != (ssize_t)plan.request_length) { leave(s, true); return; }
    s->http = HEAD;
    watch(s, EPOLL_CTL_MOD, EPOLLIN);
}

static int64_t opening_time(int i) { return plan.start + plan.ramp * i / plan.streams; }

static int wait_ms(int64_t now) {
    int64_t wake = total.started < plan.streams ? opening_time(total.started) : plan.until;
    if (wake > plan.until) wake = plan.until;
    return wake > now ? (int)((wake - now) / 1000000) : 0;
}

static void run(stream *streams) {
    struct epoll_event ready[READY_LIMIT];
    int64_t now;
    while (total.ended < plan.streams && (now = now_ns()) < plan.until) {
        while (total.started < plan.streams && opening_time(total.started) <= now) {
            stream *s = &streams[total.started];
            open_stream(s, opening_time(total.started++));
        }
        int count = epoll_wait(plan.epoll, ready, READY_LIMIT, wait_ms(now));
        for (int i = 0; i < count; i++) {
            stream *s = ready[i].data.ptr;
            if (s->http == CONNECTING) ask(s, (int)(s - streams)); else drain(s);
        }
    }
}

/* ---- in and out ---- */

static void read_option(const char *option) {
    const char *value = strchr(option, '=');
    int64_t number = value ? strtoll(value + 1, NULL, 10) : 0;
    size_t length = value ? (size_t)(value - option) : 0;
#define IS(name) (length == strlen(name) && !strncmp(option, name, length))
    if (IS("port")) plan.port = (int)number;
    else if (IS("streams")) plan.streams = (int)number;
    else if (IS("start")) plan.start = number;
    else if (IS("ramp")) plan.ramp = number;
    else if (IS("from")) plan.from = number;
    else if (IS("to")) plan.to = number;
    else if (IS("until")) plan.until = number;
    else if (IS("expect")) plan.expect = (uint64_t)number;
    else if (IS("leave")) plan.leave = number != 0;
    else { fprintf(stderr, "unknown option: %s\n", option); exit(2); }
#undef IS
}

static uint64_t never_came(const stream *streams) {
    uint64_t missing = 0;
    for (int i = 0; i < plan.streams; i++)
        if (streams[i].next < plan.expect) missing += plan.expect - streams[i].next;
    return missing;
}

static void print_histogram(const char *name, const histogram *h) {
    printf("\"%s\":{\"count\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"max\":%" PRIu64 "}", name, h->count,
           quantile(h, 0.50), quantile(h, 0.99), h->max);
}

static void print_report(const stream *streams) {
    printf("{\"streams\":%d,\"failed\":%d,\"events\":%" PRIu64 ",\"window_events\":%" PRIu64 ",\"gaps\":%" PRIu64
           ",\"duplicates\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"took\":%" PRId64 ",",
           plan.streams, total.failed, total.events, total.window_events, total.gaps, total.duplicates,
           never_came(streams), total.bytes, total.last ? total.last - plan.start : 0);
    print_histogram("latency", &total.latency);
    putchar(',');
    print_histogram("first", &total.first);
    putchar(',');
    print_histogram("byte", &total.byte);
    putchar(',');
    print_histogram("gap", &total.gap);
    puts("}");
}

int main(int count, char **options) {
    for (int i = 1; i < count; i++) read_option(options[i]);
    plan.request_length = fread(plan.request, 1, sizeof plan.request, stdin);
    plan.marker = memmem(plan.request, plan.request_length, "@@@@@", 5);
    plan.epoll = epoll_create1(0);
    stream *streams = calloc((size_t)(plan.streams > 0 ? plan.streams : 1), sizeof *streams);
    if (plan.streams < 1 || !plan.request_length || plan.epoll < 0 || !streams) {
        fprintf(stderr, "streams=N and a request on stdin are needed\n");
        return 2;
    }
    run(streams);
    print_report(streams);
    return 0;
}
