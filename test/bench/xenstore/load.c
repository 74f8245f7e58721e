/*
 * Load for xenstore daemons that listen on Unix sockets, compared side by side.
 *
 *   load [-r ROUNDS] [-t SECONDS] [-n NODES] -o TESTS NAME=SOCKET@PID ...
 *
 * Each test runs ROUNDS times against each daemon in turn (A B A B ...), so that other load on the machine hits all
 * alike, after one short run that is not counted. Output, one line per test and daemon, medians, separated by tabs:
 *   test, daemon, figure, second figure, CPU microseconds of the daemon per operation
 * All nodes live below /bench.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <poll.h>
#include <sys/resource.h>
#include <time.h>
#include "client.h"

enum { KEYS = 1000, KEY_BYTES = 128, OUTSTANDING = 64, CONNECTIONS = 100, WRITERS = 8, FOLDER = 1000, VALUE = 64, MOST = 16, MOST_ROUNDS = 64 };

struct daemon { const char *name, *path; int pid; };

static double duration = 1.0;
static long nodes = 100000;
static char value[VALUE];
/* Requests for as many different nodes, so that nobody answers from a memory of the last one. */
static struct { char payload[KEY_BYTES]; uint32_t key, all; } requests[KEYS];
/* What a test leaves beside its figure. */
static double second;
static long operations;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* CPU seconds used so far by all threads of a process. */
static double cpu_of(int pid)
{
	char path[600];
	unsigned long long ns, sum = 0;
	struct dirent *entry;
	FILE *file;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (file && fscanf(file, "%llu", &ns) == 1)
			sum += ns;
		if (file)
			fclose(file);
	}
	if (folder)
		closedir(folder);
	return sum * 1e-9;
}

static double resident_mib(int pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib / 1024.0;
}

/* ---- one connection ---------------------------------------------------- */

static void prepare_requests(void)
{
	char path[PATH_BYTES];

	memset(value, 'x', sizeof(value));
	for (int i = 0; i < KEYS; i++) {
		requests[i].key = sprintf(path, "/bench/k/%d/key", i) + 1;
		requests[i].all = write_payload(requests[i].payload, path, value, VALUE);
	}
}

/* A READ or WRITE of the n-th node. */
static void put_request(struct client *c, int type, long n)
{
	uint32_t length = type == READ ? requests[n % KEYS].key : requests[n % KEYS].all;

	put(c, type, 0, requests[n % KEYS].payload, length);
}

/* Keeps `under_way` requests outstanding; operations per second. */
static double requests_per_second(struct daemon *d, int type, int under_way)
{
	struct client *c = client_open(d->path);
	struct header *header;
	double start, passed;
	long sent = 0, done = 0;

	for (int i = 0; i < KEYS; i++)
		call(c, WRITE, 0, requests[i].payload, requests[i].all);
	start = now();
	do {
		while (sent - done < under_way)
			put_request(c, type, sent++);
		flush(c);
		fill(c);
		passed = now() - start;
		while ((header = next(c))) {
			must_be_good(header, requests[done % KEYS].payload);
			if (type == READ && header->length != VALUE)
				fail("a value has the wrong length");
			done++;
		}
	} while (passed < duration);
	client_close(c);
	operations = done;
	return done / passed;
}

static double sync_read(struct daemon *d) { return requests_per_second(d, READ, 1); }
static double sync_write(struct daemon *d) { return requests_per_second(d, WRITE, 1); }
static double pipe_read(struct daemon *d) { return requests_per_second(d, READ, OUTSTANDING); }
static double pipe_write(struct daemon *d) { return requests_per_second(d, WRITE, OUTSTANDING); }

static double directory(struct daemon *d)
{
	struct client *c = client_open(d->path);
	char path[PATH_BYTES];
	double start, passed;
	long n = 0;

	for (int i = 0; i < 1000; i++)	/* 1000 names of 3 letters: 4000 bytes */
		call(c, MKDIR, 0, path, sprintf(path, "/bench/d/%03d", i) + 1);
	start = now();
	do {
		if (call(c, DIRECTORY, 0, "/bench/d", 9)->length != 4000)
			fail("directory: not 4000 bytes");
		n++;
		passed = now() - start;
	} while (passed < duration);
	client_close(c);
	operations = n;
	return n / passed;
}

