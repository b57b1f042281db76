import { describe, expect, it } from 'vitest';

import { ServerClock, ageOf, freshnessOf } from '../src/client/clock';

const iso = (ms: number) => new Date(ms).toISOString();

describe('the clock of the server', () => {
  it('is not moved back by something old', () => {
    let elapsed = 0;
    const clock = new ServerClock(() => elapsed);
    expect(clock.now()).toBeUndefined();
    clock.observe(iso(1_000_000));
    elapsed = 500;
    clock.observe(iso(900_000));
    expect(clock.now()).toBe(1_000_500);
  });

  it('is corrected by what arrives faster', () => {
    let elapsed = 0;
    const clock = new ServerClock(() => elapsed);
    clock.observe(iso(1_000_000));
    elapsed = 1000;
    clock.observe(iso(1_001_300));
    expect(clock.now()).toBe(1_001_300);
  });

  it('forgets after a while, as no two clocks run alike', () => {
    let elapsed = 0;
    const clock = new ServerClock(() => elapsed);
    clock.observe(iso(1_000_000));
    for (let i = 1; i <= 12; i += 1) {
      elapsed = i * 60_000;
      // This machine is slower by one second in a minute.
      clock.observe(iso(1_000_000 + i * 59_000));
    }
    expect(clock.now()).toBeLessThan(1_000_000 + 12 * 59_000 + 12_000);
  });

  it('ignores what is no time', () => {
    const clock = new ServerClock(() => 0);
    clock.observe('yesterday');
    expect(clock.now()).toBeUndefined();
  });
});

describe('an age', () => {
  it('is never negative, and null without a time', () => {
    expect(ageOf(iso(5000), 3000)).toBe(0);
    expect(ageOf(iso(5000), 7500)).toBe(2500);
    expect(ageOf(null, 7500)).toBeNull();
    expect(ageOf('', 7500)).toBeNull();
  });

  it('makes a value old, and none is old', () => {
    expect(freshnessOf(1000)).toBe('fresh');
    expect(freshnessOf(60_000)).toBe('fresh');
    expect(freshnessOf(100_000)).toBe('ageing');
    expect(freshnessOf(200_000)).toBe('old');
    expect(freshnessOf(null)).toBe('old');
    expect(freshnessOf(200_000, 900_000)).toBe('fresh');
    expect(freshnessOf(9000, 10_000)).toBe('ageing');
    expect(freshnessOf(10_000, 10_000)).toBe('old');
  });
});
