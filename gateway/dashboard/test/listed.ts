// A detector and an alarm as the lists have them, for tests.
import type { FleetRow, OpenAlarm } from '../src/client';

export const NOW = Date.parse('2026-11-26T10:00:00.000Z');
export const ago = (ms: number) => new Date(NOW - ms).toISOString();
export const row = (deviceId: string, sensor_reading: number | null, more: Partial<FleetRow> = {}) =>
  ({ deviceId, name: deviceId, gas_type: 'CO', unit: 'ppm', sensor_reading, data_quality: 'good', lastSeen: ago(1000), span_high: 2000, a1_level: 250, a2_level: 500, a3_level: 1000, alarms: 1, level: null, zone: null, site: null, ...more }) as FleetRow;
export const alarm = (deviceId: string, minutes: number, more: Partial<OpenAlarm> = {}) =>
  ({ id: 'x', deviceId, type: 'alarm_level_3', severity: 'critical', state: 'unacknowledged', timestamp: ago(minutes * 60_000), threshold: 1000, current_value: 1100, peak_value: 1200, unit: 'ppm', ...more }) as OpenAlarm;
