import { computed, type ShallowRef } from 'vue';

import { useFleet, type FleetRow } from '../client';

/** What operators call a device, and where it is. Everything on a screen names it the same. */
export function useNames(): {
  rows: Readonly<ShallowRef<readonly FleetRow[]>>;
  rowOf: (deviceId: string) => FleetRow | undefined;
  nameFor: (deviceId: string, ownName: string) => string;
} {
  const { rows } = useFleet();
  const byId = computed(() => new Map(rows.value.map((row) => [row.deviceId, row])));
  const rowOf = (deviceId: string) => byId.value.get(deviceId);
  return { rows, rowOf, nameFor: (deviceId, ownName) => rowOf(deviceId)?.name || ownName || deviceId };
}
