import { createSharedComposable } from '@vueuse/core';
import { computed, type ComputedRef, type Ref, type ShallowRef } from 'vue';

import { useAlarms, useServerTime, type FleetRow, type OpenAlarm, type PastAlarm, type Refusal } from '../client';
import { UrgentAlarms } from '../urgency';
import { useNames } from './useNames';

export interface Urgent {
  /** The open alarms, the most urgent by what is true now first. */
  open: ComputedRef<readonly OpenAlarm[]>;
  past: Readonly<ShallowRef<readonly PastAlarm[]>>;
  isComplete: Readonly<Ref<boolean>>;
  refusal: Readonly<Ref<Refusal | null>>;
  rowOf: (deviceId: string) => FleetRow | undefined;
  hasSites: ComputedRef<boolean>;
}

/** One order of the alarms for the title, the badge, the sound and every list. Whoever uses it shares it: it is sorted once. */
export const useUrgent = createSharedComposable((): Urgent => {
  const { open, past, isComplete, refusal } = useAlarms();
  const { rowOf, hasSites } = useNames();
  const now = useServerTime();
  const urgent = new UrgentAlarms<OpenAlarm>();
  // What is known only by its age becomes old after a share of the silence limit, in seconds and not at once: it need not be looked at every second.
  const slowNow = computed(() => Math.floor(now.value / 5000) * 5000);
  return { open: computed(() => urgent.sorted(open.value, rowOf, slowNow.value)), past, isComplete, refusal, rowOf, hasSites };
});
