import { describe, expect, it } from 'vitest';

import type { AlarmLogRow, FleetRow } from '../src/client';
import { shiftAlarms, shiftCounts, silentOf } from '../src/shiftReport';

const NOW = Date.parse('2026-11-26T10:00:00.000Z');
const row = (minute: number, more: Partial<AlarmLogRow> = {}) =>
  ({
    device_id: 'OTSM-1',
    alarm_id: 'a',
    timestamp: new Date(NOW + minute * 60_000).toISOString(),
    alarm_type: 'alarm_level_1',
    severity: 'warning',
    acknowledged: false,
    cleared_at: null,
    ...more,
  }) as AlarmLogRow;

describe('the report of a shift', () => {
  it('has each alarm once, with its highest level and what became of it', () => {
    const rows = [
      row(9, { alarm_id: 'b', cleared_at: 'then' }),
      row(6, { alarm_type: 'alarm_level_2', severity: 'high', acknowledged: true, acknowledged_by: 'Asha', acknowledged_note: 'Valve closed' }),
      row(3, { alarm_type: 'alarm_level_3', severity: 'critical' }),
      row(1),
      // Another detector has an alarm of the same id.
      row(2, { device_id: 'OTSM-2' }),
    ];
    const alarms = shiftAlarms(rows);
    expect(alarms.map(({ worst, raisedAt }) => [worst.device_id, worst.alarm_id, worst.alarm_type, raisedAt])).toEqual([
      ['OTSM-1', 'b', 'alarm_level_1', row(9).timestamp],
      ['OTSM-2', 'a', 'alarm_level_1', row(2).timestamp],
      ['OTSM-1', 'a', 'alarm_level_3', row(1).timestamp],
    ]);
    expect(alarms[2]?.last).toMatchObject({ acknowledged_by: 'Asha', acknowledged_note: 'Valve closed' });
    expect(shiftCounts(alarms)).toEqual({ total: 3, bySeverity: { critical: 1, high: 0, warning: 2 }, unacknowledged: 2, ended: 1 });
    expect(shiftCounts([])).toMatchObject({ total: 0, unacknowledged: 0 });
  });

  it('names every detector without data, the longest silent first, also one in alarm', () => {
    const device = (deviceId: string, more: Partial<FleetRow>) =>
      ({ deviceId, status: 'online', alarm_status: 'NORMAL', data_quality: 'good', lastSeen: new Date(NOW - 1000).toISOString(), level: null, ...more }) as FleetRow;
    const old = (minutes: number) => new Date(NOW - minutes * 60_000).toISOString();
    const rows = [
      device('fresh', {}),
      device('silent', { status: 'offline', lastSeen: old(20) }),
      device('silent in A3', { status: 'offline', level: 'A3', lastSeen: old(30) }),
      device('never', { lastSeen: null }),
    ];
    expect(silentOf(rows, NOW).map(({ deviceId }) => deviceId)).toEqual(['never', 'silent in A3', 'silent']);
  });
});
