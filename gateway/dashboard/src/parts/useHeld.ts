import { shallowRef, watch, type Ref } from 'vue';

import { heldOrder, type Held } from '../heldOrder';

interface Holding<T> {
  keyOf: (item: T) => string;
  isHeld: Readonly<Ref<boolean>>;
  /** What there is with this key, wanted or not. Without it, what is not wanted is gone. */
  current?: (key: string) => T | undefined;
  /** What somebody asks for, such as a filter. Whoever asks for something else gets it at once, wherever the pointer is. */
  question?: () => string;
}

/** Rows that do not move while `isHeld`. */
export function useHeld<T>(wanted: Readonly<Ref<readonly T[]>>, { keyOf, isHeld, current = () => undefined, question = () => '' }: Holding<T>): Readonly<Ref<readonly Held<T>[]>> {
  const rows = shallowRef<readonly Held<T>[]>([]);
  watch(
    [wanted, isHeld, question] as const,
    ([items, isHeldNow, asked], [, , askedBefore]) => {
      rows.value = heldOrder(rows.value, items, keyOf, isHeldNow && asked === askedBefore, current);
    },
    { immediate: true },
  );
  return rows;
}
