// One word for the state of a detector, and which of several a mark shows. In which order lists have them: `urgency.ts`.
import { readingFreshness, type FleetRow, type ListedReading } from './client';

export type Condition = 'a3' | 'critical' | 'a2' | 'fault' | 'a1' | 'warning' | 'unknown' | 'normal';

// Gas first, whatever its level: neither a fault nor silence hides it. A detector that tells nothing may hide anything.
export const CONDITIONS: readonly Condition[] = ['a3', 'critical', 'a2', 'a1', 'fault', 'unknown', 'warning', 'normal'];

const URGENCY = new Map(CONDITIONS.map((condition, index) => [condition, index]));

export const urgencyOf = (condition: Condition): number => URGENCY.get(condition) ?? 0;

const GAS: readonly Condition[] = ['a3', 'critical', 'a2', 'a1'];

/** Whether it stands for gas. */
export const isGas = (condition: Condition): boolean => GAS.includes(condition);

type Judged = ListedReading & Pick<FleetRow, 'level' | 'status' | 'alarm_status' | 'data_quality'>;

/** A detector is normal only if everything says so. What is not known is never normal. */
export function conditionOf(row: Judged, serverNow: number): Condition {
  switch (row.level) {
    case 'A3':
      return 'a3';
    case 'A2':
      return 'a2';
    case 'A1':
      return 'a1';
    case 'fault':
      // That it is silent is such an alarm too.
      return row.status === 'offline' ? 'unknown' : 'fault';
  }
  if (row.status === 'critical') return 'critical';
  if (row.status === 'offline' || row.data_quality === 'offline') return 'unknown';
  if (row.status === 'warning') return 'warning';
  const isFresh = readingFreshness(row, serverNow) !== 'old';
  const isNormal = row.status === 'online' && row.alarm_status === 'NORMAL' && row.data_quality === 'good';
  return isNormal && isFresh ? 'normal' : 'unknown';
}

/** What is shown of these, if one is. */
export const worstOf = (conditions: readonly Condition[]): Condition =>
  [...conditions].sort((a, b) => urgencyOf(a) - urgencyOf(b))[0] ?? 'unknown';

/** The condition that the type of an alarm stands for. */
export function conditionOfAlarm(type: string): Condition {
  switch (type) {
    case 'alarm_level_3':
    case 'over_range':
      return 'a3';
    case 'alarm_level_2':
      return 'a2';
    case 'alarm_level_1':
      return 'a1';
    case 'sensor_fault':
    case 'reading_invalid':
    case 'under_range':
      return 'fault';
    case 'device_offline':
    case 'reading_frozen':
      return 'unknown';
    default:
      return 'warning';
  }
}
