// By which a client misses nothing of a device and takes nothing twice. The events of one position arrive one by one, and the
// connection may be lost between them: all but the last have `more`.

export interface Position {
  epoch: string;
  seq: number;
}

/** What every event of a device has. */
export interface Positioned extends Position {
  more?: boolean;
  skipped?: number;
  snapshot?: boolean;
  stale?: boolean;
}

export class WholePositions {
  #since: Position | undefined;
  // The events that came after that position. The server stores at most 264 events of a device, so there are not more.
  readonly #known = new Set<string>();

  /** The position from which the next subscription continues. */
  get since(): Position | undefined {
    return this.#since;
  }

  /** A subscription was answered: everything up to this position has arrived. */
  answered(position: { epoch?: string; seq: number }): void {
    if (position.epoch !== undefined) this.#isWhole({ epoch: position.epoch, seq: position.seq });
  }

  /** Returns whether this event was not taken yet. Must be called with every event, in the order of arrival. */
  isNew(name: string, body: Positioned): boolean {
    // A stale reading repeats an old position.
    if (body.stale) return true;
    const { epoch, seq } = body;
    if (body.snapshot) {
      if (!body.more) this.#isWhole({ epoch, seq });
      return true;
    }
    // Everything up to a whole position was taken. It comes again if a tab subscribes while it is subscribed.
    if (this.#since?.epoch === epoch && seq <= this.#since.seq) return false;
    // The readings left out before this one are no longer needed.
    if (body.skipped) this.#isWhole({ epoch, seq: seq - 1 });
    const event = `${epoch} ${seq} ${name}`;
    const isKnown = this.#known.has(event);
    if (body.more) this.#known.add(event);
    else this.#isWhole({ epoch, seq });
    return !isKnown;
  }

  #isWhole(position: Position): void {
    this.#since = position;
    this.#known.clear();
  }
}
