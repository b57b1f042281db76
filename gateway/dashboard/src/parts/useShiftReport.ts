// Makes the report of a shift: of the lists as they are when it is made, and of the alarm log. Nothing on it moves afterwards.
import { computed, ref, shallowRef, type ComputedRef, type Ref, type ShallowRef } from 'vue';

import { RestError, isCurrent, labelOf, nameOf, placeOf, useAlarms, useFleet, useServerClock, useLinkState, type AlarmLogRow, type OpenAlarm, type Rest } from '../client';
import { sitesOf } from '../fleetView';
import { shiftAlarms, silentOf, unusableOf, type ShiftAlarm, type SilentDetector } from '../shiftReport';
import { texts } from '../texts';
import { sortedNow } from '../urgency';

const HOUR_MS = 60 * 60_000;
/** An alarm of so long before may have been acknowledged or have ended in the shift. */
export const EARLIER_HOURS = 24;
/** More rows than this are no report that anybody reads. */
export const ROWS = 2000;
const PAGE = 1000;

export interface ShiftReport {
  from: number;
  until: number;
  open: (OpenAlarm & { label: string })[];
  alarms: (ShiftAlarm & { name: string; place: string })[];
  silent: (SilentDetector & { place: string })[];
  /** Detectors that are heard without a usable reading. */
  unusable: number;
  detectors: number;
  /** There were more rows. */
  isCut: boolean;
  /** What the report was made of was current. */
  wasLive: boolean;
}

export function useShiftReport(
  rest: Pick<Rest, 'alarmLog'>,
  hours: () => number,
): {
  report: Readonly<ShallowRef<ShiftReport | null>>;
  /** The lists are there. Without them a report would say that nothing is open, and that nothing is silent. */
  isReady: ComputedRef<boolean>;
  failure: Readonly<Ref<string>>;
  /** Why there can be no report. */
  refused: ComputedRef<string>;
  isLoading: Readonly<Ref<boolean>>;
  make: () => Promise<void>;
} {
  const serverNow = useServerClock();
  const link = useLinkState();
  const { open, isComplete: hasAlarms, refusal: alarmsRefused } = useAlarms();
  const { rows: fleet, isComplete: hasFleet, refusal: fleetRefused } = useFleet();
  const report = shallowRef<ShiftReport | null>(null);
  const failure = ref('');
  const isLoading = ref(false);
  let run = 0;

  const refused = computed(() => {
    if (alarmsRefused.value) return texts.alarms.unavailable(alarmsRefused.value.message);
    return fleetRefused.value ? texts.fleet.unavailable(fleetRefused.value.message) : '';
  });
  const isReady = computed(() => hasAlarms.value && hasFleet.value && refused.value === '');

  async function make() {
    if (!isReady.value) return;
    run += 1;
    const mine = run;
    failure.value = '';
    isLoading.value = true;
    const until = serverNow();
    const from = until - hours() * HOUR_MS;
    const byId = new Map(fleet.value.map((row) => [row.deviceId, row]));
    const hasSites = sitesOf(fleet.value).length > 1;
    const made = {
      from,
      until,
      open: sortedNow(open.value, (id) => byId.get(id), until).map((alarm) => ({ ...alarm, label: labelOf({ ...alarm, name: nameOf(alarm) }, hasSites) })),
      silent: silentOf(fleet.value, until).map((one) => ({ ...one, place: placeOf(one.row, hasSites) })),
      unusable: unusableOf(fleet.value, until),
      detectors: fleet.value.length,
      wasLive: isCurrent(link.value),
    };
    try {
      const rows: AlarmLogRow[] = [];
      let before: string | undefined;
      do {
        const start = new Date(from - EARLIER_HOURS * HOUR_MS).toISOString();
        const page = await rest.alarmLog({ start_date: start, end_date: new Date(until).toISOString(), limit: PAGE, before });
        if (mine !== run) return;
        rows.push(...page.logs);
        before = page.next;
      } while (before && rows.length < ROWS);
      const alarms = shiftAlarms(rows, from).map((alarm) => {
        const { device_id: id, device_name: ownName } = alarm.worst;
        return { ...alarm, name: byId.get(id)?.name || ownName || id, place: placeOf(byId.get(id) ?? {}, hasSites) };
      });
      report.value = { ...made, alarms, isCut: before !== undefined };
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      if (mine === run) failure.value = texts.operation.failed(error.message);
    } finally {
      if (mine === run) isLoading.value = false;
    }
  }

  return { report, isReady, failure, refused, isLoading, make };
}
