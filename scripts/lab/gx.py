#!/usr/bin/python3
"""gx DOMAIN [COMMAND...]  runs a shell command in a guest through the shell on its primary console.

Without a command, the script is read from standard input. Its output is printed as it comes, its exit status is passed
on. GX_LIMIT is the time limit in seconds (120).
gx --wait DOMAIN [SECONDS]  waits until the guest's shell answers.
"""
import binascii
import os
import select
import sys
import time
import tty

CHUNK = 900  # bytes of a line: a shell that reads from a cooked tty gets at most 4095


def run_tool(*command):
    """Its output. Without the module subprocess, which takes a quarter of a second to load under emulation."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_OPEN, 2, '/dev/null', os.O_WRONLY, 0)]
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    os.close(writing)
    with open(reading) as output:
        text = output.read().strip()
    os.waitpid(pid, 0)
    return text


def console_path(domain):
    domid = domain if domain.isdigit() else run_tool('xl', 'domid', domain)
    return run_tool('xenstore-read', '/local/domain/%s/console/tty' % domid) if domid else ''


class Console:
    def __init__(self, domain):
        path = console_path(domain)
        if not path:
            sys.exit('gx: domain %s has no console' % domain)
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd)
        self.received = b''

    def write(self, data):
        while data:
            select.select([], [self.fd], [])
            data = data[os.write(self.fd, data[:512]):]

    def read_more(self, end):
        left = end - time.monotonic()
        if left <= 0 or not select.select([self.fd], [], [], left)[0]:
            return False
        try:
            self.received += os.read(self.fd, 65536)
        except BlockingIOError:
            pass
        return True

    def wait_for(self, text, limit):
        end = time.monotonic() + limit
        while True:
            at = self.received.find(text)
            if at >= 0:
                self.received = self.received[at + len(text):]
                return True
            if not self.read_more(end):
                return False


def run(domain, script):
    console = Console(domain)
    tag = 'gx%d.%d' % (os.getpid(), time.monotonic_ns() % 1000000)
    # Echo off first, so that nothing of what follows comes back; the printf keeps the mark itself out of an echo.
    console.write(b"\nstty -echo -onlcr\n")
    console.write(("printf '<%%s>' %s-ready\n" % tag).encode())
    if not console.wait_for(('<%s-ready>' % tag).encode(), 60):
        sys.exit('gx: the shell of %s does not answer' % domain)
    encoded = binascii.b2a_base64(script.encode(), newline=False).decode()
    for at in range(0, len(encoded), CHUNK):
        console.write(("printf %%s '%s' >> /tmp/%s.b\n" % (encoded[at:at + CHUNK], tag)).encode())
    console.write((
        "base64 -d < /tmp/{0}.b > /tmp/{0}.s; printf '<%s>' {0}-go; "
        "{{ sh /tmp/{0}.s < /dev/null 2>&1; echo $? > /tmp/{0}.r; }} | cat; "
        "printf '<%s:%s>' {0}-rc $(cat /tmp/{0}.r); rm -f /tmp/{0}.*\n").format(tag).encode())
    if not console.wait_for(('<%s-go>' % tag).encode(), 60):
        sys.exit('gx: the shell of %s did not start the command' % domain)
    return copy_output(console, tag)


def copy_output(console, tag):
    limit = float(os.environ.get('GX_LIMIT', 120))
    end, mark, out = time.monotonic() + limit, ('<%s-rc:' % tag).encode(), sys.stdout.buffer
    while True:
        rest, _, end_of_it = console.received.partition(mark)
        status, complete, _ = end_of_it.partition(b'>')
        if complete:
            out.write(rest)
            out.flush()
            return int(status)
        if len(console.received) > 64:  # what may be the start of the mark is kept back
            out.write(console.received[:-64])
            out.flush()
            console.received = console.received[-64:]
        if not console.read_more(end):
            sys.exit('gx: time limit of %g s' % limit)


def wait(domain, limit):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if console_path(domain):
            console = Console(domain)
            tag = 'up%d' % (time.monotonic_ns() % 100000)
            console.write(("\nprintf '<%%s>' %s\n" % tag).encode())
            if console.wait_for(('<%s>' % tag).encode(), 3):
                return 0
            os.close(console.fd)
        time.sleep(0.5)
    sys.exit('gx: guest %s did not come up within %g s' % (domain, limit))


if __name__ == '__main__':
    arguments = sys.argv[1:]
    if arguments[:1] == ['--wait'] and len(arguments) > 1:
        sys.exit(wait(arguments[1], float(arguments[2]) if len(arguments) > 2 else 180))
    if not arguments:
        sys.exit(__doc__)
    sys.exit(run(arguments[0], ' '.join(arguments[1:]) if len(arguments) > 1 else sys.stdin.read()))
