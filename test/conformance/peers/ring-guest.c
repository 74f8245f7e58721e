/*
 * The guest's end of a xenstore ring page under the hypervisor made of files (hypervisor.c): bytes from standard input
 * go to the daemon, the daemon's bytes come out of standard output. Knows the ring, not the messages in it.
 * Layout of the page: xen:xen/include/public/io/xs_wire.h, struct xenstore_domain_interface.
 *
 *   ring-guest FOLDER DOMID        until standard input ends; status 3 when the daemon marked the ring as bad;
 *                                  between SIGUSR1 and SIGUSR2 it takes no responses
 *   ring-guest FOLDER raise PORT   raises one event channel of the daemon (1: VIRQ_DOM_EXC)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { RING = 1024, PORT_DOM0 = 16, LOST_NOTIFICATION_MS = 20 };

struct page {
	char req[RING], rsp[RING];
	volatile uint32_t req_cons, req_prod, rsp_cons, rsp_prod;
	volatile uint32_t server_features, connection, error;
};

static const char *folder;
static int events;
static volatile sig_atomic_t paused;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_un address_of(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if ((size_t)snprintf(un.sun_path, sizeof(un.sun_path), "%s/%s", folder, name) >= sizeof(un.sun_path)) {
		fprintf(stderr, "%s: path too long for a socket\n", folder);
		exit(2);
	}
	return un;
}

static void raise_port(uint32_t port)
{
	struct sockaddr_un un = address_of("evtchn.sock");

	if (sendto(events, &port, sizeof(port), 0, (struct sockaddr *)&un, sizeof(un)) < 0)
		fail(un.sun_path);
}

static struct page *map_page(const char *domid)
{
	char path[4096];
	void *page;
	int fd;

	snprintf(path, sizeof(path), "%s/dom-%s.page", folder, domid);
	fd = open(path, O_RDWR);
	if (fd < 0)
		fail(path);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		fail(path);
	close(fd);
	return page;
}

/* Bytes of the response ring to standard output; how many. */
static uint32_t take_responses(struct page *page)
{
	char bytes[RING];
	uint32_t cons = page->rsp_cons, n = page->rsp_prod - cons, done = 0;

	__sync_synchronize();
	/* Introducing a known domain again resets the indices: look again later, and never write them needlessly. */
	if (n == 0 || n > RING)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = page->rsp[(cons + i) % RING];
	__sync_synchronize();
	/* Before anybody can see the bytes: who has seen them may have the indices reset. */
	page->rsp_cons = cons + n;
	while (done < n) {
		ssize_t written = write(1, bytes + done, n - done);

		if (written < 0)
			exit(0);
		done += written;
	}
	return n;
}

/* As much of the bytes into the request ring as fits; how many. */
static uint32_t put_requests(struct page *page, const char *bytes, uint32_t count)
{
	uint32_t prod = page->req_prod, space = RING - (prod - page->req_cons);
	uint32_t n = count < space ? count : space;

	__sync_synchronize();
	if (n == 0 || space > RING)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		page->req[(prod + i) % RING] = bytes[i];
	__sync_synchronize();
	page->req_prod = prod + n;
	return n;
}

static void pump(struct page *page, uint32_t port)
{
	static char waiting[65536];
	uint32_t have = 0, sent;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = have < sizeof(waiting) ? 0 : -1, .events = POLLIN },
			{ .fd = events, .events = POLLIN },
		};
		uint32_t word, moved = paused ? 0 : take_responses(page);

		sent = put_requests(page, waiting, have);
		memmove(waiting, waiting + sent, have - sent);
		have -= sent;
		if (moved || sent)
			raise_port(port);
		/* What was answered before the ring went bad still counts. */
		if (page->error && page->rsp_cons == page->rsp_prod)
			exit(3);
		if (poll(fds, 2, LOST_NOTIFICATION_MS) < 0 && errno != EINTR)
			fail("poll");
		if (fds[1].revents && recv(events, &word, sizeof(word), MSG_DONTWAIT) < 0 && errno != EAGAIN)
			fail("recv");
		if (fds[0].revents) {
			ssize_t n = read(0, waiting + have, sizeof(waiting) - have);

			if (n <= 0)
				exit(0);
			have += n;
		}
	}
}

static void pause_or_resume(int number)
{
	paused = number == SIGUSR1;
}

/* One after the other, and not one inside the other: the last one counts. */
static void heed_signals(void)
{
	struct sigaction action = { .sa_handler = pause_or_resume };

	sigfillset(&action.sa_mask);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
}

int main(int argc, char **argv)
{
	struct sockaddr_un un;
	char name[32];

	if (argc < 3)
		return 2;
	folder = argv[1];
	events = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (!strcmp(argv[2], "raise") && argc == 4) {
		raise_port(atoi(argv[3]));
		return 0;
	}
	heed_signals();
	snprintf(name, sizeof(name), "dom-%.10s.evt", argv[2]);
	un = address_of(name);
	unlink(un.sun_path);
	if (bind(events, (struct sockaddr *)&un, sizeof(un)))
		fail(un.sun_path);
	pump(map_page(argv[2]), PORT_DOM0 + atoi(argv[2]));
	return 0;
}
