#!/usr/bin/python3
"""qga.py SOCKET COMMAND: asks the qemu-guest-agent behind a channel, prints its answer."""
import json
import socket
import sys
import time

path, command = sys.argv[1:]
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect(path)
# qemu:docs/interop/qemu-ga-ref, guest-sync-delimited: whatever came before the byte 0xFF belongs to somebody else.
sync = time.monotonic_ns() % 1000000
client.sendall(b'\xff' + json.dumps({'execute': 'guest-sync-delimited', 'arguments': {'id': sync}}).encode() + b'\n')
received = b''
while not received.endswith(b'\n') or b'\xff' not in received:
    received += client.recv(4096)
answer = json.loads(received.rsplit(b'\xff', 1)[1])
assert answer == {'return': sync}, answer
client.sendall(json.dumps({'execute': command}).encode() + b'\n')
received = b''
while not received.endswith(b'\n'):
    received += client.recv(65536)
print(json.dumps(json.loads(received)['return'])[:2000])
