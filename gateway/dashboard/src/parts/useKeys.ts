import { useEventListener } from '@vueuse/core';

/** Keys that count wherever the focus is, except in a field or while a dialog is open. */
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void>): void {
  useEventListener(document, 'keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target as HTMLElement;
    const isField = target.matches('input:not([type=checkbox]), select, textarea, summary') || target.isContentEditable;
    if (isField || document.querySelector('dialog[open]')) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) act(event);
  });
}
