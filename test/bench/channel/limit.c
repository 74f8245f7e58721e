/*
 * The least that a relay through a console ring has to do: FOLDER/g0 <-> ring <-> FOLDER/h0, one process, buffers of
 * 64 KiB at both ends, and nothing besides: no spool, no history, no accounts, no second client.
 *
 *   limit FOLDER
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BUFFER = 65536, OUT = 2048, IN = 1024 };

/* One direction of the page, as xen:xen/include/public/io/console.h has it. */
struct ring { char *bytes; uint32_t size; _Atomic uint32_t consumer, producer; };

static char page[IN + OUT];
static struct ring out = { page + IN, OUT, 0, 0 }, in = { page, IN, 0, 0 };
static char source[BUFFER], batch[BUFFER];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int take_client(const char *folder, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), client;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", folder, name);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		fail(name);
	client = accept(fd, NULL, NULL);
	if (client < 0)
		fail("accept");
	close(fd);
	return client;
}

/* As hvc's put_chars, and as the guest's end of the console does. */
static uint32_t put(struct ring *ring, const char *bytes, uint32_t count)
{
	uint32_t producer = atomic_load_explicit(&ring->producer, memory_order_relaxed);
	uint32_t room = ring->size - (producer - atomic_load(&ring->consumer)), at = producer & (ring->size - 1), first;

	count = count < room ? count : room;
	first = count < ring->size - at ? count : ring->size - at;
	memcpy(ring->bytes + at, bytes, first);
	memcpy(ring->bytes, bytes + first, count - first);
	atomic_store(&ring->producer, producer + count);
	return count;
}

static uint32_t get(struct ring *ring, char *bytes)
{
	uint32_t consumer = atomic_load_explicit(&ring->consumer, memory_order_relaxed);
	uint32_t count = atomic_load(&ring->producer) - consumer, at = consumer & (ring->size - 1), first;

	first = count < ring->size - at ? count : ring->size - at;
	memcpy(bytes, ring->bytes + at, first);
	memcpy(bytes + first, ring->bytes, count - first);
	atomic_store(&ring->consumer, consumer + count);
	return count;
}

/* What can be read, through the ring, in one write. 0 at the end. */
static int carry(int from, struct ring *ring, int to)
{
	ssize_t count = read(from, source, sizeof(source)), done = 0, collected = 0, written = 0;

	while (done < count) {
		done += put(ring, source + done, count - done);
		collected += get(ring, batch + collected);
	}
	while (written < collected) {
		ssize_t some = write(to, batch + written, collected - written);

		if (some < 0)
			return 0;
		written += some;
	}
	return count > 0;
}

int main(int argc, char **argv)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };

	if (argc != 2)
		return 2;
	/* In the order in which the load connects. */
	fds[0].fd = take_client(argv[1], "g0");
	fds[1].fd = take_client(argv[1], "h0");
	while (poll(fds, 2, -1) > 0) {
		if (fds[0].revents && !carry(fds[0].fd, &out, fds[1].fd))
			return 0;
		if (fds[1].revents && !carry(fds[1].fd, &in, fds[0].fd))
			return 0;
	}
	return 0;
}
