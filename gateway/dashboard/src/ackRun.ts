// Acknowledges alarms one after the other, a few at the same time, until it is stopped.
import type { Acknowledgement } from './client';

/** How many requests are under way at the same time. */
const AT_ONCE = 4;

export class AckRun<T> {
  #isStopped = false;
  readonly #waiting: T[];
  readonly #send: (target: T) => Promise<Acknowledgement>;

  constructor(targets: readonly T[], send: (target: T) => Promise<Acknowledgement>) {
    this.#waiting = [...targets];
    this.#send = send;
  }

  /** Nothing more is sent, and nothing that comes of what was sent is told. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Tells each result as it comes. Returns whether it came to its end. */
  async run(tell: (target: T, result: Acknowledgement) => void): Promise<boolean> {
    const work = async () => {
      while (!this.#isStopped) {
        const target = this.#waiting.shift();
        if (target === undefined) return;
        const result = await this.#send(target).catch(failed);
        if (!this.#isStopped) tell(target, result);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return !this.#isStopped;
  }
}

function failed(error: unknown): Acknowledgement {
  const message = error instanceof Error ? error.message : String(error);
  return { result: 'failed', message };
}
