import { effectScope, nextTick, ref, shallowRef } from 'vue';
import { describe, expect, it } from 'vitest';

import type { AlarmLogRow, Bucket, FleetRow, OpenAlarm, Reading } from '../src/client';
import { labelOf } from '../src/client/alarmStore';
import { conditionOf, worstOf } from '../src/condition';
import { csvOf } from '../src/csv';
import { LastReadings, fleetView, sortOf, sitesOf, zonesOf } from '../src/fleetView';
import { ago, alarmType, shortTime, since, span, withUnit } from '../src/format';
import { heldOrder } from '../src/heldOrder';
import { bandsOf, levelsOf } from '../src/levels';
import { useHeld } from '../src/parts/useHeld';
import { NewAlarms } from '../src/stores/newAlarms';
import { matches } from '../src/stores/session';
import { LIVE_POINTS, isolated, trendOfBuckets, trendOfSamples, withLive } from '../src/trend';
import { axisTimes, trendReadout, trendSummary } from '../src/trendTexts';
import { wordOf } from '../src/wordOf';

const NOW = Date.parse('2026-11-26T10:00:00.000Z');
const iso = (ms: number) => new Date(ms).toISOString();
const row = (more: Partial<FleetRow> = {}): FleetRow => ({
  offline: false,
  deviceId: 'OTSM-0001',
  id: 'OTSM-0001',
  name: 'Block 1',
  gas_type: 'Carbon Monoxide (CO)',
  unit: 'ppm',
  sensor_reading: 10,
  alarm_status: 'NORMAL',
  status: 'online',
  data_quality: 'good',
  lastSeen: iso(NOW - 1000),
  timestamp: '',
  location: '',
  latitude: '',
  longitude: '',
  span_high: 2000,
  span_low: 0,
  a1_level: 250,
  a2_level: 500,
  a3_level: 1000,
  zone: null,
  site: null,
  alarms: 0,
  level: null,
  epoch: 'e',
  seq: 1,
  ...more,
});

describe('the state of a detector', () => {
  it('is normal only if everything says so', () => {
    expect(conditionOf(row(), NOW)).toBe('normal');
    expect(conditionOf(row({ data_quality: 'uncertain' }), NOW)).toBe('unknown');
    expect(conditionOf(row({ alarm_status: 'ALARM' }), NOW)).toBe('unknown');
    expect(conditionOf(row({ lastSeen: iso(NOW - 600_000) }), NOW)).toBe('unknown');
    expect(conditionOf(row({ lastSeen: null }), NOW)).toBe('unknown');
    expect(conditionOf(row({ status: 'a word of a newer server' as never }), NOW)).toBe('unknown');
  });

  it('is that of its level, also while it is silent', () => {
    expect(conditionOf(row({ level: 'A2', status: 'critical', data_quality: 'offline' }), NOW)).toBe('a2');
    expect(conditionOf(row({ status: 'offline', data_quality: 'offline' }), NOW)).toBe('unknown');
    expect(conditionOf(row({ status: 'critical' }), NOW)).toBe('critical');
    expect(conditionOf(row({ status: 'warning' }), NOW)).toBe('warning');
  });
});

describe('the state of a detector with several reasons', () => {
  it('is its gas, as in the fleet: neither a fault nor silence hides it', () => {
    expect(worstOf(['normal', 'a1', 'unknown'])).toBe('a1');
    expect(worstOf(['normal', 'unknown', 'warning'])).toBe('unknown');
    expect(worstOf(['unknown', 'a2'])).toBe('a2');
    expect(worstOf([])).toBe('unknown');
  });
});

describe('the name of a detector', () => {
  it('has its id and its zone, as two may have the same name', () => {
    expect(labelOf({ deviceId: 'OTSM-0001', name: 'Block 1', device_name: 'x', zone: 'Harbour' })).toBe('Block 1 (OTSM-0001, Harbour)');
    expect(labelOf({ deviceId: 'OTSM-0001', name: '', device_name: '', zone: null })).toBe('OTSM-0001');
  });
  it('has its site if there are several, as two may have a zone of the same name', () => {
    const alarm = { deviceId: 'OTSM-0001', name: 'Block 1', device_name: '', zone: 'Harbour', site: 'Pune' };
    expect(labelOf(alarm, true)).toBe('Block 1 (OTSM-0001, Harbour, Pune)');
    expect(labelOf(alarm)).toBe('Block 1 (OTSM-0001, Harbour)');
  });
});

