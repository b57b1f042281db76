// A list whose rows stay where they are while somebody points at it: what is new waits at the end, and what is gone stays as it was.
// What is only not wanted any more is not gone: it is shown as it is now.

export interface Held<T> {
  key: string;
  item: T;
  isGone: boolean;
}

/** The rows in the wanted order or, if `isHeld`, in the order before. `current`: what there is with this key, wanted or not. */
export function heldOrder<T>(
  before: readonly Held<T>[],
  wanted: readonly T[],
  keyOf: (item: T) => string,
  isHeld: boolean,
  current: (key: string) => T | undefined,
): Held<T>[] {
  const fresh = wanted.map((item) => ({ key: keyOf(item), item, isGone: false }));
  if (!isHeld) return fresh;
  const byKey = new Map(fresh.map((row) => [row.key, row]));
  const kept = before.map((row) => {
    const now = byKey.get(row.key);
    byKey.delete(row.key);
    if (now) return now;
    const item = current(row.key);
    return item === undefined ? { ...row, isGone: true } : { ...row, item, isGone: false };
  });
  return [...kept, ...byKey.values()];
}
