import { describe, expect, it } from 'vitest';

import { AlarmStore } from '../src/client/alarmStore';
import { FleetStore } from '../src/client/fleetStore';
import type { FleetRow, OpenAlarm } from '../src/client/events';
import { seeded } from './random';

const timestamp = '2026-11-26T10:00:00.000Z';
const row = (deviceId: string, seq = 1, more: Partial<FleetRow> = {}) => ({ deviceId, epoch: 'e', seq, ...more }) as FleetRow;
const alarm = (id: string, more: Partial<OpenAlarm> = {}) =>
  ({ id, deviceId: `d-${id}`, epoch: 'e', seq: 1, severity: 'warning', state: 'unacknowledged', timestamp, ...more }) as OpenAlarm;

describe('the fleet', () => {
  it('shows the list before until the last chunk has come', () => {
    const fleet = new FleetStore();
    fleet.snapshot({ devices: [row('a'), row('b')], more: false, timestamp });
    fleet.restart();
    expect(fleet.snapshot({ devices: [row('b')], more: true, timestamp })).toBe(false);
    expect(fleet.rows.map(({ deviceId }) => deviceId)).toEqual(['a', 'b']);
    expect(fleet.snapshot({ devices: [row('c')], more: false, timestamp })).toBe(true);
    expect(fleet.rows.map(({ deviceId }) => deviceId)).toEqual(['b', 'c']);
  });

  it('begins again if the connection broke within a snapshot', () => {
    const fleet = new FleetStore();
    fleet.snapshot({ devices: [row('gone')], more: true, timestamp });
    fleet.restart();
    fleet.snapshot({ devices: [row('a')], more: false, timestamp });
    expect(fleet.rows.map(({ deviceId }) => deviceId)).toEqual(['a']);
  });

  it('takes changes, and never an older row', () => {
    const fleet = new FleetStore();
    fleet.snapshot({ devices: [row('a', 5)], more: false, timestamp });
    fleet.changed({ devices: [row('a', 4, { name: 'old' }), row('b')], removed: [], timestamp });
    expect(fleet.get('a')?.name).toBeUndefined();
    // A device that went silent has the same position, and another quality.
    fleet.changed({ devices: [row('a', 5, { data_quality: 'offline' })], removed: ['b'], timestamp });
    expect(fleet.get('a')?.data_quality).toBe('offline');
    expect(fleet.get('b')).toBeUndefined();
    fleet.changed({ devices: [row('a', 1, { epoch: 'f' })], removed: [], timestamp });
    expect(fleet.get('a')?.epoch).toBe('f');
  });

  it('equals the server after any number of lost connections', () => {
    const random = seeded(7);
    const server = new Map<string, FleetRow>();
    const fleet = new FleetStore();
    let queue: (() => void)[] = [];
    let breaks = 0;
    const subscribe = () => {
      fleet.restart();
      const all = [...server.values()];
      queue = [];
      for (let at = 0; at === 0 || at < all.length; at += 7) {
        const devices = all.slice(at, at + 7);
        queue.push(() => fleet.snapshot({ devices, more: at + 7 < all.length, timestamp }));
      }
    };
    subscribe();
    for (let step = 0; step < 20_000; step += 1) {
      const id = `d${Math.floor(random() * 40)}`;
      const dice = random();
      if (dice < 0.3) {
        const next = row(id, step);
        server.set(id, next);
        queue.push(() => fleet.changed({ devices: [next], removed: [], timestamp }));
      } else if (dice < 0.35) {
        server.delete(id);
        queue.push(() => fleet.changed({ devices: [], removed: [id], timestamp }));
      } else if (dice < 0.85) queue.shift()?.();
      else {
        breaks += 1;
        subscribe();
      }
    }
    queue.forEach((take) => take());
    const bySerial = (a: FleetRow, b: FleetRow) => a.deviceId.localeCompare(b.deviceId);
    expect(fleet.rows.sort(bySerial)).toEqual([...server.values()].sort(bySerial));
    expect(breaks).toBeGreaterThan(2000);
  });
});

describe('the open alarms', () => {
  it('are sorted by urgency', () => {
    const alarms = new AlarmStore();
    const later = '2026-11-26T11:00:00.000Z';
    alarms.snapshot({
      alarms: [
        alarm('old warning'),
        alarm('acknowledged', { severity: 'critical', state: 'acknowledged' }),
        alarm('new warning', { timestamp: later }),
        alarm('critical', { severity: 'critical' }),
        alarm('high', { severity: 'high' }),
      ],
      more: false,
      timestamp,
    });
    expect(alarms.open.map(({ id }) => id)).toEqual(['critical', 'acknowledged', 'high', 'new warning', 'old warning']);
  });

  it('remember one that was raised and ended between two reads', () => {
    const alarms = new AlarmStore();
    alarms.snapshot({ alarms: [], more: false, timestamp });
    alarms.changed({ changed: [alarm('short')], ended: [{ id: 'short', deviceId: 'd-short', change: 'cleared', timestamp }], timestamp });
    expect(alarms.open).toEqual([]);
    expect(alarms.past.map((past) => past.alarm.id)).toEqual(['short']);
  });

  it('tell alarms of two devices with the same id apart', () => {
    const alarms = new AlarmStore();
    alarms.snapshot({ alarms: [alarm('x', { deviceId: 'a' }), alarm('x', { deviceId: 'b' })], more: false, timestamp });
    alarms.changed({ changed: [], ended: [{ id: 'x', deviceId: 'a', change: 'cleared', timestamp }], timestamp });
    expect(alarms.open.map(({ deviceId }) => deviceId)).toEqual(['b']);
  });
});
