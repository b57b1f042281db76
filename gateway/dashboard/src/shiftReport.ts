// What one shift hands over to the next: what was raised in its time, what became of it, and what is silent. Pure.
import type { AlarmLogRow, FleetRow, Severity } from './client';
import { conditionOf } from './condition';

/** An alarm of the shift. The log has a row for each level that it reached. */
export interface ShiftAlarm {
  id: string;
  raisedAt: string;
  /** The most severe of its rows. */
  worst: AlarmLogRow;
  /** The newest of its rows: it says what became of the alarm. */
  last: AlarmLogRow;
}

export interface ShiftCounts {
  total: number;
  bySeverity: Record<Severity, number>;
  unacknowledged: number;
  ended: number;
}

const RANK: Record<Severity, number> = { warning: 0, high: 1, critical: 2 };

/** The alarms of these rows, the newest first. */
export function shiftAlarms(rows: readonly AlarmLogRow[]): ShiftAlarm[] {
  const byId = new Map<string, ShiftAlarm>();
  for (const row of [...rows].sort((a, b) => a.timestamp.localeCompare(b.timestamp))) {
    const key = `${row.device_id} ${row.alarm_id}`;
    const known = byId.get(key);
    if (!known) byId.set(key, { id: key, raisedAt: row.timestamp, worst: row, last: row });
    else {
      known.last = row;
      if (RANK[row.severity] >= RANK[known.worst.severity]) known.worst = row;
    }
  }
  return [...byId.values()].reverse();
}

export function shiftCounts(alarms: readonly ShiftAlarm[]): ShiftCounts {
  const counts: ShiftCounts = { total: alarms.length, bySeverity: { critical: 0, high: 0, warning: 0 }, unacknowledged: 0, ended: 0 };
  for (const { worst, last } of alarms) {
    counts.bySeverity[worst.severity] += 1;
    if (!last.acknowledged) counts.unacknowledged += 1;
    if (last.cleared_at) counts.ended += 1;
  }
  return counts;
}

/** Detectors that may hide anything, the longest silent first. */
export function silentOf(rows: readonly FleetRow[], serverNow: number): FleetRow[] {
  return rows.filter((row) => row.status === 'offline' || conditionOf(row, serverNow) === 'unknown').sort((a, b) => (a.lastSeen ?? '').localeCompare(b.lastSeen ?? ''));
}
