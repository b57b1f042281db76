// A list whose rows stay where they are while somebody points at it: what is new waits at the end, and what is gone stays as it was.

export interface Held<T> {
  key: string;
  item: T;
  isGone: boolean;
}

/** The rows in the wanted order or, if `isHeld`, in the order before. */
export function heldOrder<T>(before: readonly Held<T>[], wanted: readonly T[], keyOf: (item: T) => string, isHeld: boolean): Held<T>[] {
  const fresh = wanted.map((item) => ({ key: keyOf(item), item, isGone: false }));
  if (!isHeld) return fresh;
  const byKey = new Map(fresh.map((row) => [row.key, row]));
  const kept = before.map((row) => {
    const now = byKey.get(row.key);
    byKey.delete(row.key);
    return now ?? { ...row, isGone: true };
  });
  return [...kept, ...byKey.values()];
}
