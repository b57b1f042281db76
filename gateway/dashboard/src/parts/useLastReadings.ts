import { createSharedComposable } from '@vueuse/core';
import { shallowRef, triggerRef, watch, type ShallowRef } from 'vue';

import { useFleet } from '../client';
import { LastReadings } from '../fleetView';

/** The trend lines of the fleet. They go on while somebody uses it, whichever screen is shown. */
export const useLastReadings = createSharedComposable((): Readonly<ShallowRef<LastReadings>> => {
  const { rows, isComplete } = useFleet();
  const last = shallowRef(new LastReadings());
  watch(
    [rows, isComplete],
    () => {
      // While the list comes anew, what is not there yet is not gone.
      if (!isComplete.value) return;
      last.value.take(rows.value);
      triggerRef(last);
    },
    { immediate: true },
  );
  return last;
});
