import { describe, expect, it } from 'vitest';

import type { FleetRow, SitePlan } from '../src/client';
import { alarmsIn, groupsOf, isAlarm, isOnPlan, labelsOf, mapItems, markerOrder, placeOf, unseenAlarms, type Place } from '../src/mapView';
import { seeded } from './random';

const NOW = Date.parse('2026-11-26T10:00:00.000Z');
const row = (deviceId: string, latitude: number | string, longitude: number | string, more: Partial<FleetRow> = {}): FleetRow =>
  ({
    deviceId,
    name: deviceId,
    latitude,
    longitude,
    location: `${latitude}, ${longitude}`,
    status: 'online',
    alarm_status: 'NORMAL',
    data_quality: 'good',
    lastSeen: new Date(NOW - 1000).toISOString(),
    level: null,
    ...more,
  }) as FleetRow;
const placedOf = (rows: FleetRow[]) => markerOrder(mapItems(rows, NOW));
/** A degree is a thousand pixels. */
const pixels = ({ latitude, longitude }: Place) => ({ x: longitude * 1000, y: -latitude * 1000 });

describe('the place of a detector', () => {
  it('is what the server takes for one', () => {
    expect(placeOf(row('a', '18.52', '73.85'))).toEqual({ latitude: 18.52, longitude: 73.85 });
    expect(placeOf(row('a', 18.52, -73.85))).toEqual({ latitude: 18.52, longitude: -73.85 });
    expect(placeOf(row('a', '0.00', '0.00', { location: '' }))).toBeNull();
    expect(placeOf(row('a', 'north', '73.85'))).toBeNull();
  });

  it('is on a plan up to its edges', () => {
    const plan = { south: 18, west: 73, north: 19, east: 74 } as SitePlan;
    expect(isOnPlan(plan, { latitude: 18, longitude: 74 })).toBe(true);
    expect(isOnPlan(plan, { latitude: 19.001, longitude: 73.5 })).toBe(false);
    expect(isOnPlan(plan, { latitude: 18.5, longitude: 72.9 })).toBe(false);
  });
});

describe('detectors that are close to each other', () => {
  it('are one marker, where the worst of them is, and it shows the worst', () => {
    const rows = [row('a', 18.5, 73.8), row('b', 18.501, 73.801, { level: 'A2' }), row('c', 18.5, 73.8, { lastSeen: null }), row('d', 19, 74)];
    const groups = groupsOf(placedOf(rows), pixels, 40);
    expect(groups.map(({ lead, items }) => [lead.condition, items.map(({ row: { deviceId } }) => deviceId)])).toEqual([
      ['a2', ['b', 'c', 'a']],
      ['normal', ['d']],
    ]);
    expect(groups[0]?.place).toEqual({ latitude: 18.501, longitude: 73.801 });
  });

  it('show gas at the lowest level before a fault or silence, and how many are in alarm', () => {
    const rows = [
      row('a', 18.5, 73.8, { level: 'fault' }),
      row('b', 18.5, 73.8, { level: 'A1' }),
      row('c', 18.5, 73.8, { lastSeen: null }),
      row('d', 18.5, 73.8, { level: 'A1' }),
      row('e', 18.5, 73.8),
    ];
    const [group] = groupsOf(placedOf(rows), pixels, 40);
    expect(group?.items.map(({ row: { deviceId } }) => deviceId)).toEqual(['b', 'd', 'a', 'c', 'e']);
    expect(group && alarmsIn(group)).toBe(2);
  });

  it('are apart again when the map comes closer', () => {
    const rows = [row('a', 18.5, 73.8), row('b', 18.501, 73.801)];
    expect(groupsOf(placedOf(rows), pixels, 40)).toHaveLength(1);
    expect(groupsOf(placedOf(rows), (place) => ({ x: pixels(place).x * 64, y: pixels(place).y * 64 }), 40)).toHaveLength(2);
  });

  it('never hide one that is more urgent, and none is lost, however they lie', () => {
    const next = seeded(20261126);
    const levels = ['A1', 'A2', 'A3', 'fault', null, null, null] as const;
    const rows = Array.from({ length: 2000 }, (_, index) => row(`d${index}`, 18 + next(), 73 + next(), { level: levels[Math.floor(next() * levels.length)] ?? null }));
    const items = placedOf(rows);
    const groups = groupsOf(items, pixels, 40);
    const all = groups.flatMap((group) => group.items.map(({ row: { deviceId } }) => deviceId));
    expect([...all].sort()).toEqual(rows.map(({ deviceId }) => deviceId).sort());
    const rank = new Map(items.map(({ item }, index) => [item.row.deviceId, index]));
    for (const { lead, items: inside } of groups) {
      const first = Math.min(...inside.map(({ row: { deviceId } }) => rank.get(deviceId) as number));
      expect(lead.row.deviceId).toBe(items[first]?.item.row.deviceId);
      expect(isAlarm(lead.condition), 'an alarm in it leads it').toBe(inside.some(({ condition }) => isAlarm(condition)));
    }
    // No two markers are on top of each other.
    for (const [index, one] of groups.entries()) {
      for (const other of groups.slice(index + 1)) {
        const [a, b] = [pixels(one.place), pixels(other.place)];
        expect(Math.hypot(a.x - b.x, a.y - b.y)).toBeGreaterThanOrEqual(40);
      }
    }
  });
});

