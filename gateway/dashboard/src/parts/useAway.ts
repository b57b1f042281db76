import { useNow } from '@vueuse/core';
import { computed, ref, watch, type ComputedRef } from 'vue';

import { isCurrent, useLinkState } from '../client';

/** A first connection may take so long. */
const PATIENCE_MS = 3000;

/** Whether what is shown is not current: `isAway` because of the link, `isFrozen` for whatever reason. */
export function useAway(): { isAway: ComputedRef<boolean>; isFrozen: ComputedRef<boolean> } {
  const link = useLinkState();
  const now = useNow({ interval: 500 });
  const wasLive = ref(false);
  watch(link, ({ phase }) => (wasLive.value ||= phase === 'live'), { immediate: true });
  const isAway = computed(() => {
    const { phase, since } = link.value;
    if (phase === 'live') return false;
    return (phase !== 'connecting' && phase !== 'catching') || wasLive.value || now.value.getTime() - since > PATIENCE_MS;
  });
  const isFrozen = computed(() => isAway.value || (link.value.phase === 'live' && !isCurrent(link.value)));
  return { isAway, isFrozen };
}