describe('the fleet', () => {
  const query = { text: '', condition: '', gas: '', zone: '', site: '', sort: 'urgency' as const };
  const ids = (rows: FleetRow[], more = {}) => fleetView(rows, { ...query, ...more }, NOW).map((item) => item.row.deviceId);
  const rows = [
    row({ deviceId: 'n10' }),
    row({ deviceId: 'n9', zone: 'Harbour' }),
    row({ deviceId: 'silent', status: 'offline', lastSeen: iso(NOW - 900_000) }),
    row({ deviceId: 'a3', level: 'A3', gas_type: 'Oxygen (O2)' }),
    row({ deviceId: 'a1', level: 'A1' }),
  ];

  it('is sorted by urgency, and by id as people count', () => {
    expect(ids(rows)).toEqual(['a3', 'silent', 'a1', 'n9', 'n10']);
    expect(ids(rows, { sort: 'age' })[0]).toBe('silent');
  });

  it('is filtered by site, which tells zones of the same name apart', () => {
    const two = [row({ deviceId: 'p', zone: 'Harbour', site: 'Pune' }), row({ deviceId: 'm', zone: 'Harbour', site: 'Mumbai' }), row({ deviceId: 'k', zone: 'Kiln', site: 'Mumbai' })];
    expect(ids(two, { zone: 'Harbour', site: 'Pune' })).toEqual(['p']);
    expect(sitesOf(two)).toEqual(['Mumbai', 'Pune']);
    expect(zonesOf(two, 'Pune')).toEqual(['Harbour']);
    expect(zonesOf(two, '')).toEqual(['Harbour', 'Kiln']);
  });

  it('is filtered by text, state, gas and zone', () => {
    expect(ids(rows, { text: 'HARB' })).toEqual(['n9']);
    expect(ids(rows, { condition: 'normal' })).toEqual(['n9', 'n10']);
    expect(ids(rows, { gas: 'Oxygen (O2)' })).toEqual(['a3']);
    expect(ids(rows, { zone: 'Harbour', condition: 'a3' })).toEqual([]);
  });

  it('has trend lines of a bounded length, one point per position', () => {
    const lastReadings = new LastReadings();
    for (let seq = 1; seq <= 100; seq += 1) {
      lastReadings.take([row({ seq, sensor_reading: seq })]);
      lastReadings.take([row({ seq, sensor_reading: seq })]);
    }
    const values = lastReadings.of('OTSM-0001');
    expect(values).toHaveLength(LastReadings.POINTS);
    expect(values.at(-1)).toBe(100);
    expect(values[0]).toBe(61);
    lastReadings.take([]);
    expect(lastReadings.of('OTSM-0001')).toEqual([]);
  });

  it('have no line across a silence', () => {
    const lastReadings = new LastReadings();
    [0, 60, 120, 400].forEach((second, seq) => lastReadings.take([row({ seq, sensor_reading: second, lastSeen: iso(NOW + second * 1000) })]));
    expect(lastReadings.of('OTSM-0001')).toEqual([0, 60, 120, null, 400]);
  });
});

describe('rows under the pointer', () => {
  const key = (text: string) => text.slice(0, 1);
  const nothing = () => undefined;

  it('stay where they are while they are held', () => {
    const first = heldOrder([], ['a1', 'b1', 'c1'], key, false, nothing);
    const held = heldOrder(first, ['d2', 'c2', 'a2'], key, true, nothing);
    expect(held.map(({ item, isGone }) => [item, isGone])).toEqual([
      ['a2', false],
      ['b1', true],
      ['c2', false],
      ['d2', false],
    ]);
    expect(heldOrder(held, ['d2', 'c2', 'a2'], key, false, nothing).map(({ item }) => item)).toEqual(['d2', 'c2', 'a2']);
  });

  it('are shown as they are now if they are only not wanted any more', () => {
    const first = heldOrder([], ['a1', 'b1', 'c1'], key, false, nothing);
    const held = heldOrder(first, ['c2'], key, true, (wanted) => (wanted === 'b' ? 'b2' : undefined));
    expect(held.map(({ item, isGone }) => [item, isGone])).toEqual([
      ['a1', true],
      ['b2', false],
      ['c2', false],
    ]);
  });

  it('make room at once for what somebody asks for, and are held in that order then', async () => {
    const wanted = shallowRef(['a1', 'b1', 'c1']);
    const question = ref('');
    const scope = effectScope();
    const rows = scope.run(() => useHeld(wanted, { keyOf: key, isHeld: ref(true), question: () => question.value }));
    const shown = () => rows?.value.map(({ item }) => item);
    wanted.value = ['c1', 'a1'];
    await nextTick();
    expect(shown()).toEqual(['a1', 'b1', 'c1']);
    question.value = 'c';
    wanted.value = ['c1'];
    await nextTick();
    expect(shown()).toEqual(['c1']);
    wanted.value = ['d1', 'c2'];
    await nextTick();
    expect(shown()).toEqual(['c2', 'd1']);
    scope.stop();
  });
});

