// Two rules by which a client misses nothing of a device. The events of one position arrive one by one, and the connection may
// be lost between them. `since` is the position from which the next subscription continues. `isNew` is called with every event,
// and returns whether the client did not have it yet. `answered` is called with every answer to a subscription.

const at = ({ epoch, seq }) => ({ epoch, seq });

// All events of a position but its last have `more`. So the newest position of which an event without `more` arrived is whole.
export class WholePositions {
  since = undefined;
  // The events after that position.
  #known = new Set();

  answered(answer) {
    this.#isWhole(at(answer));
  }

  isNew(name, body) {
    // A stale reading is repeated at its old position.
    if (body.stale) return true;
    if (body.skipped && !body.snapshot) this.#isWhole({ epoch: body.epoch, seq: body.seq - 1 });
    const event = `${body.epoch} ${body.seq} ${name}`;
    const isKnown = this.#known.has(event);
    if (!body.more) this.#isWhole(at(body));
    else if (!body.snapshot) this.#known.add(event);
    return Boolean(body.snapshot) || !isKnown;
  }

  #isWhole(position) {
    this.since = position;
    this.#known.clear();
  }
}

// The rule of clients that do not know `more`: only the position before the newest one is known to be whole, including the
// readings skipped before it. The newest position comes again.
export class BeforeNewest {
  since = undefined;
  #newest = undefined;
  // The events of the newest position. `null`: all.
  #names = null;

  answered(answer) {
    this.since = at(answer);
    this.#newest = at(answer);
    this.#names = null;
  }

  isNew(name, body) {
    if (body.stale) return true;
    const newest = this.#newest;
    // A recovery that broke off sent alarm changes up to the newest: the positions between them arrive for the first time.
    if (newest?.epoch === body.epoch && body.seq < newest.seq) return true;
    const isSame = newest?.epoch === body.epoch && newest.seq === body.seq;
    if (!isSame) {
      this.since = body.skipped ? { epoch: body.epoch, seq: body.seq - 1 } : newest;
      this.#newest = at(body);
      this.#names = new Set();
    }
    if (isSame && !body.snapshot && (this.#names === null || this.#names.has(name))) return false;
    this.#names?.add(name);
    return true;
  }
}
