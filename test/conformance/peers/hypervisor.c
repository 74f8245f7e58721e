/*
 * A hypervisor made of files: preloaded into Debian's xenstored or oxenstored 4.17, it lets the genuine daemon run on a
 * machine without Xen. It fakes what the daemons use of libxenctrl, libxenevtchn and libxengnttab, and knows nothing of
 * the xenstore protocol. Everything lives in the folder $HYPERVISOR_DIR:
 *
 *   dom-<N>.page      shared ring page of domain N; the domain exists while the file does
 *   dom-<N>.dying     domain N is dying      (if present)
 *   dom-<N>.shutdown  domain N is shut down  (if present)
 *   dom-<N>.evt       datagram socket of the guest: gets a 4-byte port number for each notification by the daemon
 *   evtchn.sock       datagram socket of the daemon: a 4-byte port number raises that event channel. Port 1 is
 *                     VIRQ_DOM_EXC, port 16 + N the ring of domain N.
 *
 * Files that the daemons want below /run, /var and /proc/xen are looked for in that folder too.
 *
 * build: gcc -O2 -Wall -shared -fPIC -I<include folder of libxen-dev> -o hypervisor.so hypervisor.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenctrl.h>

enum { DOMAINS = 256, PORT_VIRQ = 1, PORT_DOM0 = 16, PAGE = 4096, PATH_BYTES = 4096 };

static const char *top(void)
{
	static const char *folder;

	if (!folder)
		folder = getenv("HYPERVISOR_DIR");
	if (!folder) {
		static const char message[] = "HYPERVISOR_DIR is not set\n";

		if (write(2, message, sizeof(message) - 1) < 0)
			_exit(98);
		_exit(99);
	}
	return folder;
}

#define REAL(name) ({ static typeof(name) *real_; \
	if (!real_) \
		real_ = (typeof(name) *)dlsym(RTLD_NEXT, #name); \
	real_; })

/* ---- files the daemons have fixed names for --------------------------- */

static const char *redirect(const char *path, char *buffer)
{
	static const struct { const char *from, *to; } map[] = {
		{ "/proc/xen/xsd_port",   "/xsd_port" },
		{ "/dev/xen/xsd_port",    "/xsd_port" },
		{ "/proc/xen/xsd_kva",    "/dom-0.page" },
		{ "/dev/xen/xsd_kva",     "/dom-0.page" },
		{ "/var/run/xenstored",   "/run" },
		{ "/run/xenstored",       "/run" },
		{ "/var/run/xen",         "/runxen" },
		{ "/run/xen",             "/runxen" },
		{ "/var/log/xen",         "/log" },
		{ "/var/lib/xenstored",   "/lib" },
	};

	for (size_t i = 0; path && i < sizeof(map) / sizeof(*map); i++) {
		size_t length = strlen(map[i].from);

		if (!strncmp(path, map[i].from, length) && (!path[length] || path[length] == '/')) {
			snprintf(buffer, PATH_BYTES, "%s%s%s", top(), map[i].to, path + length);
			return buffer;
		}
	}
	return path;
}
#define REDIRECT(path) char buffer_[PATH_BYTES]; path = redirect(path, buffer_)

static mode_t creation_mode(int flags, va_list arguments)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	REDIRECT(path);
	va_start(arguments, flags);
	mode = creation_mode(flags, arguments);
	va_end(arguments);
	return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	REDIRECT(path);
	va_start(arguments, flags);
	mode = creation_mode(flags, arguments);
	va_end(arguments);
	return REAL(open64)(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) { REDIRECT(path); return REAL(fopen)(path, mode); }
FILE *fopen64(const char *path, const char *mode) { REDIRECT(path); return REAL(fopen64)(path, mode); }
int mkdir(const char *path, mode_t mode) { REDIRECT(path); return REAL(mkdir)(path, mode); }
int unlink(const char *path) { REDIRECT(path); return REAL(unlink)(path); }
int chmod(const char *path, mode_t mode) { REDIRECT(path); return REAL(chmod)(path, mode); }
int access(const char *path, int mode) { REDIRECT(path); return REAL(access)(path, mode); }
int stat(const char *path, struct stat *st) { REDIRECT(path); return REAL(stat)(path, st); }
int stat64(const char *path, struct stat64 *st) { REDIRECT(path); return REAL(stat64)(path, st); }

int rename(const char *from, const char *to)
{
	char first[PATH_BYTES], second[PATH_BYTES];

	return REAL(rename)(redirect(from, first), redirect(to, second));
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	struct sockaddr_un un;
	char buffer[PATH_BYTES];
	const char *path;

	if (address->sa_family != AF_UNIX)
		return REAL(bind)(fd, address, length);
	un = *(const struct sockaddr_un *)address;
	path = redirect(un.sun_path, buffer);
	if (path == un.sun_path)
		return REAL(bind)(fd, address, length);
	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(un.sun_path, path);
	return REAL(bind)(fd, (struct sockaddr *)&un, sizeof(un));
}

/* oxenstored insists on as many files as /proc/sys/fs/nr_open says; take what this user may have. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *wanted)
{
	struct rlimit have;

	if (REAL(setrlimit)(resource, wanted) == 0)
		return 0;
	if (getrlimit(resource, &have) == 0) {
		have.rlim_cur = have.rlim_max;
		REAL(setrlimit)(resource, &have);
	}
	return 0;
}

/* ---- domains ---------------------------------------------------------- */

static int has_file(unsigned int domid, const char *what)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/dom-%u.%s", top(), domid, what);
	return REAL(access)(path, F_OK) == 0;
}

static int exists(unsigned int domid)
{
	return domid < DOMAINS && (!domid || has_file(domid, "page"));
}