describe('levels', () => {
  const reading = (a1: number, a2: number, a3: number, a1_type = 'High') => ({ a1_level: a1, a2_level: a2, a3_level: a3, a1_type }) as Reading;

  it('of a usual detector rise', () => {
    const bands = bandsOf(levelsOf(reading(250, 500, 1000)), 0, 2000);
    expect(bands.map(({ from, to, level }) => [from, to, level])).toEqual([
      [0, 250, null],
      [250, 500, 'A1'],
      [500, 1000, 'A2'],
      [1000, 2000, 'A3'],
    ]);
  });

  it('are those by which readings are judged, whatever the detector sent of its sides', () => {
    const names = (sides: Reading['level_sides'], type = 'High') =>
      levelsOf({ ...reading(19.5, 18, 23.5, type), level_sides: sides }).map(({ name, isLow }) => `${name} ${isLow ? 'low' : 'high'}`);
    expect(names(['low', 'low', 'high'])).toEqual(['A1 low', 'A2 low', 'A3 high']);
    expect(names(['high', null, null], 'Low')).toEqual(['A1 high']);
    expect(names(['high', 'a new word', 'low'])).toEqual(['A1 high', 'A2 high', 'A3 low']);
    expect(names(undefined)).toEqual(['A1 high', 'A2 high', 'A3 high']);
  });

  it('of an oxygen detector are on both sides', () => {
    const bands = bandsOf(levelsOf(reading(19.5, 18, 23.5, 'Low')), 0, 25);
    expect(bands.map(({ from, to, level }) => [from, to, level])).toEqual([
      [0, 18, 'A2'],
      [18, 19.5, 'A1'],
      [19.5, 23.5, null],
      [23.5, 25, 'A3'],
    ]);
  });
});