static double transaction(struct daemon *d)
{
	struct client *c = client_open(d->path);
	char payload[PATH_BYTES], path[PATH_BYTES];
	double start = now(), passed;
	uint32_t id;
	long n = 0;

	do {
		id = strtoul(text(call(c, TX_START, 0, "", 1)), NULL, 10);
		for (int i = 0; i < 10; i++) {
			sprintf(path, "/bench/e/k%d", i);
			call(c, WRITE, id, payload, write_payload(payload, path, value, VALUE));
		}
		call(c, TX_END, id, "T", 2);
		n++;
		passed = now() - start;
	} while (passed < duration);
	client_close(c);
	operations = n;
	return n / passed;
}

/* ---- many connections -------------------------------------------------- */

static double crowd(struct daemon *d)
{
	struct client *c[CONNECTIONS];
	struct pollfd fds[CONNECTIONS];
	char payload[PATH_BYTES], path[PATH_BYTES];
	double start, passed;
	unsigned int random = 1;
	long n = 0;

	for (int i = 0; i < CONNECTIONS; i++) {
		c[i] = client_open(d->path);
		fds[i] = (struct pollfd){ .fd = c[i]->fd, .events = POLLIN };
		sprintf(path, "/bench/f/%d/key", i);
		call(c[i], WRITE, 0, payload, write_payload(payload, path, value, VALUE));
		put(c[i], READ, 0, path, strlen(path) + 1);
	}
	start = now();
	for (int i = 0; i < CONNECTIONS; i++)
		flush(c[i]);
	do {
		if (poll(fds, CONNECTIONS, 5000) <= 0)
			fail("crowd: no answer");
		for (int i = 0; i < CONNECTIONS; i++) {
			if (!fds[i].revents)
				continue;
			fill(c[i]);
			while (next(c[i])) {
				n++;
				sprintf(path, "/bench/f/%d/key", i);
				random = random * 1103515245 + 12345;
				if ((random >> 16) % 5)
					put(c[i], READ, 0, path, strlen(path) + 1);
				else
					put(c[i], WRITE, 0, payload, write_payload(payload, path, value, VALUE));
			}
			flush(c[i]);
		}
		passed = now() - start;
	} while (passed < duration);
	for (int i = 0; i < CONNECTIONS; i++)
		client_close(c[i]);
	operations = n;
	return n / passed;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *figures, int count)
{
	qsort(figures, count, sizeof(*figures), ascending);
	return count & 1 ? figures[count / 2] : (figures[count / 2 - 1] + figures[count / 2]) / 2;
}

static double highest(const double *figures, int count)
{
	double most = figures[0];

	for (int i = 1; i < count; i++)
		most = figures[i] > most ? figures[i] : most;
	return most;
}

/* Milliseconds from the WRITE to the last of the events. */
static double fan_out(struct daemon *d, int connections, int watches)
{
	static double times[4096];
	struct client *c[CONNECTIONS], *writer = client_open(d->path);
	struct pollfd fds[CONNECTIONS];
	char payload[PATH_BYTES];
	double start = 0, begin;
	int rounds = 0, left;

	call(writer, MKDIR, 0, "/bench/w", 9);
	for (int i = 0; i < connections; i++) {
		c[i] = client_open(d->path);
		fds[i] = (struct pollfd){ .fd = c[i]->fd, .events = POLLIN };
		for (int j = 0; j < watches; j++)
			call(c[i], WATCH, 0, payload, sprintf(payload, "/bench/w%ctoken%d", 0, j) + 1);
		/* The last first event may come after the reply to its WATCH, but not after a later one. */
		call(c[i], READ, 0, "/", 2);
		while (next(c[i]))
			;
	}
	begin = now();
	while (rounds < 4096 && now() - begin < duration) {
		left = connections * watches;
		start = now();
		put(writer, WRITE, 0, payload, write_payload(payload, "/bench/w", value, VALUE));
		flush(writer);
		while (left > 0) {
			if (poll(fds, connections, 5000) <= 0)
				fail("fan-out: events are missing");
			for (int i = 0; i < connections; i++) {
				if (!fds[i].revents)
					continue;
				fill(c[i]);
				while (next(c[i]))
					left--;
			}
		}
		times[rounds++] = (now() - start) * 1e3;
		while (!next(writer))
			fill(writer);
	}
	for (int i = 0; i < connections; i++)
		client_close(c[i]);
	client_close(writer);
	operations = rounds;
	return median(times, rounds);
}

static double fan_out_one(struct daemon *d) { return fan_out(d, 1, 1000); }
static double fan_out_many(struct daemon *d) { return fan_out(d, CONNECTIONS, 10); }

