// What is the most urgent: of alarms, and of detectors. Every list, the title, and the badge ask here. Pure.
//
// First the severity; then, of alarms, whether somebody acknowledged it; then gas that is there now, or of which nobody knows that it is
// gone, other gas by its level, and the rest. Which of several things one mark shows is another question (`condition.ts`).
import { byUrgency, isAcknowledged, readingFreshness, severityRank, type Alert, type FleetRow, type Severity } from './client';
import { conditionOfAlarm, isGas, urgencyOf, type Condition } from './condition';
import { standingOf, standingOfRow, type Now, type Standing } from './standing';

const BACK_RANK: Partial<Record<Condition, number>> = { a3: 1, a2: 2, a1: 3 };
const REST = 4;
const RANKS = REST + 1;

const rankOf = (condition: Condition, standing: Standing): number => (standing === 'back' ? (BACK_RANK[condition] ?? 3) : 0);

function rankNow(alarm: Alert, now: Now | undefined, serverNow: number): number {
  const condition = conditionOfAlarm(alarm.type);
  return isGas(condition) ? rankOf(condition, standingOf(alarm, now, serverNow)) : REST;
}

/** An alarm of one detector, or of any. */
type Listed = Alert & { deviceId?: string };

/** The open alarms, the most urgent by what is true now first. */
export const sortedNow = <T extends Listed>(alarms: readonly T[], rowOf: (deviceId: string) => Now | undefined, serverNow: number): T[] =>
  new UrgentAlarms<T>().sorted(alarms, rowOf, serverNow);

/** The same, again and again: as long as no reading crosses a level it is the same list, and nothing is sorted. */
export class UrgentAlarms<T extends Listed> {
  #alarms: readonly T[] | undefined;
  #ranks: number[] = [];
  #sorted: T[] = [];

  sorted(alarms: readonly T[], rowOf: (deviceId: string) => Now | undefined, serverNow: number): T[] {
    const ranks = alarms.map((alarm) => rankNow(alarm, rowOf(alarm.deviceId ?? ''), serverNow));
    if (alarms === this.#alarms && ranks.every((rank, index) => rank === this.#ranks[index])) return this.#sorted;
    const byAlarm = new Map(alarms.map((alarm, index) => [alarm, ranks[index] ?? 0]));
    this.#sorted = [...alarms].sort((a, b) => byUrgency(a, b, (alarm) => byAlarm.get(alarm) ?? 0));
    this.#alarms = alarms;
    this.#ranks = ranks;
    return this.#sorted;
  }
}

/** The severity of the alarm that a state stands for. */
const SEVERITY: Record<Condition, Severity | null> = {
  a3: 'critical',
  critical: 'critical',
  fault: 'high',
  a2: 'high',
  unknown: 'high',
  a1: 'warning',
  warning: 'warning',
  normal: null,
};
const NORMAL_RANK = 3;

/** Of its worst alarm, as far as its row says. The state of a detector is its gas first, and a lower level may stand beside something worse. */
function severityOfRow(row: FleetRow, condition: Condition, serverNow: number): Severity | null {
  const severity = SEVERITY[condition];
  if (severity === null || severityRank(severity) === 0) return severity;
  // It cannot measure. With gas at A2 the status is critical anyway.
  if (row.status === 'critical' && condition !== 'a2') return 'critical';
  const isSilent = row.data_quality === 'offline' || readingFreshness(row, serverNow) === 'old';
  return isSilent ? 'high' : severity;
}

/** How urgent a detector is: a lower number comes first. It is the order of the alarms that it has. */
export function rowUrgency(row: FleetRow, condition: Condition, serverNow: number): number {
  const severity = severityOfRow(row, condition, serverNow);
  const isOfGas = isGas(condition) && severity === SEVERITY[condition];
  const rank = isOfGas ? rankOf(condition, standingOfRow(row, condition, serverNow)) : REST;
  return ((severity === null ? NORMAL_RANK : severityRank(severity)) * RANKS + rank) * 10 + urgencyOf(condition);
}

/** What the badge says of the open alarms. */
export interface AlarmBadge {
  /** Those that wait for an acknowledgement; if there are none, all that are open. */
  count: number;
  isWaiting: boolean;
  /** Of those that are counted, by severity: that a reading is back calms nothing that was not acknowledged. */
  worst: Severity;
  /** An acknowledged alarm that is open is worse than those that are counted. */
  worse: Severity | null;
}

/**
 * The colour is that of the worst that nobody has acknowledged. With the worst of all it would not change when something new comes beside
 * what is known; without the others it would be calm while gas is there. `null`: nothing is open.
 */
export function badgeOf(open: readonly Alert[]): AlarmBadge | null {
  const waiting = open.filter((alarm) => !isAcknowledged(alarm));
  const counted = waiting.length > 0 ? waiting : open;
  const [worst, ofAll] = [worstSeverity(counted), worstSeverity(open)];
  if (worst === null || ofAll === null) return null;
  return { count: counted.length, isWaiting: waiting.length > 0, worst, worse: severityRank(ofAll) < severityRank(worst) ? ofAll : null };
}

const worstSeverity = (alarms: readonly Alert[]): Severity | null =>
  alarms.reduce<Severity | null>((worst, { severity }) => (worst === null || severityRank(severity) < severityRank(worst) ? severity : worst), null);
