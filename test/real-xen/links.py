#!/usr/bin/python3
"""links.py NAME=SOCKET...: proves which channel a guest's link leads to. Sends a random word through each socket, and
expects "NAME:WORD" back: the guest answers with the name of the link on which it read the word."""
import os
import select
import socket
import sys
import time

LIMIT_SECONDS = 60
waiting, failed = {}, False
for argument in sys.argv[1:]:
    name, path = argument.split('=', 1)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    word = os.urandom(16).hex()
    client.sendall((word + '\n').encode())
    waiting[client] = [name, word, b'']
end = time.monotonic() + LIMIT_SECONDS
while waiting and time.monotonic() < end:
    for client in select.select(list(waiting), [], [], 1)[0]:
        name, word, answer = waiting[client]
        chunk = client.recv(4096)
        answer += chunk
        waiting[client][2] = answer
        if chunk and not answer.endswith(b'\n'):
            continue
        del waiting[client]
        right = answer == ('%s:%s\n' % (name, word)).encode()
        failed = failed or not right
        print('%s: %s' % (name, 'proved' if right else 'WRONG: %r instead of %s' % (answer, word)))
for name, word, answer in waiting.values():
    print('%s: NO ANSWER (%r)' % (name, answer))
sys.exit(1 if failed or waiting else 0)
