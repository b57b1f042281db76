import { useEventListener, type MaybeElementRef } from '@vueuse/core';
import { watch, type Ref } from 'vue';

import type { Held } from '../heldOrder';

/** Nobody sees sooner what has come under a pointer. */
const SEEN_MS = 300;

/**
 * Refuses the press of a mouse that lies still on a row that has just come where another one was: it was meant for that one. Whoever moves the
 * mouse holds the order. `keyAt`: the key of the row that an element is in. `elapsed`: a clock that nobody sets.
 */
export function useSteadyPress(
  element: MaybeElementRef<HTMLElement | null>,
  rows: Readonly<Ref<readonly Held<unknown>[]>>,
  keyAt: (target: HTMLElement) => string | undefined,
  elapsed: () => number = () => performance.now(),
): void {
  // Bounded by the rows: what came longer ago is dropped with each change.
  let came = new Map<string, number>();
  let isRefused = false;
  watch(
    rows,
    (after, before) => {
      const now = elapsed();
      const fresh = new Map([...came].filter(([, at]) => now - at < SEEN_MS));
      after.forEach(({ key }, index) => {
        const old = before[index]?.key;
        if (old !== undefined && old !== key) fresh.set(key, now);
      });
      came = fresh;
    },
    // Before the press: the rows are drawn as soon as they have changed.
    { flush: 'sync' },
  );
  useEventListener(element, ['pointerenter', 'pointermove'], () => came.clear());
  useEventListener(
    element,
    'pointerdown',
    (event: PointerEvent) => {
      const key = keyAt(event.target as HTMLElement);
      const at = key === undefined ? undefined : came.get(key);
      isRefused = event.pointerType === 'mouse' && at !== undefined && elapsed() - at < SEEN_MS;
    },
    { capture: true },
  );
  useEventListener(
    element,
    'click',
    (event: MouseEvent) => {
      // A key presses a button, too, and has no place.
      if (!isRefused || event.detail === 0) return;
      isRefused = false;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    { capture: true },
  );
}
