// A list that is sent whole, in chunks, and then as changes of it. Until the last chunk has come, the list before is shown.
import type { Position } from './positions';

/** A part of such a list, as it is sent. An earlier release does not say where a list begins. */
export type Part<Sent extends { first: boolean }> = Omit<Sent, 'first'> & Partial<Pick<Sent, 'first'>>;

export class ChunkedList<T extends Position> {
  #items = new Map<string, T>();
  #coming: Map<string, T> | undefined;
  #isComplete = false;
  readonly #keyOf: (item: T) => string;

  constructor(keyOf: (item: T) => string) {
    this.#keyOf = keyOf;
  }

  /** Whether a whole list has arrived. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get size(): number {
    return this.#items.size;
  }

  get(key: string): T | undefined {
    return this.#items.get(key);
  }

  values(): T[] {
    return [...this.#items.values()];
  }

  /** A new subscription: what comes next is a whole list. */
  restart(): void {
    this.#coming = undefined;
  }

  /** Takes one chunk. Returns whether the list is whole now. `first`: a new list begins with it, also if the one before was not finished. */
  chunk(items: readonly T[], more: boolean, first = false): boolean {
    if (first) this.#coming = undefined;
    const coming = (this.#coming ??= new Map());
    for (const item of items) put(coming, this.#keyOf(item), item);
    if (more) return false;
    this.#items = coming;
    this.#coming = undefined;
    this.#isComplete = true;
    return true;
  }

  /** Takes changes. Returns the items that were not older than the known ones. */
  change(items: readonly T[]): T[] {
    const taken = items.filter((item) => put(this.#items, this.#keyOf(item), item));
    if (this.#coming) for (const item of items) put(this.#coming, this.#keyOf(item), item);
    return taken;
  }

  /** Removes an item, and returns it. */
  remove(key: string): T | undefined {
    const item = this.#items.get(key);
    this.#items.delete(key);
    this.#coming?.delete(key);
    return item;
  }
}

/** Never replaces an item by an older one. */
function put<T extends Position>(items: Map<string, T>, key: string, item: T): boolean {
  const known = items.get(key);
  if (known && known.epoch === item.epoch && known.seq > item.seq) return false;
  items.set(key, item);
  return true;
}
