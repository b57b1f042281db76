// The time of the server, from the times in what it sends. Ages are told by it: the clock of this machine may be wrong.

/** For how long an observation counts. Longer, and two clocks that run differently would drift apart. */
const WINDOW_MS = 5 * 60_000;

/** `elapsed` is a clock that nobody sets, such as `performance.now()`. */
export class ServerClock {
  readonly #elapsed: () => number;
  // Server time minus elapsed time: of what takes long to arrive it is too small, so the largest is the best.
  #current: { best: number; from: number } | undefined;
  #before: number | undefined;

  constructor(elapsed: () => number) {
    this.#elapsed = elapsed;
  }

  /** Something arrived that the server dated. It may be old. */
  observe(timestamp: string): void {
    const server = Date.parse(timestamp);
    if (Number.isNaN(server)) return;
    const now = this.#elapsed();
    const offset = server - now;
    if (!this.#current || now - this.#current.from > WINDOW_MS) {
      this.#before = this.#current?.best;
      this.#current = { best: offset, from: now };
    } else if (offset > this.#current.best) {
      this.#current.best = offset;
    }
  }

  /** Milliseconds since 1970 at the server; `undefined` before anything arrived. */
  now(): number | undefined {
    if (!this.#current) return undefined;
    const best = Math.max(this.#current.best, this.#before ?? Number.NEGATIVE_INFINITY);
    return this.#elapsed() + best;
  }
}

/** How far a value may be trusted by its age alone. */
export type Freshness = 'fresh' | 'ageing' | 'old';

/** A detector counts as silent after so long, unless its data has another `silence_limit_ms`. */
const USUAL_SILENCE_MS = 180_000;

/** A value without a time is old, and so is one of a detector that is silent. One that sends once a minute is fresh all the time. */
export function freshnessOf(ageMs: number | null, silenceLimitMs: number = USUAL_SILENCE_MS): Freshness {
  if (ageMs === null || ageMs >= silenceLimitMs) return 'old';
  return ageMs >= silenceLimitMs / 2 ? 'ageing' : 'fresh';
}

/** A reading in a list: when the last message came, and when the reading was taken if that is longer ago. */
export interface ListedReading {
  lastSeen: string | null;
  reading_at?: string;
  silence_limit_ms?: number;
}

/** How old the reading is. A heartbeat makes no reading newer. */
export const readingAge = (row: ListedReading, now: number): number | null => ageOf(row.lastSeen === null ? null : (row.reading_at ?? row.lastSeen), now);

export const readingFreshness = (row: ListedReading, now: number): Freshness => freshnessOf(readingAge(row, now), row.silence_limit_ms);

/** The age of something that the server dated, at the server's time `now`. Never negative. */
export function ageOf(timestamp: string | null | undefined, now: number): number | null {
  const at = timestamp ? Date.parse(timestamp) : Number.NaN;
  return Number.isNaN(at) ? null : Math.max(0, now - at);
}
