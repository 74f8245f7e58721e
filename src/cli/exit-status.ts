/** Thrown by a command that has said everything and ends with a code of its own. */
export class ExitStatus extends Error {
  override readonly name = 'ExitStatus';
  readonly status: number;

  constructor(status: number) {
    super(`exit status ${status}`);
    this.status = status;
  }
}