describe('an alarm that nobody sees on the map', () => {
  const rows = [
    row('seen', 18.5, 73.8, { level: 'A2' }),
    row('beside it', 18.5, 73.8, { level: 'A1' }),
    row('outside', 19.5, 73.8, { level: 'A1' }),
    row('nowhere', '', '', { location: '', level: 'A3' }),
    row('faulty', 19.5, 74, { level: 'fault' }),
  ];

  it('is said beside it, with or without a place', () => {
    const all = mapItems(rows, NOW);
    const groups = groupsOf(placedOf(rows), pixels, 40);
    const seen = groups.filter(({ place }) => place.latitude < 19);
    const ids = unseenAlarms(all, seen).map(({ row: { deviceId } }) => deviceId);
    expect(ids).toEqual(['nowhere', 'outside']);
    // Nothing is drawn yet.
    expect(unseenAlarms(all, [])).toHaveLength(4);
  });
});

describe('the labels of markers', () => {
  const frame = { left: 0, top: 0, width: 1000, height: 600 };
  const at = (deviceId: string, x: number, y: number, more: Partial<FleetRow> = { level: 'A3' }) => {
    const [placed] = placedOf([row(deviceId, 1, 1, more)]);
    if (!placed) throw new Error('it has a place');
    return { group: { lead: placed.item, place: placed.place, items: [placed.item] }, at: { x, y } };
  };
  const shown = (labels: ReturnType<typeof labelsOf>) => [...labels].filter(([, label]) => label.isShown).map(([id]) => id);

  it('cover none of a more urgent one', () => {
    const labels = labelsOf([at('worst', 500, 300), at('beside', 560, 310, { level: 'A2' }), at('far', 800, 300, { level: 'A1' }), at('fault', 100, 100, { level: 'fault' })], frame);
    expect(shown(labels)).toEqual(['worst', 'far']);
    expect([...labels.keys()]).toEqual(['worst', 'beside', 'far']);
  });

  it('stay in the frame', () => {
    const labels = labelsOf([at('west', 5, 100), at('east', 995, 100), at('south', 500, 590), at('outside', 1100, 300)], frame);
    expect(labels.get('west')?.aside).toBeGreaterThan(0);
    expect(labels.get('east')?.aside).toBe(-Number(labels.get('west')?.aside));
    expect(labels.get('south')).toMatchObject({ aside: 0, isAbove: true, isShown: true });
    expect(labels.get('outside')?.isShown).toBe(false);
  });

  it('are one in a narrow frame', () => {
    expect(shown(labelsOf([at('worst', 100, 100), at('next', 100, 400)], { ...frame, width: 340 }))).toEqual(['worst']);
  });
});

describe('alarms that are not seen', () => {
  it('are said, and critical faults too', () => {
    const all = mapItems([row('gas', 1, 1, { level: 'A1' }), row('broken', 1, 1, { level: 'fault', status: 'critical' }), row('frozen', 1, 1, { level: 'fault', status: 'warning' })], NOW);
    expect(unseenAlarms(all, []).map(({ row: { deviceId } }) => deviceId)).toEqual(['gas', 'broken']);
  });
});
