import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { addressOf, askedOf, formOf, serialOf } from '../src/logFilter';
import { texts } from '../src/texts';

const NOW = Date.parse('2026-11-26T10:00:00.000Z');

beforeEach(() => vi.stubEnv('TZ', 'Asia/Kolkata'));
afterEach(() => vi.unstubAllEnvs());

describe('the address of the history', () => {
  it('means the same time wherever it is opened', () => {
    const address = addressOf({ from: '2026-11-26T08:00', until: '', severity: 'high', type: '', device: ' a ' }, {});
    expect(address).toEqual({ from: '2026-11-26T02:30:00.000Z', severity: 'high', device: 'a' });
    vi.stubEnv('TZ', 'UTC');
    expect(formOf(address, NOW)).toEqual({ from: '2026-11-26T02:30', until: '', severity: 'high', type: '', device: 'a' });
    expect(askedOf(address)).toEqual({ asked: { start_date: '2026-11-26T02:30:00.000Z', severity: 'high', device_id: 'a' }, problem: '' });
  });
  it('begins where it is said, and keeps a time that nobody touched', () => {
    expect(formOf({}, NOW).from).toBe('2026-11-26T15:30');
    const exact = { from: '2026-11-26T02:30:17.250Z', until: '2026-11-26T03:00:09Z' };
    const form = formOf(exact, NOW);
    expect(form).toMatchObject({ from: '2026-11-26T08:00', until: '2026-11-26T08:30' });
    expect(addressOf(form, exact)).toEqual(exact);
    expect(addressOf({ ...form, until: '2026-11-26T08:31' }, exact)).toEqual({ ...exact, until: '2026-11-26T03:01:00.000Z' });
  });
  it('is not answered with "no alarm" if it cannot be meant', () => {
    expect(askedOf({ from: 'abc' })).toEqual({ asked: {}, problem: texts.history.badTime });
    expect(askedOf({ severity: 'hgih' })).toEqual({ asked: {}, problem: texts.history.badSeverity });
    expect(askedOf({ type: 'constructor' })).toEqual({ asked: {}, problem: texts.history.badType });
    expect(askedOf({ from: '2026-11-26T10:00:00Z', until: '2026-11-26T09:59:59Z' })).toEqual({ asked: {}, problem: texts.history.reversed });
    // The zone counts, and not the text.
    expect(askedOf({ from: '2026-11-26T10:00:00+05:30', until: '2026-11-26T09:00:00Z' }).problem).toBe('');
    expect(askedOf({ severity: 'high', type: 'alarm_level_1' }).problem).toBe('');
  });
});

describe('a detector that is searched for', () => {
  const rows = [
    { deviceId: 'a', name: 'Boiler' },
    { deviceId: 'b', name: 'Pump' },
    { deviceId: 'c', name: 'pump' },
    { deviceId: 'd', name: 'a' },
  ];
  it('may be called as the fleet shows it, unless two are called so', () => {
    expect(serialOf(' boiler ', rows)).toBe('a');
    expect(serialOf('Pump', rows)).toBe('Pump');
    expect(serialOf('a', rows), 'a serial before a name').toBe('a');
    expect(serialOf('gone', rows)).toBe('gone');
  });
});
