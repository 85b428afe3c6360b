// Load for an echo server: N connections on one thread, each a closed loop.
//
//     echo_load PORT SERVER_PID CONNECTIONS WARMUP_S MEASURE_S
//
// One message of 64 bytes is under way on each connection: it is sent when the
// answer to the one before has come.  Before the warm-up each connection gets one
// answer, and none a second one, so that all are accepted.  Prints one JSON
// object: requests a second, latencies, the CPU time that the server's process
// used a request (from /proc/PID/stat, read at both ends of the measured time),
// and how many connections had an answer in that time: a server may starve some.
//
// Latencies go to a histogram with 16 steps an octave of microseconds (6 %),
// so that memory does not depend on the number of requests.
//
// Costs about 10 us a request, two system calls and a share of an epoll_wait:
// with a quick server on two cores, the load's core is the limit, and CPU time a
// request is the better figure.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 64, EVENTS = 256, STEPS = 16, BUCKETS = 64 * STEPS };
// A busy machine accepts 1,000 connections in less than one second.
enum { FIRST_ANSWERS_S = 60 };

struct connection {
    int fd;
    int received;           // bytes of the current answer
    uint64_t sent_at;       // ns
    uint64_t answers;
};

static uint64_t histogram[BUCKETS];
static const char message[MESSAGE] = "echo";

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "echo_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// User and system time of a process, in seconds.
static double
cpu_of(const char *pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        die(path);
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    unsigned long user, sys;
    // The command, in parentheses, may hold anything; field 14 and 15 follow.
    const char *rest = strrchr(text, ')');
    if (rest == NULL ||
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
               &user, &sys) != 2) {
        errno = EINVAL;
        die(path);
    }
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static int
bucket_of(uint64_t us)
{
    if (us < STEPS) {
        return (int)us;
    }
    int octave = 63 - __builtin_clzll(us);
    return (octave - 3) * STEPS + (int)((us >> (octave - 4)) & (STEPS - 1));
}

static double
bucket_us(int bucket)
{
    if (bucket < STEPS) {
        return bucket;
    }
    int octave = bucket / STEPS + 3;
    return (double)((uint64_t)(STEPS + bucket % STEPS) << (octave - 4));
}

static double
percentile_ms(uint64_t total, double part)
{
    uint64_t seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if ((double)seen >= part * (double)total) {
            return bucket_us(i) / 1000;
        }
    }
    return 0;
}

static void
request(struct connection *c)
{
    c->received = 0;
    c->sent_at = now_ns();
    if (send(c->fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE) {
        die("send");
    }
}

static void
connect_all(struct connection *all, int count, int port, int epoll)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    for (int i = 0; i < count; i++) {
        struct connection *c = &all[i];
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0) {
            die("socket");
        }
        if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
            die("connect");
        }
        int one = 1;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) {
            die("epoll_ctl");
        }
    }
}

// Runs the loops until the time end (ns); returns the number of answers.  If
// first is not 0: sends nothing, and ends after so many answers.
static uint64_t
run_until(int epoll, uint64_t end, uint64_t first)
{
    struct epoll_event events[EVENTS];
    uint64_t answers = 0;
    while (now_ns() < end && (first == 0 || answers < first)) {
        int n = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            char data[MESSAGE];
            ssize_t got = recv(c->fd, data, (size_t)(MESSAGE - c->received),
                               MSG_DONTWAIT);
            if (got <= 0) {
                if (got < 0 && errno == EAGAIN) {
                    continue;
                }
                die("recv");
            }
            c->received += (int)got;
            if (c->received == MESSAGE) {
                histogram[bucket_of((now_ns() - c->sent_at) / 1000)]++;
                answers++;
                c->answers++;
                if (first == 0) {
                    request(c);
                }
            }
        }
    }
    return answers;
}

int
main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: echo_load PORT PID CONNECTIONS WARMUP MEASURE\n");
        return 2;
    }
    int count = atoi(argv[3]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc((size_t)count, sizeof(*all));
    if (epoll < 0 || all == NULL) {
        die("start");
    }
    connect_all(all, count, atoi(argv[1]), epoll);
    for (int i = 0; i < count; i++) {
        request(&all[i]);
    }
    uint64_t served_once = run_until(
        epoll, now_ns() + FIRST_ANSWERS_S * UINT64_C(1000000000),
        (uint64_t)count);
    if (served_once < (uint64_t)count) {
        fprintf(stderr, "echo_load: %d of %d connections served in %d s\n",
                (int)served_once, count, FIRST_ANSWERS_S);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        request(&all[i]);
    }
    run_until(epoll, now_ns() + (uint64_t)(atof(argv[4]) * 1e9), 0);
    memset(histogram, 0, sizeof(histogram));
    for (int i = 0; i < count; i++) {
        all[i].answers = 0;
    }

    double cpu = cpu_of(argv[2]);
    uint64_t start = now_ns();
    uint64_t answers = run_until(epoll, start + (uint64_t)(atof(argv[5]) * 1e9),
                                 0);
    double seconds = (double)(now_ns() - start) / 1e9;
    cpu = cpu_of(argv[2]) - cpu;
    if (answers == 0) {
        fprintf(stderr, "echo_load: no answer in %s s\n", argv[5]);
        return 1;
    }
    int served = 0;
    for (int i = 0; i < count; i++) {
        served += all[i].answers > 0;
    }
    printf("{\"served\": %d, \"per_second\": %.0f, \"cpu_us\": %.3f,"
           " \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", served,
           (double)answers / seconds, cpu / (double)answers * 1e6,
           percentile_ms(answers, 0.50), percentile_ms(answers, 0.99));
    return 0;
}
