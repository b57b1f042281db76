import { shallowRef, watch, type Ref } from 'vue';

import { heldOrder, type Held } from '../heldOrder';

/** Rows that do not move while `isHeld`. */
export function useHeld<T>(wanted: Readonly<Ref<readonly T[]>>, keyOf: (item: T) => string, isHeld: Readonly<Ref<boolean>>): Readonly<Ref<readonly Held<T>[]>> {
  const rows = shallowRef<readonly Held<T>[]>([]);
  watch(
    [wanted, isHeld],
    () => {
      rows.value = heldOrder(rows.value, wanted.value, keyOf, isHeld.value);
    },
    { immediate: true },
  );
  return rows;
}
