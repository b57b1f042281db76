import { useEventListener } from '@vueuse/core';

import { useShortcuts } from '../stores/keys';

/** Keys that count wherever the focus is, except in a field or while a dialog is open. */
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void>): void {
  const shortcuts = useShortcuts();
  useEventListener(document, 'keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target as HTMLElement;
    const isField = target.matches('input:not([type=checkbox]), select, textarea, summary') || target.isContentEditable;
    if (isField || document.querySelector('dialog[open]')) return;
    // Space acts on the row that has the focus alone, as everywhere.
    if (event.key.length === 1 && event.key !== ' ' && !shortcuts.areOn) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) act(event);
  });
}