/* A writer's next request, given the reply to its last one; 1 when a try has ended, 2 when it succeeded. */
static int next_of_increment(struct client *c, const struct header *header, int stop)
{
	char payload[PATH_BYTES], number[32];

	switch (c->state++) {
	case 0:
		c->transaction = strtoul(text(header), NULL, 10);
		put(c, READ, c->transaction, "/bench/counter", 15);
		return 0;
	case 1:
		snprintf(number, sizeof(number), "%.*s", (int)header->length, text(header));
		sprintf(number, "%ld", atol(number) + 1);
		put(c, WRITE, c->transaction, payload, write_payload(payload, "/bench/counter", number, strlen(number)));
		return 0;
	case 2:
		put(c, TX_END, c->transaction, "T", 2);
		return 0;
	}
	if (header->type == ERROR && strncmp(text(header), "EAGAIN", 6))
		must_be_good(header, "/bench/counter");
	c->state = 0;
	if (!stop)
		put(c, TX_START, 0, "", 1);
	return header->type == ERROR ? 1 : 2;
}

/* Several clients increment one counter in transactions; commits per second. No increment may be lost. */
static double conflicts(struct daemon *d)
{
	struct client *c[WRITERS], *reader = client_open(d->path);
	struct pollfd fds[WRITERS];
	struct header *header;
	char payload[PATH_BYTES];
	double start, passed = 0;
	long commits = 0, tries = 0;
	int busy = WRITERS;

	call(reader, WRITE, 0, payload, write_payload(payload, "/bench/counter", "0", 1));
	for (int i = 0; i < WRITERS; i++) {
		c[i] = client_open(d->path);
		fds[i] = (struct pollfd){ .fd = c[i]->fd, .events = POLLIN };
		put(c[i], TX_START, 0, "", 1);
	}
	start = now();
	for (int i = 0; i < WRITERS; i++)
		flush(c[i]);
	while (busy) {
		if (poll(fds, WRITERS, 5000) <= 0)
			fail("conflicts: no answer");
		for (int i = 0; i < WRITERS; i++) {
			if (!fds[i].revents)
				continue;
			fill(c[i]);
			while ((header = next(c[i]))) {
				int ended = next_of_increment(c[i], header, passed > duration);

				tries += ended > 0;
				commits += ended == 2;
				if (ended && passed > duration) {
					busy--;
					fds[i].fd = -1;
				}
			}
			flush(c[i]);
		}
		passed = now() - start;
	}
	header = call(reader, READ, 0, "/bench/counter", 15);
	snprintf(payload, sizeof(payload), "%.*s", (int)header->length, text(header));
	if (atol(payload) != commits) {
		fprintf(stderr, "%s lost updates: the counter is %s after %ld commits\n", d->name, payload, commits);
		exit(1);
	}
	for (int i = 0; i < WRITERS; i++)
		client_close(c[i]);
	client_close(reader);
	second = (double)tries / commits;
	operations = commits;
	return commits / passed;
}

/* ---- many nodes -------------------------------------------------------- */

/* Writes nodes number `from` to `to` - 1 into folders of FOLDER. */
static void populate(struct client *c, long from, long to)
{
	char payload[PATH_BYTES], path[PATH_BYTES];
	long sent = from, done = from;
	struct header *header;

	while (done < to) {
		while (sent < to && sent - done < OUTSTANDING) {
			sprintf(path, "/bench/p/%ld/n%ld", sent / FOLDER, sent % FOLDER);
			put(c, WRITE, 0, payload, write_payload(payload, path, "0123456789abcdef", 16));
			sent++;
		}
		flush(c);
		fill(c);
		while ((header = next(c))) {
			must_be_good(header, path);
			done++;
		}
	}
}

/* Seconds; the growth of the daemon in MiB. */
static double populate_seconds(struct daemon *d)
{
	struct client *c = client_open(d->path);
	double start, passed, before = resident_mib(d->pid);

	start = now();
	populate(c, 0, nodes);
	passed = now() - start;
	second = resident_mib(d->pid) - before;
	operations = nodes;
	ask(c, RM, 0, "/bench/p", 9);
	client_close(c);
	return passed;
}

static double remove_seconds(struct daemon *d)
{
	struct client *c = client_open(d->path);
	double start;

	populate(c, 0, nodes);
	start = now();
	call(c, RM, 0, "/bench/p", 9);
	start = now() - start;
	client_close(c);
	operations = nodes;
	return start;
}

/* ---- cost that must not grow ------------------------------------------- */

static double reads_and_writes(struct daemon *d)
{
	return requests_per_second(d, READ, OUTSTANDING) + requests_per_second(d, WRITE, OUTSTANDING);
}

