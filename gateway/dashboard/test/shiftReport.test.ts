import { describe, expect, it } from 'vitest';

import type { AlarmLogRow, FleetRow } from '../src/client';
import { shiftAlarms, shiftCounts, silentOf, unusableOf } from '../src/shiftReport';

const NOW = Date.parse('2026-11-26T10:00:00.000Z');
const row = (minute: number, more: Partial<AlarmLogRow> = {}) =>
  ({
    device_id: 'OTSM-1',
    alarm_id: 'a',
    timestamp: new Date(NOW + minute * 60_000).toISOString(),
    alarm_type: 'alarm_level_1',
    severity: 'warning',
    acknowledged: false,
    acknowledged_at: null,
    cleared_at: null,
    ...more,
  }) as AlarmLogRow;

describe('the report of a shift', () => {
  it('has each alarm once, with its highest level and what became of it', () => {
    const rows = [
      row(9, { alarm_id: 'b', cleared_at: row(10).timestamp }),
      row(6, { alarm_type: 'alarm_level_2', severity: 'high', acknowledged: true, acknowledged_by: 'Asha', acknowledged_note: 'Valve closed' }),
      row(3, { alarm_type: 'alarm_level_3', severity: 'critical' }),
      row(1),
      // Another detector has an alarm of the same id.
      row(2, { device_id: 'OTSM-2' }),
    ];
    const alarms = shiftAlarms(rows, NOW);
    expect(alarms.map(({ worst, raisedAt }) => [worst.device_id, worst.alarm_id, worst.alarm_type, raisedAt])).toEqual([
      ['OTSM-1', 'b', 'alarm_level_1', row(9).timestamp],
      ['OTSM-2', 'a', 'alarm_level_1', row(2).timestamp],
      ['OTSM-1', 'a', 'alarm_level_3', row(1).timestamp],
    ]);
    expect(alarms[2]?.last).toMatchObject({ acknowledged_by: 'Asha', acknowledged_note: 'Valve closed' });
    expect(shiftCounts(alarms)).toEqual({ total: 3, bySeverity: { critical: 1, high: 0, warning: 2 }, unacknowledged: 2, ended: 1, earlier: 0, isFolded: false });
    expect(shiftCounts([])).toMatchObject({ total: 0, unacknowledged: 0 });
  });

  it('has what was raised before and acknowledged or ended in it, and nothing else of before', () => {
    const rows = [
      row(-60, { alarm_id: 'acknowledged', acknowledged: true, acknowledged_at: row(5).timestamp, acknowledged_note: 'Valve closed' }),
      row(-50, { alarm_id: 'ended', cleared_at: row(6).timestamp }),
      row(-40, { alarm_id: 'over', acknowledged: true, acknowledged_at: row(-30).timestamp, cleared_at: row(-20).timestamp }),
      row(-30, { alarm_id: 'open' }),
      row(-20, { alarm_id: 'escalated' }),
      row(7, { alarm_id: 'escalated', severity: 'high' }),
    ];
    const alarms = shiftAlarms(rows, NOW);
    expect(alarms.map(({ worst, isEarlier }) => [worst.alarm_id, isEarlier]).sort()).toEqual([
      ['acknowledged', true],
      ['ended', true],
      ['escalated', false],
    ]);
    expect(shiftCounts(alarms)).toMatchObject({ total: 1, earlier: 2, unacknowledged: 1, ended: 0 });
  });

  it('has the most dangerous value of the highest level, and says when a row stands for several', () => {
    const level = { threshold: 1000, severity: 'critical' as const };
    const rows = [row(1, { ...level, current_value: 1900 }), row(2, { ...level, current_value: 1001 }), row(3, { severity: 'warning', threshold: 10, current_value: 5000 })];
    expect(shiftAlarms(rows, NOW)[0]?.worst.current_value).toBe(1900);
    const low = [row(1, { threshold: 18, current_value: 12 }), row(2, { threshold: 18, current_value: 17.9 })];
    expect(shiftAlarms(low, NOW)[0]?.worst.current_value).toBe(12);
    const folded = { rows: 9, transitions: 18, since: '', until: '' };
    expect(shiftCounts(shiftAlarms([row(1, { folded }), row(2)], NOW)).isFolded).toBe(true);
  });

  it('names every detector without data, the longest silent first, also one in alarm', () => {
    const device = (deviceId: string, more: Partial<FleetRow>) =>
      ({ deviceId, status: 'online', alarm_status: 'NORMAL', data_quality: 'good', lastSeen: new Date(NOW - 1000).toISOString(), level: null, ...more }) as FleetRow;
    const old = (minutes: number) => new Date(NOW - minutes * 60_000).toISOString();
    const rows = [
      device('fresh', {}),
      device('silent', { status: 'offline', lastSeen: old(20) }),
      // Of these the status is that of the alarm.
      device('silent in A3', { status: 'critical', level: 'A3', data_quality: 'offline', lastSeen: old(30) }),
      device('silent in A1', { status: 'warning', level: 'A1', offline: true, lastSeen: old(25) }),
      device('silent and faulty', { status: 'critical', level: 'fault', data_quality: 'offline', lastSeen: old(40) }),
      device('in A2', { status: 'critical', level: 'A2' }),
      // By its age, before the server says so.
      device('just silent', { status: 'critical', level: 'A2', lastSeen: old(4) }),
      device('never', { lastSeen: null }),
    ];
    expect(silentOf(rows, NOW).map(({ row: { deviceId }, condition }) => [deviceId, condition])).toEqual([
      ['never', 'unknown'],
      ['silent and faulty', 'fault'],
      ['silent in A3', 'a3'],
      ['silent in A1', 'a1'],
      ['silent', 'unknown'],
      ['just silent', 'a2'],
    ]);
  });

  it('counts a detector that is heard without a usable reading, and no silent one twice', () => {
    const device = (deviceId: string, more: Partial<FleetRow>) =>
      ({ deviceId, status: 'online', alarm_status: 'NORMAL', data_quality: 'good', sensor_reading: 1, lastSeen: new Date(NOW - 1000).toISOString(), level: null, ...more }) as FleetRow;
    const rows = [
      device('fine', {}),
      device('unreadable', { status: 'critical', level: 'fault', data_quality: 'bad', sensor_reading: null }),
      device('in A2, unreadable now', { status: 'critical', level: 'A2', data_quality: 'bad' }),
      device('silent', { status: 'offline', sensor_reading: null }),
    ];
    expect(unusableOf(rows, NOW)).toBe(2);
  });
});
