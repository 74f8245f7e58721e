/*
 * Load for anything that relays bytes between two Unix sockets: FOLDER/g<i> (the guest's side) and FOLDER/h<i> (the
 * host's side) of channel i. A terminal in the place of h<i> is opened instead.
 *
 *   load bulk FOLDER CHANNELS up|down SECONDS SEED   bytes per second, all channels together; up is g to h
 *   load ping FOLDER SECONDS                         64 bytes g to h and back: p50 and p99 in microseconds, round trips
 *   load fair FOLDER CHANNELS SECONDS                ping on channel 0 while channels 1..CHANNELS run bulk up
 *   load hold FOLDER CHANNELS                        one round trip on each, prints "ready", holds them until stdin ends
 *
 * Every byte is checked: streams are cut from one pseudo-random pattern, each channel from a place of its own. Exit
 * status 3 when a byte was lost or changed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A prime, so that no buffer size divides it: bytes that went missing shift everything behind them. */
enum { PERIOD = 262139, CHUNK = 65536, PING = 64, EVENTS = 256, MOST_PINGS = 4000000 };
static const double CONNECT_SECONDS = 10, WARM_SECONDS = 0.2, SILENT_SECONDS = 10;

struct channel { int from, to; uint64_t sent, received; unsigned offset; };

static unsigned char pattern[PERIOD + CHUNK];
static unsigned char buffer[CHUNK];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void fill_pattern(uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
	int i;

	for (i = 0; i < PERIOD; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		pattern[i] = x >> 32;
	}
	memcpy(pattern + PERIOD, pattern, CHUNK);
}

/* A relay may still be starting, and socat listens at its second socket only when the first is connected. */
static int connect_to(const char *folder, char side, int channel)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	double end = now() + CONNECT_SECONDS;
	struct stat found;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%c%d", folder, side, channel);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if ((errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN) || now() > end)
			die(address.sun_path);
		usleep(1000);
		if (stat(address.sun_path, &found) == 0 && S_ISCHR(found.st_mode)) {
			close(fd);
			fd = open(address.sun_path, O_RDWR | O_NOCTTY | O_CLOEXEC);
			if (fd < 0)
				die(address.sun_path);
			break;
		}
	}
	return fd;
}

static void write_all(int fd, const unsigned char *bytes, size_t size)
{
	if (write(fd, bytes, size) != (ssize_t)size)
		die("write");
}

static void read_all(int fd, const unsigned char *expected, size_t size)
{
	size_t have = 0;
	ssize_t count;

	while (have < size) {
		count = read(fd, buffer + have, size - have);
		if (count <= 0)
			die("read");
		have += count;
	}
	if (memcmp(buffer, expected, size)) {
		fprintf(stderr, "a ping came back changed\n");
		exit(3);
	}
}