/* How much dearer a request is with `nodes` nodes than with 1000. */
static double growth_by_nodes(struct daemon *d)
{
	struct client *c = client_open(d->path);
	double few;

	populate(c, 0, 1000);
	few = reads_and_writes(d);
	populate(c, 1000, nodes);
	few /= reads_and_writes(d);
	ask(c, RM, 0, "/bench/p", 9);
	client_close(c);
	second = nodes;
	return few;
}

/* How much dearer a write is with 10,000 watches on other nodes than with one. */
static double growth_by_watches(struct daemon *d)
{
	enum { WATCHES = 10000 };
	struct client *watcher = client_open(d->path);
	char payload[PATH_BYTES];
	double few;

	call(watcher, WATCH, 0, payload, sprintf(payload, "/bench/elsewhere/0%ct", 0) + 1);
	few = requests_per_second(d, WRITE, OUTSTANDING);
	for (int i = 1; i < WATCHES; i++)
		call(watcher, WATCH, 0, payload, sprintf(payload, "/bench/elsewhere/%d%ct", i, 0) + 1);
	few /= requests_per_second(d, WRITE, OUTSTANDING);
	client_close(watcher);
	second = WATCHES;
	return few;
}

static const struct test {
	const char *name;
	double (*run)(struct daemon *);
	int is_long;	/* needs no warming up; the second figure is the highest of all rounds */
} tests[] = {
	{ "sync-read", sync_read, 0 },
	{ "sync-write", sync_write, 0 },
	{ "pipe-read", pipe_read, 0 },
	{ "pipe-write", pipe_write, 0 },
	{ "directory", directory, 0 },
	{ "transaction", transaction, 0 },
	{ "crowd", crowd, 0 },
	{ "fan-out-1", fan_out_one, 0 },
	{ "fan-out-100", fan_out_many, 0 },
	{ "conflicts", conflicts, 0 },
	{ "populate", populate_seconds, 1 },
	{ "remove", remove_seconds, 1 },
	{ "growth-nodes", growth_by_nodes, 1 },
	{ "growth-watches", growth_by_watches, 0 },
};

static void measure(const struct test *test, struct daemon *daemons, int count, int rounds)
{
	static double figures[MOST][MOST_ROUNDS], seconds[MOST][MOST_ROUNDS], micros[MOST][MOST_ROUNDS];

	for (int i = 0; i < count && !test->is_long; i++) {
		double full = duration;

		duration = full / 4;
		test->run(&daemons[i]);
		duration = full;
	}
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < count; i++) {
			double cpu = cpu_of(daemons[i].pid);

			second = operations = 0;
			figures[i][round] = test->run(&daemons[i]);
			seconds[i][round] = second;
			micros[i][round] = operations ? (cpu_of(daemons[i].pid) - cpu) * 1e6 / operations : 0;
		}
	for (int i = 0; i < count; i++)
		printf("%s\t%s\t%.6g\t%.6g\t%.6g\n", test->name, daemons[i].name, median(figures[i], rounds),
		       test->is_long ? highest(seconds[i], rounds) : median(seconds[i], rounds), median(micros[i], rounds));
	fflush(stdout);
}

static int is_wanted(const char *name, const char *list)
{
	const char *at = strstr(list, name);
	size_t length = strlen(name);

	return at && (at == list || at[-1] == ',') && (!at[length] || at[length] == ',');
}

int main(int argc, char **argv)
{
	struct daemon daemons[MOST];
	const char *wanted = "";
	int rounds = 3, count = 0, option;
	struct rlimit limit;

	while ((option = getopt(argc, argv, "r:t:o:n:")) != -1)
		switch (option) {
		case 'r': rounds = atoi(optarg); break;
		case 't': duration = atof(optarg); break;
		case 'o': wanted = optarg; break;
		case 'n': nodes = atol(optarg); break;
		default: return 2;
		}
	if (rounds < 1 || rounds > MOST_ROUNDS)
		return 2;
	prepare_requests();
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (; optind < argc && count < MOST; optind++, count++) {
		char *path = strchr(argv[optind], '='), *pid = path ? strchr(path, '@') : NULL;

		if (!pid)
			return 2;
		*path++ = *pid++ = 0;
		daemons[count] = (struct daemon){ argv[optind], path, atoi(pid) };
	}
	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		if (is_wanted(tests[i].name, wanted))
			measure(&tests[i], daemons, count, rounds);
	for (int i = 0; i < count; i++) {
		struct client *c = client_open(daemons[i].path);

		ask(c, RM, 0, "/bench", 7);
		client_close(c);
	}
	return 0;
}
