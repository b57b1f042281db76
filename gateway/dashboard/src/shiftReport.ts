// What one shift hands over to the next: what was raised in its time, what became of it, and what is silent. Pure.
import { readingFreshness, severityRank, type AlarmLogRow, type FleetRow, type Severity } from './client';
import { conditionOf, type Condition } from './condition';

/** An alarm of the shift. The log has a row for each raise and for each level that it reached. */
export interface ShiftAlarm {
  id: string;
  /** Of the first of its rows that was read. */
  raisedAt: string;
  /** The most severe of its rows, and of these the one with the most dangerous value. */
  worst: AlarmLogRow;
  /** The newest of its rows: it says what became of the alarm. */
  last: AlarmLogRow;
  /** It was neither raised nor did it escalate in the time of the shift, but was acknowledged or ended in it. */
  isEarlier: boolean;
}

export interface ShiftCounts {
  /** Raised or escalated in the time of the shift. */
  total: number;
  /** Of these. */
  bySeverity: Record<Severity, number>;
  unacknowledged: number;
  ended: number;
  earlier: number;
  /** Some of the rows stand for several. */
  isFolded: boolean;
}

/** A detector that may hide anything. */
export interface SilentDetector {
  row: FleetRow;
  /** It may have become silent in an alarm. */
  condition: Condition;
}

/** The alarms of the shift that began at `from`, the newest first. The rows may reach further back. */
export function shiftAlarms(rows: readonly AlarmLogRow[], from: number): ShiftAlarm[] {
  const isIn = (time: string | null) => time !== null && Date.parse(time) >= from;
  const byId = new Map<string, ShiftAlarm>();
  for (const row of [...rows].sort((a, b) => a.timestamp.localeCompare(b.timestamp))) {
    const key = `${row.device_id} ${row.alarm_id}`;
    const known = byId.get(key);
    if (!known) byId.set(key, { id: key, raisedAt: row.timestamp, worst: row, last: row, isEarlier: !isIn(row.timestamp) });
    else {
      known.last = row;
      known.isEarlier &&= !isIn(row.timestamp);
      if (isWorse(row, known.worst)) known.worst = row;
    }
  }
  return [...byId.values()].filter(({ last, isEarlier }) => !isEarlier || isIn(last.acknowledged_at) || isIn(last.cleared_at)).reverse();
}

function isWorse(row: AlarmLogRow, than: AlarmLogRow): boolean {
  return severityRank(row.severity) < severityRank(than.severity) || (row.severity === than.severity && beyond(row) > beyond(than));
}

/** How far a value is beyond its level, on either side. */
const beyond = ({ current_value: value, threshold }: AlarmLogRow): number => (value === null || threshold === null ? -1 : Math.abs(value - threshold));

export function shiftCounts(alarms: readonly ShiftAlarm[]): ShiftCounts {
  const counts: ShiftCounts = { total: 0, bySeverity: { critical: 0, high: 0, warning: 0 }, unacknowledged: 0, ended: 0, earlier: 0, isFolded: false };
  for (const { worst, last, isEarlier } of alarms) {
    if (worst.folded || last.folded) counts.isFolded = true;
    if (isEarlier) {
      counts.earlier += 1;
      continue;
    }
    counts.total += 1;
    counts.bySeverity[worst.severity] += 1;
    if (!last.acknowledged) counts.unacknowledged += 1;
    if (last.cleared_at) counts.ended += 1;
  }
  return counts;
}

/** How many detectors are heard, and have no reading that can be used: they hide as much. */
export function unusableOf(rows: readonly FleetRow[], serverNow: number): number {
  const silent = new Set(silentOf(rows, serverNow).map(({ row }) => row));
  return rows.filter((row) => !silent.has(row) && (row.sensor_reading === null || row.data_quality === 'bad')).length;
}

/** Detectors that may hide anything, whatever they said last: the longest silent first. */
export function silentOf(rows: readonly FleetRow[], serverNow: number): SilentDetector[] {
  const isSilent = (row: FleetRow) =>
    row.offline || row.status === 'offline' || row.data_quality === 'offline' || readingFreshness(row, serverNow) === 'old';
  return rows
    .map((row) => ({ row, condition: conditionOf(row, serverNow) }))
    .filter(({ row, condition }) => condition === 'unknown' || isSilent(row))
    .sort((a, b) => (a.row.lastSeen ?? '').localeCompare(b.row.lastSeen ?? ''));
}
