import { describe, expect, it } from 'vitest';

import type { FleetRow } from '../src/client';
import { backWords, peakNow, standingOf } from '../src/standing';
import { NOW, ago, alarm, row } from './listed';

describe('where the reading stands now', () => {
  const high = alarm('a', 1);
  it('is beyond the level also when it is on it', () => {
    expect(standingOf(high, row('a', 1122), NOW)).toBe('beyond');
    expect(standingOf(high, row('a', 1000), NOW)).toBe('beyond');
    expect(standingOf(high, row('a', 999), NOW)).toBe('back');
  });
  it('is not known of an old, doubtful or missing reading, or of a level that was changed', () => {
    expect(standingOf(high, undefined, NOW)).toBe('unknown');
    expect(standingOf(high, row('a', null), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 20, { lastSeen: ago(91_000) }), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 20, { lastSeen: null }), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 20, { data_quality: 'uncertain' }), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 20, { data_quality: 'offline' }), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 600, { a3_level: 550 }), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 20, { unit: '%LEL' }), NOW)).toBe('unknown');
  });
  it('is on the other side where too little is dangerous', () => {
    const oxygen: Partial<FleetRow> = { unit: '%VOL', a1_level: 19.5, a2_level: 18, a3_level: 23.5, level_sides: ['low', 'low', 'high'] };
    const low = alarm('o', 1, { type: 'alarm_level_1', severity: 'warning', threshold: 19.5, current_value: 19.2, peak_value: 18.8, unit: '%VOL' });
    expect(standingOf(low, row('o', 18.9, oxygen), NOW)).toBe('beyond');
    expect(standingOf(low, row('o', 20.9, oxygen), NOW)).toBe('back');
    // Its values are on the other side: the side was changed since.
    expect(standingOf({ ...low, peak_value: 24 }, row('o', 20.9, oxygen), NOW)).toBe('unknown');
    expect(standingOf({ ...low, current_value: 19.5, peak_value: 19.5 }, row('o', 20.9, oxygen), NOW)).toBe('back');
    expect(standingOf(low, row('o', 18.9, { ...oxygen, level_sides: ['high', 'low', 'high'] }), NOW)).toBe('unknown');
    expect(standingOf(low, row('o', 20.9, { ...oxygen, level_sides: [null, 'low', 'high'] }), NOW)).toBe('unknown');
  });
  it('is that of the reading, which no heartbeat makes newer, within the silence limit of the detector', () => {
    const rare = { silence_limit_ms: 900_000 };
    expect(standingOf(high, row('a', 20, { reading_at: ago(100_000) }), NOW)).toBe('unknown');
    expect(standingOf(high, row('a', 20, { reading_at: ago(80_000) }), NOW)).toBe('back');
    expect(standingOf(high, row('a', 20, { ...rare, lastSeen: ago(300_000) }), NOW)).toBe('back');
    expect(standingOf(high, row('a', 20, { silence_limit_ms: 10_000, lastSeen: ago(6000) }), NOW)).toBe('unknown');
  });
  it('is said of what neither latches nor returned', () => {
    expect(backWords(high, row('a', 20), NOW)).toContain('back below the level');
    expect(backWords({ ...high, threshold: 19.5, current_value: 19, peak_value: 18 }, row('a', 20.9, { a3_level: 19.5, level_sides: ['low', 'low', 'low'] }), NOW)).toContain('back above the level');
    expect(backWords({ ...high, state: 'latched' }, row('a', 20), NOW)).toBe('');
    expect(backWords(high, row('a', 1122), NOW)).toBe('');
    expect(backWords(high, row('a', null), NOW)).toBe('');
  });
});

describe('the peak', () => {
  const high = alarm('a', 1, { raised_at: ago(60_000) });
  it('is the reading of now where that is more dangerous', () => {
    expect(peakNow(high, row('a', 1300))).toBe(1300);
    expect(peakNow(high, row('a', 1100))).toBe(1200);
    const low = alarm('o', 1, { type: 'alarm_level_1', threshold: 19.5, current_value: 19.2, peak_value: 18.8, unit: '%VOL', raised_at: ago(60_000) });
    expect(peakNow(low, row('o', 18.1, { unit: '%VOL', level_sides: ['low', 'low', 'high'] }))).toBe(18.1);
    expect(peakNow(low, row('o', 20.9, { unit: '%VOL', level_sides: ['low', 'low', 'high'] }))).toBe(18.8);
  });
  it('is never a reading that is not of this alarm, or that nobody can compare', () => {
    expect(peakNow(high, undefined)).toBe(1200);
    expect(peakNow(high, row('a', null))).toBe(1200);
    expect(peakNow(high, row('a', 1300, { lastSeen: ago(61_000) }))).toBe(1200);
    expect(peakNow(high, row('a', 1300, { lastSeen: null }))).toBe(1200);
    expect(peakNow(high, row('a', 1300, { unit: '%LEL' }))).toBe(1200);
    expect(peakNow(high, row('a', 1300, { data_quality: 'uncertain' }))).toBe(1200);
    expect(peakNow({ ...high, peak_value: 900 }, row('a', 1300))).toBe(900);
    expect(peakNow({ ...high, peak_value: null }, row('a', 1300))).toBeNull();
  });
});
