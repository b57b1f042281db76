import { describe, expect, it } from 'vitest';

import type { FleetRow, OpenAlarm } from '../src/client';
import { CONDITIONS, conditionOfAlarm } from '../src/condition';
import { fleetItem, fleetView } from '../src/fleetView';
import { mapItems } from '../src/mapView';
import { UrgentAlarms, badgeOf, sortedNow } from '../src/urgency';
import { NOW, ago, alarm, row } from './listed';
import { seeded } from './random';

describe('the most urgent of what is open', () => {
  it('is gas that is there now, then other gas, then faults, and what is not known is never lower', () => {
    const rows = new Map(
      [row('steady', 1122), row('flapping', 20), row('silent', 20, { lastSeen: ago(100_000) }), row('faulty', null), row('done', 1122), row('small', 300), row('over', 20)].map((one) => [one.deviceId, one]),
    );
    const alarms = [
      alarm('faulty', 1, { type: 'sensor_fault', threshold: undefined, current_value: 0, peak_value: null } as Partial<OpenAlarm>),
      alarm('flapping', 2),
      alarm('over', 3, { type: 'over_range', threshold: 2000, current_value: 2100, peak_value: 2100 }),
      alarm('small', 1, { type: 'alarm_level_1', severity: 'warning', threshold: 250, current_value: 300, peak_value: 300 }),
      alarm('done', 1, { state: 'acknowledged' }),
      alarm('silent', 8),
      alarm('steady', 9),
    ];
    expect(sortedNow(alarms, (id) => rows.get(id), NOW).map(({ deviceId }) => deviceId)).toEqual(['silent', 'steady', 'flapping', 'over', 'faulty', 'done', 'small']);
  });

  it('is the same in the fleet', () => {
    const rows = [
      row('back', 20, { level: 'A3', alarms: 9 }),
      row('there', 1122, { level: 'A3' }),
      row('unreadable', null, { level: 'A3' }),
      row('low', 600, { level: 'A2' }),
    ];
    const query = { text: '', condition: '', gas: '', zone: '', site: '', sort: 'urgency' as const };
    expect(fleetView(rows, query, NOW).map((item) => item.row.deviceId)).toEqual(['there', 'unreadable', 'back', 'low']);
  });
});

describe('detectors in lists', () => {
  const query = { text: '', condition: '', gas: '', zone: '', site: '', sort: 'urgency' as const };
  const fleet = (rows: FleetRow[]) => fleetView(rows, query, NOW).map((item) => item.row.deviceId);

  it('have the order of their alarms: severity first, and gas that is there before what is back', () => {
    const rows = [
      row('normal', 20, { status: 'online', alarm_status: 'NORMAL', alarms: 0 }),
      row('a1', 300, { level: 'A1', status: 'warning' }),
      row('a1 silent', 300, { level: 'A1', status: 'warning', data_quality: 'offline' }),
      row('a1 and a fault', 300, { level: 'A1', status: 'critical' }),
      row('silent', null, { level: 'fault', status: 'offline', data_quality: 'offline' }),
      row('frozen', 20, { level: 'fault', status: 'warning' }),
      row('a2', 600, { level: 'A2', status: 'critical' }),
      row('a2 back', 20, { level: 'A2', status: 'critical' }),
      row('cannot measure', null, { level: 'fault', status: 'critical' }),
      row('a3 back', 20, { level: 'A3', status: 'critical' }),
      row('a3', 1122, { level: 'A3', status: 'critical' }),
    ];
    const order = ['a3', 'a3 back', 'a1 and a fault', 'cannot measure', 'a2', 'a2 back', 'a1 silent', 'frozen', 'silent', 'a1', 'normal'];
    expect(fleet(rows)).toEqual(order);
    expect(mapItems(rows, NOW).map(({ item }) => item.row.deviceId)).toEqual(order);
  });

  it('never have a state of no alarm before one with an alarm', () => {
    const levels = ['A1', 'A2', 'A3', 'fault'] as const;
    const calm = fleetItem(row('calm', 20, { status: 'online', alarm_status: 'NORMAL' }), NOW);
    expect(calm.condition).toBe('normal');
    for (const level of levels) {
      for (const reading of [null, 0, 20, 300, 600, 1122]) expect(fleetItem(row('x', reading, { level }), NOW).urgency).toBeLessThan(calm.urgency);
    }
  });

  it('have the same worst as the alarms, for one alarm each', () => {
    const next = seeded(20261128);
    const types = ['alarm_level_3', 'alarm_level_2', 'alarm_level_1'] as const;
    const [severities, levels, thresholds] = [['critical', 'high', 'warning'], ['A3', 'A2', 'A1'], [1000, 500, 250]] as const;
    for (let turn = 0; turn < 200; turn += 1) {
      const rows: FleetRow[] = [];
      const alarms: OpenAlarm[] = [];
      for (let index = 0; index < 8; index += 1) {
        const kind = Math.floor(next() * 3);
        const threshold = thresholds[kind] as number;
        rows.push(row(`d${index}`, next() * 1500, { level: levels[kind] ?? null, status: kind < 2 ? 'critical' : 'warning' }));
        alarms.push(alarm(`d${index}`, 1, { type: types[kind] ?? 'alarm_level_3', severity: severities[kind] ?? 'critical', threshold, current_value: threshold + 1, peak_value: threshold + 2 }));
      }
      const byId = new Map(rows.map((one) => [one.deviceId, one]));
      const sorted = sortedNow(alarms, (id) => byId.get(id), NOW).map(({ deviceId }) => deviceId);
      expect(sorted).toEqual(fleet(rows));
    }
  });
});

