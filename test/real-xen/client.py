#!/usr/bin/python3
"""A host client of a channel: sends a file, receives bytes, or measures round trips, and prints one line of JSON.

client.py SOCKET [--send FILE] [--receive BYTES] [--save FILE] [--reconnect] [--records COUNT] [--seconds LIMIT]
client.py SOCKET --round-trips COUNT        against a guest that echoes

--reconnect  connects again whenever the server goes away, until everything is there
             (SIGTERM: or until told to stop)
--records    what is received should be COUNT lines 0000000, 0000001, ...: tells how many are missing or come twice
"""
import argparse
import hashlib
import json
import select
import signal
import socket
import sys
import time


def connect(path, end):
    while True:
        try:
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            return client
        except OSError as error:
            if time.monotonic() > end:
                sys.exit('client: cannot connect to %s: %s' % (path, error))
            time.sleep(0.01)


def transfer(options):
    start = time.monotonic()
    end = start + options.seconds
    client = connect(options.socket, end)
    to_send = open(options.send, 'rb').read() if options.send else b''
    sent, received, connections = 0, bytearray(), 1
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    while sent < len(to_send) or len(received) < options.receive:
        left = end - time.monotonic()
        readable, writable, _ = select.select([client], [client] if sent < len(to_send) else [], [],
                                              min(max(left, 0), 0.5))
        if left <= 0 or stop:
            break
        try:
            if writable:
                sent += client.send(to_send[sent:sent + 65536], socket.MSG_DONTWAIT)
            if readable:
                chunk = client.recv(65536)
                if not chunk:
                    raise ConnectionResetError('the server closed')
                received += chunk
        except BlockingIOError:
            pass
        except OSError as error:
            if not options.reconnect:
                print(json.dumps({'error': str(error), 'sent': sent, 'received': len(received)}))
                return 1
            client = connect(options.socket, end)
            connections += 1
    if options.save:
        open(options.save, 'wb').write(received)
    result = {'sent': sent, 'received': len(received), 'sha256': hashlib.sha256(received).hexdigest(),
              'seconds': round(time.monotonic() - start, 3), 'connections': connections}
    if options.records:
        result.update(check_records(bytes(received), options.records))
    print(json.dumps(result))
    return 0 if sent == len(to_send) and len(received) >= options.receive else 1


def check_records(data, expected):
    seen, garbled = {}, 0
    for line in data.split(b'\n')[:-1]:
        if len(line) == 7 and line.isdigit():
            seen[int(line)] = seen.get(int(line), 0) + 1
        else:
            garbled += 1
    return {'missing': sum(1 for i in range(expected) if i not in seen),
            'repeated': sum(count - 1 for count in seen.values()), 'garbled': garbled}


def round_trips(options):
    client = connect(options.socket, time.monotonic() + options.seconds)
    client.settimeout(options.seconds)
    times = []
    for i in range(options.round_trips):
        start, answer = time.monotonic(), b''
        client.sendall(b'%063d\n' % i)
        while len(answer) < 64:
            answer += client.recv(64 - len(answer))
        times.append((time.monotonic() - start) * 1000)
    times.sort()
    print(json.dumps({'count': len(times), 'p50_ms': round(times[len(times) // 2], 2),
                      'p90_ms': round(times[len(times) * 9 // 10], 2), 'max_ms': round(times[-1], 2)}))
    return 0


parser = argparse.ArgumentParser()
parser.add_argument('socket')
parser.add_argument('--send')
parser.add_argument('--receive', type=int, default=0)
parser.add_argument('--save')
parser.add_argument('--reconnect', action='store_true')
parser.add_argument('--records', type=int, default=0)
parser.add_argument('--round-trips', type=int, default=0)
parser.add_argument('--seconds', type=float, default=120)
arguments = parser.parse_args()
sys.exit(round_trips(arguments) if arguments.round_trips else transfer(arguments))
