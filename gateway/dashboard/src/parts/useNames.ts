import { computed, type ComputedRef, type ShallowRef } from 'vue';

import { useFleet, type FleetRow } from '../client';
import { sitesOf } from '../fleetView';

/** What operators call a device, and where it is. Everything on a screen names it the same. */
export function useNames(): {
  rows: Readonly<ShallowRef<readonly FleetRow[]>>;
  rowOf: (deviceId: string) => FleetRow | undefined;
  nameFor: (deviceId: string, ownName: string) => string;
  /** The detectors are at more than one site. */
  hasSites: ComputedRef<boolean>;
} {
  const { rows } = useFleet();
  const byId = computed(() => new Map(rows.value.map((row) => [row.deviceId, row])));
  const rowOf = (deviceId: string) => byId.value.get(deviceId);
  const hasSites = computed(() => sitesOf(rows.value).length > 1);
  return { rows, rowOf, hasSites, nameFor: (deviceId, ownName) => rowOf(deviceId)?.name || ownName || deviceId };
}