describe('the trend of a reading', () => {
  const sample = (s: number, value: number | null, unit = 'ppm') => ({ timestamp: iso(NOW + s * 1000), sensor_reading: value, data_quality: 'good', unit });
  /** A bucket from `s` on that is so many seconds wide. */
  const bucket = (s: number, width: number, mean: number | null, more: Partial<Bucket> = {}): Bucket => ({
    from: iso(NOW + s * 1000),
    until: iso(NOW + (s + width) * 1000 - 1),
    ...{ min: mean, max: mean, mean, count: mean === null ? 0 : 1, unit: 'ppm', alarm_status: 'NORMAL', data_quality: 'good' },
    ...more,
  });

  it('has a gap where nothing was sent', () => {
    const trend = trendOfSamples([0, 5, 10, 15, 200, 205].map((s) => sample(s, s)), 'ppm');
    expect(trend.values).toEqual([0, 5, 10, 15, null, 200, 205]);
  });

  it('has a gap where no reading could be used, and is sorted', () => {
    expect(trendOfSamples([sample(10, 2), sample(0, 1), sample(5, null)], 'ppm').values).toEqual([1, null, 2]);
  });

  it('never hides a peak within a bucket', () => {
    const trend = trendOfBuckets([bucket(0, 60, 12, { min: 1, max: 900, count: 60 }), bucket(60, 60, null)], 'ppm');
    expect(trend.maxs).toEqual([900, null]);
    expect(trend.mins).toEqual([1, null]);
    expect(trend.values).toEqual([12, null]);
    expect(trend.times).toEqual([NOW / 1000 + 30, NOW / 1000 + 90]);
  });

  it('has a gap where a single bucket is missing, however wide they are', () => {
    const day = 86_400;
    expect(trendOfBuckets([0, 1, 2, 4, 5].map((index) => bucket(index * 13_000, 13_000, index)), 'ppm').values).toEqual([0, 1, 2, null, 4, 5]);
    // Older ones are wider than the newest, and a pause of some minutes is a gap only among the narrow ones.
    const narrow = [0, 60, 120, 600, 660].map((s) => bucket(day + s, 60, s));
    const wide = [0, 3600, 7200].map((s) => bucket(day - 10_800 + s, 3600, s));
    expect(trendOfBuckets([...wide, ...narrow], 'ppm').values).toEqual([0, 3600, 7200, 0, 60, 120, null, 600, 660]);
  });

  it('has no gaps between the readings of a detector that sends seldom', () => {
    const seldom = [0, 60, 120, 180, 600, 660].map((s) => bucket(s, 6, s));
    expect(trendOfBuckets(seldom, 'ppm').values).toEqual([0, 60, 120, 180, null, 600, 660]);
  });

  it('never puts two units on one scale, and says so', () => {
    const trend = trendOfBuckets([bucket(0, 60, 20, { unit: '%LEL' }), bucket(0, 60, 400), bucket(60, 60, 410)], 'ppm');
    expect([trend.values, trend.hasOtherUnits]).toEqual([[400, 410], true]);
    expect(trendOfSamples([sample(0, 1), sample(5, 2, '%LEL')], 'ppm')).toMatchObject({ values: [1], hasOtherUnits: true });
    expect(trendOfSamples([sample(0, 1)], 'ppm').hasOtherUnits).toBe(false);
  });

  it('shows a reading that stands alone', () => {
    expect(isolated([1, null, 2, 3, null, null, 4])).toEqual([0, 6]);
    expect(isolated([null, 5, null])).toEqual([1]);
    expect(isolated([])).toEqual([]);
  });

  it('goes on with what arrives, once', () => {
    const trend = trendOfSamples([0, 5, 10].map((s) => sample(s, s)), 'ppm');
    const live = (s: number, value: number) => ({ at: NOW / 1000 + s, value, quality: 'good' });
    const next = withLive(trend, [live(15, 7)], 0);
    expect(next.values.at(-1)).toBe(7);
    expect(withLive(next, [live(15, 8)], 0)).toBe(next);
    expect(withLive(next, [live(500, 9)], 0).values.slice(-2)).toEqual([null, 9]);
    expect(withLive(trend, [live(10, 1), live(15, 7), live(15, 8), live(20, 9)], 0).values).toEqual([0, 5, 10, 7, 9]);
  });

  it('drops what is before its time, and never grows beyond a bound', () => {
    const live = (s: number) => ({ at: NOW / 1000 + s, value: s, quality: 'good' });
    const trend = trendOfSamples([0, 5, 10].map((s) => sample(s, s)), 'ppm');
    expect(withLive(trend, [live(15)], NOW / 1000 + 5).values).toEqual([5, 10, 15]);
    expect(withLive(trend, [live(20)], NOW / 1000 + 20).values).toEqual([20]);
    let next = trend;
    for (let s = 11; s < 8000; s += 1000) next = withLive(next, Array.from({ length: 1000 }, (_, index) => live(s + index)), 0);
    expect(next.times).toHaveLength(LIVE_POINTS);
    expect(next.values.at(-1)).toBe(8010);
  });
});

describe('the words beside a trend', () => {
  const at = (minute: number) => NOW + minute * 60_000;
  const bucket = (minute: number, mean: number | null, more: Partial<Bucket> = {}): Bucket => ({
    from: iso(at(minute)),
    until: iso(at(minute + 10) - 1),
    ...{ min: mean, max: mean, mean, count: 1, unit: 'ppm', alarm_status: 'NORMAL', data_quality: 'good' },
    ...more,
  });
  const means = trendOfBuckets([bucket(0, 5, { min: 1, max: 900 }), bucket(10, 31.27, { min: 12, max: 612 })], 'ppm');
  const readings = trendOfSamples([0, 1, 2].map((minute) => ({ timestamp: iso(at(minute)), sensor_reading: 10 + minute, data_quality: 'good', unit: 'ppm' })), 'ppm');

  it('call no mean a reading', () => {
    const summary = trendSummary(means, 'ppm', NOW, at(60));
    expect(summary).toContain('Lowest 1 ppm, highest 900 ppm');
    expect(summary).not.toContain('31.27');
    const readout = trendReadout(means, 1, 'ppm');
    expect(readout).toContain('mean 31.27 ppm');
    expect(readout).toContain('lowest 12 ppm');
    expect(readout).toContain('highest 612 ppm');
    expect(readout).toContain(`${shortTime(at(10))} – ${shortTime(at(20))}`);
  });

  it('have the day where it is not today, and where another one begins', () => {
    const noon = new Date(2026, 10, 26, 12).getTime();
    const axis = (hours: number[], now: number) => axisTimes(hours.map((hour) => (noon + hour * 3_600_000) / 1000), now).map((words) => words.split('\n').length);
    expect(axis([0, 1, 2], noon)).toEqual([1, 1, 1]);
    expect(axis([0, 1, 2], noon + 3 * 86_400_000)).toEqual([2, 1, 1]);
    expect(axis([-14, -13, -12, -11, 0], noon)).toEqual([2, 1, 2, 1, 1]);
    expect(axisTimes([noon / 1000], noon + 86_400_000)[0]).toContain('26');
    expect(axisTimes([], noon)).toEqual([]);
  });

  it('are exact of readings', () => {
    expect(trendSummary(readings, 'ppm', NOW, at(60))).toContain('last 12 ppm');
    expect(trendReadout(readings, 2, 'ppm')).toContain('12 ppm');
    expect(trendReadout(readings, 2, 'ppm')).not.toContain('mean');
  });

  it('are only of the time that is shown', () => {
    expect(trendSummary(readings, 'ppm', at(1), at(60))).toContain('Lowest 11 ppm');
    expect(trendSummary(readings, 'ppm', at(30), at(60))).toBe('There is no history in this time.');
  });
});