static void round_trip(int guest, int host, unsigned number)
{
	const unsigned char *there = pattern + number * 61 % PERIOD, *back = there + 1;

	write_all(guest, there, PING);
	read_all(host, there, PING);
	write_all(host, back, PING);
	read_all(guest, back, PING);
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void ping(const char *folder, double seconds)
{
	float *micros = malloc(MOST_PINGS * sizeof(*micros));
	int guest = connect_to(folder, 'g', 0), host = connect_to(folder, 'h', 0);
	double begin, end, warm = now() + WARM_SECONDS;
	unsigned count = 0, number = 0;

	if (!micros)
		die("malloc");
	do
		round_trip(guest, host, number++);
	while (now() < warm);
	end = now() + seconds;
	do {
		begin = now();
		round_trip(guest, host, number++);
		micros[count++] = (now() - begin) * 1e6;
	} while (now() < end && count < MOST_PINGS);
	qsort(micros, count, sizeof(*micros), by_value);
	printf("%.2f\t%.2f\t%u\n", micros[count / 2], micros[(unsigned)(count * 0.99)], count);
}

static void feed(struct channel *c)
{
	ssize_t count = write(c->from, pattern + (c->offset + c->sent) % PERIOD, CHUNK);

	if (count > 0)
		c->sent += count;
	else if (errno != EAGAIN)
		die("write");
}

static size_t take(struct channel *c)
{
	ssize_t count = read(c->to, buffer, CHUNK);

	if (count < 0 && errno == EAGAIN)
		return 0;
	if (count <= 0)
		die("read");
	if (memcmp(buffer, pattern + (c->offset + c->received) % PERIOD, count)) {
		fprintf(stderr, "bytes lost or changed between %llu and %llu of one channel\n",
			(unsigned long long)c->received, (unsigned long long)c->received + count);
		exit(3);
	}
	c->received += count;
	return count;
}

static void watch(int poller, int op, int fd, uint32_t events, uint64_t key)
{
	struct epoll_event event = { .events = events, .data.u64 = key };

	if (epoll_ctl(poller, op, fd, &event) < 0)
		die("epoll_ctl");
}

static struct channel *open_channels(const char *folder, int first, int count, int up, int poller)
{
	struct channel *channels = calloc(count, sizeof(*channels));
	int i, guest, host;

	for (i = 0; i < count; i++) {
		guest = connect_to(folder, 'g', first + i);
		host = connect_to(folder, 'h', first + i);
		fcntl(guest, F_SETFL, O_NONBLOCK);
		fcntl(host, F_SETFL, O_NONBLOCK);
		channels[i].from = up ? guest : host;
		channels[i].to = up ? host : guest;
		channels[i].offset = i * 7919u % PERIOD;
		watch(poller, EPOLL_CTL_ADD, channels[i].from, EPOLLOUT, 2 * i);
		watch(poller, EPOLL_CTL_ADD, channels[i].to, EPOLLIN, 2 * i + 1);
	}
	return channels;
}

static void bulk(const char *folder, int first, int count, int up, double seconds)
{
	int i, ready, poller = epoll_create1(EPOLL_CLOEXEC), writing = 1;
	struct channel *channels = open_channels(folder, first, count, up, poller);
	double t, begin = now() + WARM_SECONDS, end = begin + seconds, last = begin, started = 0;
	uint64_t counted = 0, sent = 0, received = 0;
	struct epoll_event events[EVENTS];
	double rate = 0;

	for (;;) {
		ready = epoll_wait(poller, events, EVENTS, 1000);
		for (i = 0; i < ready; i++) {
			struct channel *c = &channels[events[i].data.u64 / 2];
			size_t taken;

			if (events[i].data.u64 % 2 == 0) {
				if (writing)
					feed(c);
				continue;
			}
			taken = take(c);
			received += taken;
			if (taken)
				last = now();
		}
		t = now();
		if (!started && t >= begin) {
			started = t;
			counted = received;
		}
		if (writing && t >= end) {
			rate = (received - counted) / (t - started);
			writing = 0;
			for (i = 0; i < count; i++) {
				sent += channels[i].sent;
				watch(poller, EPOLL_CTL_MOD, channels[i].from, 0, 2 * i);
			}
		}
		if (!writing && received == sent)
			break;
		if (t > last + SILENT_SECONDS) {
			fprintf(stderr, "%llu of %llu bytes did not arrive\n", (unsigned long long)(sent - received),
				(unsigned long long)sent);
			exit(3);
		}
	}
	printf("%.0f\t%llu\n", rate, (unsigned long long)received);
}

static void fair(const char *folder, int channels, double seconds)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child == 0) {
		if (!freopen("/dev/null", "w", stdout))
			die("/dev/null");
		bulk(folder, 1, channels, 1, seconds + WARM_SECONDS);
		exit(0);
	}
	usleep(WARM_SECONDS * 1e6);
	ping(folder, seconds - WARM_SECONDS);
	if (waitpid(child, &status, 0) < 0 || status != 0)
		exit(3);
}

static void hold(const char *folder, int channels)
{
	char ignored;
	int i;

	for (i = 0; i < channels; i++)
		round_trip(connect_to(folder, 'g', i), connect_to(folder, 'h', i), i);
	printf("ready\n");
	fflush(stdout);
	while (read(0, &ignored, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	fill_pattern(argc > 6 ? strtoull(argv[6], NULL, 10) : 1);
	if (argc == 7 && !strcmp(argv[1], "bulk"))
		bulk(argv[2], 0, atoi(argv[3]), !strcmp(argv[4], "up"), atof(argv[5]));
	else if (argc == 4 && !strcmp(argv[1], "ping"))
		ping(argv[2], atof(argv[3]));
	else if (argc == 5 && !strcmp(argv[1], "fair"))
		fair(argv[2], atoi(argv[3]), atof(argv[4]));
	else if (argc == 4 && !strcmp(argv[1], "hold"))
		hold(argv[2], atoi(argv[3]));
	else {
		fprintf(stderr, "wrong arguments, see the top of load.c\n");
		return 2;
	}
	return 0;
}
