// Which detectors of the fleet are shown, and in which order.
import { freshnessOf, readingAge, type FleetRow } from './client';
import { conditionOf, type Condition } from './condition';
import { rowUrgency } from './urgency';

export interface FleetItem {
  row: FleetRow;
  condition: Condition;
  /** See `rowUrgency`. */
  urgency: number;
}

export const fleetItem = (row: FleetRow, serverNow: number): FleetItem => {
  const condition = conditionOf(row, serverNow);
  return { row, condition, urgency: rowUrgency(row, condition, serverNow) };
};

export type SortBy = 'urgency' | 'name' | 'id' | 'age';

/** The order that an address asks for. */
export const sortOf = (text: string): SortBy => (Object.hasOwn(COMPARE, text) ? (text as SortBy) : 'urgency');

export interface FleetQuery {
  text: string;
  condition: string;
  gas: string;
  zone: string;
  site: string;
  sort: SortBy;
}

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

export function fleetView(rows: readonly FleetRow[], query: FleetQuery, serverNow: number): FleetItem[] {
  const text = query.text.trim().toLowerCase();
  const items: FleetItem[] = [];
  for (const row of rows) {
    if (query.gas && row.gas_type !== query.gas) continue;
    if (query.zone && (row.zone ?? '') !== query.zone) continue;
    if (query.site && (row.site ?? '') !== query.site) continue;
    if (text && !contains(row, text)) continue;
    const item = fleetItem(row, serverNow);
    if (query.condition && item.condition !== query.condition) continue;
    items.push(item);
  }
  return items.sort(COMPARE[query.sort](serverNow));
}

function contains({ name, deviceId, gas_type: gas, zone, site }: FleetRow, text: string): boolean {
  return [name, deviceId, gas, zone ?? '', site ?? ''].some((part) => part.toLowerCase().includes(text));
}

const byName = (a: FleetItem, b: FleetItem) => collator.compare(a.row.name, b.row.name) || byId(a, b);
const byId = (a: FleetItem, b: FleetItem) => collator.compare(a.row.deviceId, b.row.deviceId);

/** The most urgent first: in every list of detectors. */
export const byUrgency = (a: FleetItem, b: FleetItem) => a.urgency - b.urgency || b.row.alarms - a.row.alarms || byId(a, b);

const COMPARE: Record<SortBy, (serverNow: number) => (a: FleetItem, b: FleetItem) => number> = {
  urgency: () => byUrgency,
  name: () => byName,
  id: () => byId,
  age: (serverNow) => (a, b) => {
    const age = ({ row }: FleetItem) => readingAge(row, serverNow) ?? Number.POSITIVE_INFINITY;
    return age(b) - age(a) || byId(a, b);
  },
};

/** The sites of these detectors, by name. */
export const sitesOf = (rows: readonly Pick<FleetRow, 'site'>[]): string[] => namesOf(rows.map(({ site }) => site));

/** The zones at this site; without one, those of all sites. */
export const zonesOf = (rows: readonly Pick<FleetRow, 'zone' | 'site'>[], atSite: string): string[] =>
  namesOf(rows.filter(({ site }) => atSite === '' || site === atSite).map(({ zone }) => zone));

const namesOf = (names: readonly (string | null | undefined)[]): string[] => [...new Set(names.map((name) => name ?? ''))].filter((name) => name !== '').sort(collator.compare);

/** How many detectors are in each state. */
export function countConditions(rows: readonly FleetRow[], serverNow: number): Map<Condition, number> {
  const counts = new Map<Condition, number>();
  for (const row of rows) {
    const condition = conditionOf(row, serverNow);
    counts.set(condition, (counts.get(condition) ?? 0) + 1);
  }
  return counts;
}

interface LastValues {
  seq: number;
  epoch: string;
  /** When it was last heard. */
  seen: number | null;
  values: (number | null)[];
}

/** The last readings of each detector, for the trend lines. Bounded: `POINTS` numbers per detector that is in the fleet. */
export class LastReadings {
  static readonly POINTS = 40;
  #points = new Map<string, LastValues>();

  take(rows: readonly FleetRow[]): void {
    const known = new Map<string, LastValues>();
    for (const { deviceId, epoch, seq, lastSeen, silence_limit_ms: limit, sensor_reading: value } of rows) {
      const last = this.#points.get(deviceId) ?? { seq: -1, epoch, seen: null, values: [] };
      if (last.seq !== seq || last.epoch !== epoch) {
        const at = lastSeen ? Date.parse(lastSeen) : null;
        // No line is drawn across a silence.
        const isGap = at !== null && last.seen !== null && freshnessOf(at - last.seen, limit) === 'old';
        last.values = [...last.values, ...(isGap ? [null] : []), value].slice(-LastReadings.POINTS);
        last.seen = at;
        last.seq = seq;
        last.epoch = epoch;
      }
      known.set(deviceId, last);
    }
    this.#points = known;
  }

  of(deviceId: string): readonly (number | null)[] {
    return this.#points.get(deviceId)?.values ?? [];
  }
}
