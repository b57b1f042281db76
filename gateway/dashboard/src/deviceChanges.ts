// What happened to the alarms of a detector: what is in the alarm log, and what arrived since. Pure.
import type { AlarmLogRow, DeviceView } from './client';
import { alarmType } from './format';
import { texts } from './texts';

export interface DeviceChange {
  key: string;
  at: string;
  what: string;
  /** What the alarm said, where it began: which setting changed, and from what to what. */
  message: string;
  who: string;
  note: string;
}

// A change that arrived here is said by itself; the log has what was before. It does not say which of its rows are raises.
const isRaise = (change: string) => change === 'raised' || change === 'escalated';
const keyOf = (at: string, type: string, change: string) => `${at} ${type} ${isRaise(change) ? 'raised' : change}`;

/** The newest first. */
export function deviceChanges(log: readonly AlarmLogRow[], changes: DeviceView['changes']): DeviceChange[] {
  const arrived = changes.map(({ alert, at }) => ({
    key: keyOf(at, alert.type, alert.change),
    at,
    what: `${alarmType(alert.type)}: ${texts.change[alert.change] ?? alert.change}`,
    message: isRaise(alert.change) ? alert.message : '',
    ...(alert.change === 'acknowledged' ? { who: alert.acknowledged_by ?? '', note: alert.acknowledged_note ?? '' } : { who: '', note: '' }),
  }));
  const before = log.flatMap((row) => {
    const type = row.alarm_type;
    const entry = (time: string, change: string, word: string, more: Partial<DeviceChange> = {}) => ({
      ...{ key: keyOf(time, type, change), at: time, what: `${alarmType(type)}: ${word}`, message: '', who: '', note: '' },
      ...more,
    });
    const { acknowledged_at: at, acknowledged_by: who, acknowledged_note: note, cleared_at: end } = row;
    return [
      entry(row.timestamp, 'raised', texts.device.raisedOrEscalated, { message: row.message }),
      ...(at ? [entry(at, 'acknowledged', texts.change.acknowledged, { who: who ?? '', note: note ?? '' })] : []),
      ...(end ? [entry(end, 'cleared', texts.change.cleared)] : []),
    ];
  });
  const known = new Map([...before, ...arrived].map((entry) => [entry.key, entry]));
  return [...known.values()].sort((a, b) => b.at.localeCompare(a.at));
}