static void *map_page(unsigned int domid)
{
	char path[PATH_BYTES];
	void *page;
	int fd;

	if (!exists(domid)) {
		errno = ESRCH;
		return NULL;
	}
	snprintf(path, sizeof(path), "%s/dom-%u.page", top(), domid);
	fd = REAL(open)(path, O_RDWR | (domid ? 0 : O_CREAT), 0600);
	if (fd < 0)
		return NULL;
	page = ftruncate(fd, PAGE) ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED ? NULL : page;
}

__attribute__((constructor)) static void prepare_folder(void)
{
	static const char *const folders[] = { "run", "runxen", "log", "lib" };
	char path[PATH_BYTES];
	void *page;
	int fd;

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", top(), folders[i]);
		REAL(mkdir)(path, 0755);
	}
	snprintf(path, sizeof(path), "%s/xsd_port", top());
	fd = REAL(open)(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	/* No newline: oxenstored gives all of the file to int_of_string. */
	if (fd < 0 || write(fd, "1", 1) != 1)
		_exit(97);
	close(fd);
	page = map_page(0);
	if (!page)
		_exit(96);
	memset(page, 0, PAGE);
	munmap(page, PAGE);
}

/* ---- libxenctrl ------------------------------------------------------- */

xc_interface *xc_interface_open(xentoollog_logger *log, xentoollog_logger *dombuild, unsigned flags)
{
	return (xc_interface *)calloc(1, 64);
}

int xc_interface_close(xc_interface *xch)
{
	free(xch);
	return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *info)
{
	unsigned int found = 0;

	for (unsigned int domid = first; domid < DOMAINS && found < max; domid++) {
		if (!exists(domid))
			continue;
		memset(&info[found], 0, sizeof(info[found]));
		info[found].domid = domid;
		info[found].running = 1;
		info[found].dying = has_file(domid, "dying");
		info[found].shutdown = has_file(domid, "shutdown");
		found++;
	}
	if (!found) {
		errno = ESRCH;
		return -1;
	}
	return found;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int max, xc_domaininfo_t *info)
{
	unsigned int found = 0;

	for (unsigned int domid = first; domid < DOMAINS && found < max; domid++) {
		if (!exists(domid))
			continue;
		memset(&info[found], 0, sizeof(info[found]));
		info[found].domain = domid;
		info[found].flags = XEN_DOMINF_running |
			(has_file(domid, "dying") ? XEN_DOMINF_dying : 0) |
			(has_file(domid, "shutdown") ? XEN_DOMINF_shutdown : 0);
		found++;
	}
	return found;
}

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long mfn)
{
	return map_page(domid);
}

/* ---- libxengnttab ----------------------------------------------------- */

void *xengnttab_open(void *log, unsigned flags) { return calloc(1, 64); }
int xengnttab_close(void *handle) { free(handle); return 0; }
int xengnttab_set_max_grants(void *handle, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *handle, uint32_t domid, uint32_t ref, int prot) { return map_page(domid); }
int xengnttab_unmap(void *handle, void *start, uint32_t pages) { return munmap(start, (size_t)pages * PAGE); }

/* ---- libxenevtchn ----------------------------------------------------- */

struct channels { int fd; };

static void address_of(struct sockaddr_un *un, const char *name)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if ((size_t)snprintf(un->sun_path, sizeof(un->sun_path), "%s/%s", top(), name) >= sizeof(un->sun_path))
		_exit(95);
}

struct channels *xenevtchn_open(void *log, unsigned flags)
{
	struct channels *channels = calloc(1, sizeof(*channels));
	struct sockaddr_un un;

	address_of(&un, "evtchn.sock");
	channels->fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	REAL(unlink)(un.sun_path);
	if (REAL(bind)(channels->fd, (struct sockaddr *)&un, sizeof(un))) {
		perror(un.sun_path);
		return NULL;
	}
	return channels;
}

struct channels *xenevtchn_fdopen(void *log, int fd, unsigned flags)
{
	struct channels *channels = calloc(1, sizeof(*channels));

	channels->fd = fd;
	return channels;
}

int xenevtchn_close(struct channels *channels) { close(channels->fd); free(channels); return 0; }
int xenevtchn_fd(struct channels *channels) { return channels->fd; }

int xenevtchn_notify(struct channels *channels, uint32_t port)
{
	struct sockaddr_un un;
	char name[32];

	if (port <= PORT_DOM0 || port >= PORT_DOM0 + DOMAINS)
		return 0;
	snprintf(name, sizeof(name), "dom-%u.evt", port - PORT_DOM0);
	address_of(&un, name);
	sendto(channels->fd, &port, sizeof(port), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&un, sizeof(un));
	return 0;
}

int xenevtchn_bind_virq(struct channels *channels, unsigned virq) { return PORT_VIRQ; }

int xenevtchn_bind_interdomain(struct channels *channels, uint32_t domid, uint32_t port)
{
	if (!exists(domid)) {
		errno = ESRCH;
		return -1;
	}
	return PORT_DOM0 + domid;
}

int xenevtchn_bind_unbound_port(struct channels *channels, uint32_t domid) { return PORT_DOM0 + domid; }
int xenevtchn_unbind(struct channels *channels, uint32_t port) { return 0; }
int xenevtchn_unmask(struct channels *channels, uint32_t port) { return 0; }
int xenevtchn_restrict(struct channels *channels, uint16_t domid) { return 0; }

int xenevtchn_pending(struct channels *channels)
{
	uint32_t port;

	return recv(channels->fd, &port, sizeof(port), 0) == sizeof(port) ? (int)port : -1;
}
