import { onBeforeUpdate, onUpdated, type Ref } from 'vue';

/** An element of a list keeps the focus when the order changes: a browser takes it from whatever is moved in the page. */
export function useKeptFocus(list: Readonly<Ref<HTMLElement | null>>): void {
  let focused: HTMLElement | null = null;
  onBeforeUpdate(() => {
    const active = document.activeElement;
    focused = active instanceof HTMLElement && list.value?.contains(active) ? active : null;
  });
  onUpdated(() => {
    if (focused?.isConnected && document.activeElement === document.body) focused.focus({ preventScroll: true });
  });
}
