/* A network with latency: carries Ethernet frames between TAP devices, each after a delay, as fast as a rate allows.

   relay LATENCY_US RATE_MBIT DEVICE ...    makes the devices, says "up", and ends with its standard input

   A rate of 0 is no limit. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PORTS = 64, MOST_BYTES = 1 << 16, MAC = 6, AT_ONCE = 16 };

typedef struct Frame {
    struct Frame *next;
    int64_t due_ns;
    size_t size;
    unsigned char bytes[];
} Frame;

typedef struct {
    unsigned char mac[MAC];       /* of the node behind it, once it has sent something */
    int64_t sends_ns, receives_ns; /* when each direction of its link is free again */
    Frame *first, **end;          /* on their way to it */
} Port;

static int count;
static Port ports[MOST_PORTS];
static struct pollfd files[MOST_PORTS + 1];
static int64_t latency_ns;
static double byte_ns;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t later(int64_t one, int64_t other) { return one > other ? one : other; }

static int open_device(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int file = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (file < 0 || ioctl(file, TUNSETIFF, &request)) {
        perror(name);
        exit(1);
    }
    return file;
}

/* Send bytes to a port. Their first one arrives after the latency, or once the port has those before it. */
static void forward(Port *to, const unsigned char *bytes, size_t size, int64_t begin_ns) {
    Frame *frame = malloc(sizeof *frame + size);
    to->receives_ns = later(begin_ns + latency_ns, to->receives_ns) + (int64_t)(size * byte_ns);
    *frame = (Frame){.due_ns = to->receives_ns, .size = size};
    memcpy(frame->bytes, bytes, size);
    *to->end = frame;
    to->end = &frame->next;
}

static void take(int from) {
    static unsigned char bytes[MOST_BYTES];
    for (int number = 0; number < AT_ONCE; number++) {
        ssize_t size = read(files[from].fd, bytes, sizeof bytes);
        if (size < 2 * MAC) {
            if (size >= 0 || errno != EAGAIN) files[from].fd = -1; /* gone with its node */
            return;
        }
        memcpy(ports[from].mac, bytes + MAC, MAC);
        int64_t begin_ns = later(now_ns(), ports[from].sends_ns);
        ports[from].sends_ns = begin_ns + (int64_t)(size * byte_ns);
        int to = 0;
        while (to < count && memcmp(ports[to].mac, bytes, MAC)) to++;
        for (int port = 0; port < count; port++)
            if (port == to || (to == count && port != from)) forward(&ports[port], bytes, size, begin_ns);
    }
}

static void deliver(int to, int64_t now) {
    Port *port = &ports[to];
    while (port->first && port->first->due_ns <= now) {
        Frame *frame = port->first;
        if (write(files[to].fd, frame->bytes, frame->size) < 0) { /* the device is down: the frame is lost */
        }
        port->first = frame->next;
        if (!port->first) port->end = &port->first;
        free(frame);
    }
}

int main(int words, char **word) {
    struct sched_param first = {.sched_priority = 1};
    if (words < 4 || words - 3 > MOST_PORTS) return 2;
    sched_setscheduler(0, SCHED_FIFO, &first); /* a network waits for no processor */
    latency_ns = (int64_t)(atof(word[1]) * 1e3);
    byte_ns = atof(word[2]) > 0 ? 8e3 / atof(word[2]) : 0;
    count = words - 3;
    for (int port = 0; port < count; port++) {
        files[port] = (struct pollfd){open_device(word[3 + port]), POLLIN, 0};
        ports[port].end = &ports[port].first;
    }
    files[count] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
    puts("up");
    fflush(stdout);
    while (!files[count].revents) {
        int64_t due_ns = INT64_MAX, now = now_ns();
        for (int port = 0; port < count; port++)
            if (ports[port].first && ports[port].first->due_ns < due_ns) due_ns = ports[port].first->due_ns;
        int64_t wait_ns = later(0, due_ns - now);
        struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
        ppoll(files, count + 1, due_ns == INT64_MAX ? NULL : &wait, NULL);
        for (int port = 0; port < count; port++)
            if (files[port].revents) take(port);
        now = now_ns();
        for (int port = 0; port < count; port++) deliver(port, now);
    }
    return 0;
}
