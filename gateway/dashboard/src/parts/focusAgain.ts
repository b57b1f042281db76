import { nextTick, toValue, type MaybeRefOrGetter } from 'vue';

/**
 * After something was done, the control that did it is perhaps gone, or goes when the server has said so. Whoever uses the keyboard would be
 * at the beginning of the page: the focus goes to where it was, if it is nowhere or inside of that.
 */
export async function focusAgain(place: MaybeRefOrGetter<HTMLElement | null | undefined>): Promise<void> {
  await nextTick();
  const [element, active] = [toValue(place), document.activeElement];
  if (element && (!active || active === document.body || element.contains(active))) element.focus({ preventScroll: true });
}
