// Where the reading of a detector stands now against the level of an alarm. Pure. What is not known counts as dangerous.
import { readingFreshness, type Alert, type FleetRow, type ListedReading } from './client';
import { conditionOfAlarm, type Condition } from './condition';
import { lowSidesOf } from './levels';
import { texts } from './texts';

/** `back`: a usable reading of now is on the safe side of the level. `unknown`: there is none, or nobody can tell the side. */
export type Standing = 'beyond' | 'back' | 'unknown';

/** A reading of now, with the levels of its detector. */
export type Now = ListedReading & Pick<FleetRow, 'sensor_reading' | 'unit' | 'data_quality' | 'a1_level' | 'a2_level' | 'a3_level' | 'span_high' | 'level_sides'>;

const LEVEL: Partial<Record<Condition, 'a1_level' | 'a2_level' | 'a3_level'>> = { a1: 'a1_level', a2: 'a2_level', a3: 'a3_level' };
const INDEX = { a1_level: 0, a2_level: 1, a3_level: 2 };

/** Whether danger is below this level of the detector; `null` if it is not used. */
const isLowAt = (now: Now, key: keyof typeof INDEX | 'span_high'): boolean | null => (key === 'span_high' ? false : (lowSidesOf(now)[INDEX[key]] ?? null));

/** The same for an alarm; `null` too if its values lie on the other side: then the side was changed since. */
function sideOf({ peak_value: peak, current_value: value }: Alert, level: number, isLow: boolean | null): boolean | null {
  const isOther = [peak, value].some((one) => one !== null && one !== level && one < level !== isLow);
  return isOther ? null : isLow;
}

function standingAt(now: Now | undefined, level: number, isLow: boolean | null, serverNow: number): Standing {
  if (!now || isLow === null || now.sensor_reading === null || now.data_quality !== 'good') return 'unknown';
  if (readingFreshness(now, serverNow) !== 'fresh') return 'unknown';
  const isBack = isLow ? now.sensor_reading > level : now.sensor_reading < level;
  return isBack ? 'back' : 'beyond';
}

/** The level of an alarm of gas. */
const levelOf = ({ type }: Alert) => (type === 'over_range' ? 'span_high' : LEVEL[conditionOfAlarm(type)]);

/** Of an alarm of gas. */
export function standingOf(alarm: Alert, now: Now | undefined, serverNow: number): Standing {
  const key = levelOf(alarm);
  const { threshold } = alarm;
  // A level that was changed since, or is in another unit, cannot be compared.
  if (!now || key === undefined || threshold === undefined || now[key] !== threshold || now.unit !== alarm.unit) return 'unknown';
  return standingAt(now, threshold, sideOf(alarm, threshold, isLowAt(now, key)), serverNow);
}

/** Of the highest level in which a detector is. */
export function standingOfRow(row: FleetRow, condition: Condition, serverNow: number): Standing {
  const key = LEVEL[condition];
  return key === undefined ? 'unknown' : standingAt(row, row[key], isLowAt(row, key), serverNow);
}

/**
 * The most dangerous value since the alarm was raised. In the list of all alarms the peak may be late, where it grows without a transition:
 * a reading of now beyond it is a later peak.
 */
export function peakNow(alarm: Alert, now: Now | undefined): number | null {
  const { peak_value: peak, threshold, unit, raised_at: raisedAt } = alarm;
  const key = levelOf(alarm);
  if (peak === null || threshold === undefined || !now || key === undefined || now.unit !== unit || now.sensor_reading === null || now.data_quality !== 'good') return peak;
  if (now.lastSeen === null || Date.parse(now.reading_at ?? now.lastSeen) < Date.parse(raisedAt)) return peak;
  const isLow = sideOf(alarm, threshold, isLowAt(now, key));
  if (isLow === null) return peak;
  return isLow ? Math.min(peak, now.sensor_reading) : Math.max(peak, now.sensor_reading);
}

/** Says that an open alarm stays although the reading is back, or nothing. A latched or returned one says so by its state. */
export function backWords(alarm: Alert, now: Now | undefined, serverNow: number): string {
  if (alarm.state !== 'unacknowledged' && alarm.state !== 'acknowledged') return '';
  if (standingOf(alarm, now, serverNow) !== 'back') return '';
  return texts.alarms.back(Number(now?.sensor_reading) < Number(alarm.threshold));
}
