/**
 * The application's side of one tty line, as the console driver sees it. Two implementations: pty-tty.ts, which no
 * application can tell from /dev/hvcX, and memory-tty.ts, which needs neither koffi nor a kernel.
 */

/** What a line tells its driver. Calls arrive one at a time, never from inside a call of the driver. */
export interface TtyEvents {
  /** The first application has opened the line. */
  onOpen(): void;
  /** The last one has closed it; what it wrote can still be read. */
  onLastClose(): void;
  /** An application has written: read until 0. */
  onReadable(): void;
  /** After `write` took less than all: there is room again. */
  onWritable(): void;
}

export interface TtyPort {
  /** The device node to link to; undefined when the line exists in this process only. */
  readonly path: string | undefined;
  readonly isOpen: boolean;
  /** Takes bytes the applications wrote; 0 when there are none now. */
  read(target: Uint8Array): number;
  /** Hands bytes to the applications; returns how many the line took. */
  write(bytes: Uint8Array): number;
  /** False: no `onReadable` for now, so that writers block. */
  setReading(reading: boolean): void;
  /** Readers get end of file, writers an error; the line is gone. */
  hangUp(): void;
}

/** Makes the lines of one or more guests. */
export interface TtyMaker {
  make(events: TtyEvents): TtyPort;
  /** Gives back what all lines share; the lines themselves are hung up by their drivers. */
  close(): void;
}
