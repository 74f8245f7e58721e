/*
 * A minimal xenstore client for load: messages are collected, written at once, and read back without any checking that
 * would cost time. Ends the program on any surprise, for a figure measured after an error is worth nothing.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DIRECTORY = 1, READ = 2, WATCH = 4, TX_START = 6, TX_END = 7, WRITE = 11, MKDIR = 12, RM = 13, EVENT = 15, ERROR = 16 };
enum { BUFFER = 1 << 20, PATH_BYTES = 256 };

struct header { uint32_t type, request, transaction, length; };

struct client {
	int fd;
	char *in, *out;
	size_t in_end, in_at, out_end;
	/* For tests that drive several clients at once. */
	uint32_t transaction;
	int state;
};

static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline struct client *client_open(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct client *c = calloc(1, sizeof(*c));

	strncpy(un.sun_path, path, sizeof(un.sun_path) - 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	/* Blocks while the daemon's backlog is full. */
	if (connect(c->fd, (struct sockaddr *)&un, sizeof(un)))
		fail(path);
	c->in = malloc(BUFFER);
	c->out = malloc(BUFFER);
	return c;
}

static inline void client_close(struct client *c)
{
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c);
}

/* Collects one request. */
static inline void put(struct client *c, uint32_t type, uint32_t transaction, const void *payload, uint32_t length)
{
	struct header header = { type, 7, transaction, length };

	if (c->out_end + sizeof(header) + length > BUFFER)
		fail("more requests than fit into the buffer");
	memcpy(c->out + c->out_end, &header, sizeof(header));
	memcpy(c->out + c->out_end + sizeof(header), payload, length);
	c->out_end += sizeof(header) + length;
}

static inline void flush(struct client *c)
{
	size_t done = 0;

	while (done < c->out_end) {
		ssize_t n = write(c->fd, c->out + done, c->out_end - done);

		if (n < 0)
			fail("write");
		done += n;
	}
	c->out_end = 0;
}

/* The next whole message among the bytes that have come, or NULL. */
static inline struct header *next(struct client *c)
{
	struct header *header = (struct header *)(c->in + c->in_at);
	size_t have = c->in_end - c->in_at;

	if (have < sizeof(*header) || have < sizeof(*header) + header->length)
		return NULL;
	c->in_at += sizeof(*header) + header->length;
	return header;
}

/* Waits for more bytes. */
static inline void fill(struct client *c)
{
	ssize_t n;

	memmove(c->in, c->in + c->in_at, c->in_end - c->in_at);
	c->in_end -= c->in_at;
	c->in_at = 0;
	n = read(c->fd, c->in + c->in_end, BUFFER - c->in_end);
	if (n <= 0)
		fail("read (the daemon closed the connection?)");
	c->in_end += n;
}

static inline const char *text(const struct header *header)
{
	return (const char *)(header + 1);
}

static inline void must_be_good(const struct header *header, const char *path)
{
	if (header->type == ERROR) {
		fprintf(stderr, "%s: %.*s\n", path, (int)header->length, text(header));
		exit(1);
	}
}

/* One request and its reply, which may be an error; events are skipped. */
static inline struct header *ask(struct client *c, uint32_t type, uint32_t transaction, const void *payload, uint32_t length)
{
	struct header *header;

	put(c, type, transaction, payload, length);
	flush(c);
	do {
		while (!(header = next(c)))
			fill(c);
	} while (header->type == EVENT);
	return header;
}

/* The same where an error is none that may happen. */
static inline struct header *call(struct client *c, uint32_t type, uint32_t transaction, const void *payload, uint32_t length)
{
	struct header *header = ask(c, type, transaction, payload, length);

	must_be_good(header, payload);
	return header;
}

/* The payload of a WRITE; its length. */
static inline uint32_t write_payload(char *payload, const char *path, const char *value, uint32_t length)
{
	uint32_t head = strlen(path) + 1;

	memcpy(payload, path, head);
	memcpy(payload + head, value, length);
	return head + length;
}

#endif
