#!/usr/bin/python3
"""qmp.py DOMID: the chardevs of the domain's QEMU, one label a line."""
import json
import socket
import sys

client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect('/run/xen/qmp-libxl-%s' % sys.argv[1])
lines = client.makefile('rw')


def answer():
    while True:
        message = json.loads(lines.readline())
        if 'event' not in message:
            return message


answer()  # the greeting
for command in ('qmp_capabilities', 'query-chardev'):
    lines.write(json.dumps({'execute': command}) + '\n')
    lines.flush()
    result = answer()['return']
print('\n'.join(sorted(chardev['label'] for chardev in result)))