describe('a new alarm', () => {
  const alarm = (more: Partial<OpenAlarm> = {}) =>
    ({ id: 'x', deviceId: 'a', type: 'alarm_level_1', severity: 'warning', state: 'unacknowledged', count: 1, ...more }) as OpenAlarm;

  it('is one that was not there, or is worse', () => {
    const alarms = new NewAlarms();
    expect(alarms.look([alarm()])).toEqual([]);
    expect(alarms.look([alarm()])).toEqual([]);
    expect(alarms.look([alarm(), alarm({ id: 'y' })])).toHaveLength(1);
    expect(alarms.look([alarm({ type: 'alarm_level_2', severity: 'high' })])).toHaveLength(1);
    expect(alarms.look([alarm()])).toEqual([]);
    expect(alarms.look([alarm({ count: 2 })])).toHaveLength(1);
  });

  it('is one that was acknowledged and rose', () => {
    const alarms = new NewAlarms();
    alarms.look([alarm({ state: 'acknowledged' })]);
    expect(alarms.look([alarm({ state: 'acknowledged' })])).toEqual([]);
    expect(alarms.look([alarm({ type: 'alarm_level_3', severity: 'critical' })])).toHaveLength(1);
  });
});

describe('texts', () => {
  it('show spans and values as they are', () => {
    expect(span(42_000)).toBe('42 s');
    expect(span(125 * 60_000)).toBe('2 h 5 min');
    expect(span(3 * 86_400_000)).toBe('3 d');
    expect(ago(null)).toBe('unknown');
    expect(since(iso(NOW - 5 * 60_000), NOW)).toMatch(/\d\d:\d\d(:\d\d)? · 5 min ago$/);
    expect(since(iso(NOW - 3 * 86_400_000), NOW)).toMatch(/2026.* · 3 d ago$/);
    expect(since('', NOW)).toBe('unknown');
    expect(withUnit(null, 'ppm')).toBe('No reading');
    expect(withUnit(0, 'ppm')).toBe('0 ppm');
  });

  it('match the patterns of tokens', () => {
    expect(matches('OTSM-01*', 'OTSM-0114')).toBe(true);
    expect(matches('OTSM-01*', 'OTSM-0214')).toBe(false);
    expect(matches('a.c', 'abc')).toBe(false);
    expect(matches('*', 'anything')).toBe(true);
  });

  it('become a file that no spreadsheet takes for formulas', () => {
    const text = csvOf([{ device_name: '=1+1', message: 'a "b", c', current_value: -5, acknowledged: false, device_id: 'a' } as AlarmLogRow], (id) => (id === 'a' ? { name: 'Boiler', zone: '-North', site: null } : undefined));
    const [header, line] = text.split('\r\n');
    expect(header?.split(',').length).toBe(20);
    expect(line).toContain("'=1+1");
    expect(line).toContain('"a ""b"", c"');
    expect(line).toContain(',-5,');
    expect(line).toMatch(/,Boiler,'-North,$/);
  });
});

describe('a word from outside', () => {
  it('is no word only because every object has one of that name', () => {
    for (const word of ['constructor', 'toString', '__proto__']) {
      expect(sortOf(word)).toBe('urgency');
      expect(alarmType(word)).toBe(word.replaceAll('_', ' '));
      expect(wordOf({ a: 1 }, word)).toBeUndefined();
    }
    expect(sortOf('age')).toBe('age');
    expect(wordOf({ a: 1 }, 'a')).toBe(1);
  });
});
