/*
 * The least that a xenstore daemon can do: takes requests apart and gives each kind the same answer, without a look at
 * the rest. No daemon that speaks the protocol over a socket, in any language, is faster at small requests.
 *
 *   limit SOCKET
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DIRECTORY = 1, READ = 2, TX_START = 6, LISTING = 4000, VALUE = 64, BUFFER = 65536, EVENTS = 64 };

struct header { uint32_t type, request, transaction, length; };

static char requests[BUFFER], replies[BUFFER / sizeof(struct header) * (sizeof(struct header) + LISTING)];

static uint32_t put_answer(char *at, uint32_t type)
{
	switch (type) {
	case DIRECTORY:
		memset(at, 'x', LISTING);
		return LISTING;
	case READ:
		memset(at, 'x', VALUE);
		return VALUE;
	case TX_START:
		memcpy(at, "1", 2);
		return 2;
	}
	memcpy(at, "OK", 3);
	return 3;
}

/* Whole requests only: the load sends nothing else. */
static void answer(int fd)
{
	ssize_t count = read(fd, requests, sizeof(requests));
	size_t done = 0, filled = 0;

	if (count <= 0)
		close(fd);
	while (count > 0 && done + sizeof(struct header) <= (size_t)count) {
		struct header *request = (void *)(requests + done), *reply = (void *)(replies + filled);

		*reply = *request;
		reply->length = put_answer((char *)(reply + 1), request->type);
		done += sizeof(*request) + request->length;
		filled += sizeof(*reply) + reply->length;
	}
	/* A client that has gone is noticed when its socket is read. */
	if (filled && write(fd, replies, filled) < 0)
		return;
}

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLIN }, events[EVENTS];
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), epoll = epoll_create1(0);

	if (argc != 2 || (size_t)snprintf(un.sun_path, sizeof(un.sun_path), "%s", argv[1]) >= sizeof(un.sun_path))
		return 2;
	signal(SIGPIPE, SIG_IGN);
	if (bind(listener, (struct sockaddr *)&un, sizeof(un)) || listen(listener, 128)) {
		perror(argv[1]);
		return 1;
	}
	event.data.fd = listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd != listener) {
				answer(events[i].data.fd);
				continue;
			}
			event.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
			epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
		}
	}
}
