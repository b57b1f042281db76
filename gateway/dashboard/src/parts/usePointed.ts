import { useEventListener, useTimeoutFn, type MaybeElementRef } from '@vueuse/core';
import { ref, type Ref } from 'vue';

/** A pointer that lies still for so long aims at nothing. */
const STILL_MS = 15_000;

/** Whether somebody aims at something in an element with a mouse. A finger hits what it touches at once. */
export function usePointed(element: MaybeElementRef<HTMLElement | null>): Readonly<Ref<boolean>> {
  const isPointed = ref(false);
  const release = useTimeoutFn(() => (isPointed.value = false), STILL_MS, { immediate: false });
  useEventListener(element, ['pointerenter', 'pointermove', 'pointerdown'], (event: PointerEvent) => {
    if (event.pointerType !== 'mouse') return;
    isPointed.value = true;
    release.start();
  });
  useEventListener(element, 'pointerleave', () => {
    isPointed.value = false;
    release.stop();
  });
  return isPointed;
}