describe('the list of alarms, again and again', () => {
  const alarms = [alarm('a', 1), alarm('b', 2)];
  it('is the same until a reading crosses a level', () => {
    const urgent = new UrgentAlarms<OpenAlarm>();
    const readings: Record<string, number> = { a: 1100, b: 1100 };
    const look = (list: readonly OpenAlarm[] = alarms) => urgent.sorted(list, (id) => row(id, readings[id] ?? 0), NOW);
    const first = look();
    expect(first.map(({ deviceId }) => deviceId)).toEqual(['a', 'b']);
    readings.a = 1200;
    expect(look()).toBe(first);
    readings.a = 20;
    expect(look().map(({ deviceId }) => deviceId)).toEqual(['b', 'a']);
    // Another list of the same length.
    expect(look([alarm('c', 1), alarm('b', 2)]).map(({ deviceId }) => deviceId)).toEqual(['b', 'c']);
  });
});

describe('the badge', () => {
  const open = (more: Partial<OpenAlarm>) => alarm('a', 1, more);
  const known = open({ state: 'acknowledged' });
  it('counts what waits, in the colour of the worst of it, also if its reading is back', () => {
    expect(badgeOf([])).toBeNull();
    expect(badgeOf([open({ severity: 'warning' }), open({ severity: 'high' })])).toEqual({ count: 2, isWaiting: true, worst: 'high', worse: null });
    expect(badgeOf([open({ state: 'returned' }), open({ severity: 'high' })])?.worst).toBe('critical');
  });
  it('is never calm while something is open', () => {
    expect(badgeOf([known])).toEqual({ count: 1, isWaiting: false, worst: 'critical', worse: null });
    expect(badgeOf([known, open({ severity: 'warning' })])).toEqual({ count: 1, isWaiting: true, worst: 'warning', worse: 'critical' });
    expect(badgeOf([open({ severity: 'of a later release' as never }), open({ severity: 'warning' })])?.worst).toBe('of a later release');
  });
});

describe('what a mark shows of several', () => {
  it('is gas before anything else', () => {
    const gas = ['alarm_level_3', 'alarm_level_2', 'alarm_level_1', 'over_range'].map(conditionOfAlarm);
    const others = ['sensor_fault', 'device_offline', 'babbling', 'of a later release'].map(conditionOfAlarm);
    for (const one of gas) for (const other of others) expect(CONDITIONS.indexOf(one)).toBeLessThan(CONDITIONS.indexOf(other));
  });
});
