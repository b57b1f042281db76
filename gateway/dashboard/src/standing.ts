// Where the reading of a detector stands now against the level of an alarm. Pure. What is not known counts as dangerous.
import { ageOf, freshnessOf, type Alert, type FleetRow } from './client';
import { conditionOfAlarm, type Condition } from './condition';
import { AIR } from './levels';
import { texts } from './texts';

/** `back`: a usable reading of now is on the safe side of the level. `unknown`: there is none, or nobody can tell the side. */
export type Standing = 'beyond' | 'back' | 'unknown';

/** A reading of now, with the levels of its detector. */
export type Now = Pick<FleetRow, 'sensor_reading' | 'unit' | 'data_quality' | 'lastSeen' | 'a1_level' | 'a2_level' | 'a3_level' | 'span_high'>;

const LEVEL: Partial<Record<Condition, 'a1_level' | 'a2_level' | 'a3_level'>> = { a1: 'a1_level', a2: 'a2_level', a3: 'a3_level' };

/** Whether danger is below the level; `null` if the values of the alarm contradict each other. They lie beyond it, or on it. */
function sideOf({ peak_value: peak, current_value: value }: Alert, level: number, now: Now): boolean | null {
  const off = [peak, value].filter((one): one is number => one !== null && one !== level);
  if (off.length === 0) return lowSide(now);
  const isLow = off.map((one) => one < level);
  return isLow.every((one) => one === isLow[0]) ? (isLow[0] ?? null) : null;
}

/** The same by the order of the levels. Those of oxygen may be on both sides of air, and do not say which is which. */
function lowSide({ a1_level: a1, a2_level: a2, a3_level: a3, unit }: Now): boolean | null {
  const mayBeOxygen = !/ppm|lel/i.test(unit);
  if (mayBeOxygen && a1 < AIR && Math.max(a2, a3) > AIR) return null;
  if (a1 <= a2 && a2 <= a3 && a1 < a3) return false;
  return a1 >= a2 && a2 >= a3 && a1 > a3 ? true : null;
}

function standingAt(now: Now | undefined, level: number, isLow: boolean | null, serverNow: number): Standing {
  if (!now || isLow === null || now.sensor_reading === null || now.data_quality !== 'good') return 'unknown';
  if (freshnessOf(ageOf(now.lastSeen, serverNow)) !== 'fresh') return 'unknown';
  const isBack = isLow ? now.sensor_reading > level : now.sensor_reading < level;
  return isBack ? 'back' : 'beyond';
}

/** Of an alarm of gas. */
export function standingOf(alarm: Alert, now: Now | undefined, serverNow: number): Standing {
  const condition = conditionOfAlarm(alarm.type);
  const key = alarm.type === 'over_range' ? 'span_high' : LEVEL[condition];
  const { threshold } = alarm;
  // A level that was changed since, or is in another unit, cannot be compared.
  if (!now || key === undefined || threshold === undefined || now[key] !== threshold || now.unit !== alarm.unit) return 'unknown';
  return standingAt(now, threshold, sideOf(alarm, threshold, now), serverNow);
}

/** Of the highest level in which a detector is. */
export function standingOfRow(row: FleetRow, condition: Condition, serverNow: number): Standing {
  const key = LEVEL[condition];
  return key === undefined ? 'unknown' : standingAt(row, row[key], lowSide(row), serverNow);
}

/**
 * The most dangerous value since the alarm was raised. In the list of all alarms the peak may be late, where it grows without a transition:
 * a reading of now beyond it is a later peak.
 */
export function peakNow(alarm: Alert, now: Now | undefined): number | null {
  const { peak_value: peak, threshold, unit, raised_at: raisedAt } = alarm;
  if (peak === null || threshold === undefined || !now || now.unit !== unit || now.sensor_reading === null || now.data_quality !== 'good') return peak;
  if (now.lastSeen === null || Date.parse(now.lastSeen) < Date.parse(raisedAt)) return peak;
  const isLow = sideOf(alarm, threshold, now);
  if (isLow === null) return peak;
  return isLow ? Math.min(peak, now.sensor_reading) : Math.max(peak, now.sensor_reading);
}

/** Says that an open alarm stays although the reading is back, or nothing. A latched or returned one says so by its state. */
export function backWords(alarm: Alert, now: Now | undefined, serverNow: number): string {
  if (alarm.state !== 'unacknowledged' && alarm.state !== 'acknowledged') return '';
  if (standingOf(alarm, now, serverNow) !== 'back') return '';
  return texts.alarms.back(Number(now?.sensor_reading) < Number(alarm.threshold));
}
