/** A connection to a daemon's Unix socket. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Wire } from '../connection.js';

function socketWire(socket: Socket): Wire {
  socket.on('error', () => {}); // 'close' follows
  return {
    send: (bytes) => void socket.write(bytes),
    onBytes: (listener) => void socket.on('data', listener),
    onClosed: (listener) => void socket.on('close', listener),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => void socket.destroy(),
  };
}

const CONNECT_TRIES = 500;

/** Connects; C xenstored listens with a backlog of one, so a second connection may have to try again. */
export async function connectTo(path: string): Promise<Wire> {
  for (let tries = 1; ; tries++) {
    const socket = connect(path);
    try {
      await once(socket, 'connect');
      return socketWire(socket);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || tries === CONNECT_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
