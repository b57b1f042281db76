import { describe, expect, it } from 'vitest';

import { alarmSpans } from '../src/alarmSpans';
import type { Alert, Chart, DeviceView } from '../src/client';

const at = (time: string) => Date.parse(`2026-11-26T${time}:00.000Z`);
const iso = (time: string) => new Date(at(time)).toISOString();
const span = (id: string, from: string, until: string | null, severity = 'warning') => ({ id, type: 'alarm_level_1', severity, from: iso(from), until: until && iso(until) }) as Chart['spans'][number];
const alarm = (id: string, time: string, more: Partial<Alert> = {}) => ({ id, severity: 'warning', timestamp: iso(time), raised_at: iso(time), cleared_at: null, ...more }) as Alert;
const view = (alarms: Alert[], changes: DeviceView['changes'] = []) => ({ alarms, changes, seen: { epoch: 'e', seq: 9 } });
const shown = (spans: ReturnType<typeof alarmSpans>) => spans.map(({ from, until, severity }) => [from, until, severity]);
const READ = at('10:30');

describe('the times of alarms in the trend', () => {
  it('are those of the log, with each level from its time on', () => {
    const spans = [span('a', '08:00', '10:00'), span('a', '10:00', null, 'critical')];
    // Raised at 08:00, escalated at 10:00: it was not critical before.
    const open = view([alarm('a', '10:00', { severity: 'critical', raised_at: iso('08:00') })]);
    expect(shown(alarmSpans(spans, READ, open))).toEqual([
      [at('08:00'), at('10:00'), 'warning'],
      [at('10:00'), null, 'critical'],
    ]);
  });

  it('have an end when the alarm ends, and do not vanish', () => {
    const ended = alarm('a', '08:00', { cleared_at: iso('10:40') });
    const gone = view([], [{ alert: { ...ended, change: 'cleared' } as never, at: iso('10:41') }]);
    expect(shown(alarmSpans([span('a', '08:00', null)], READ, gone))).toEqual([[at('08:00'), at('10:40'), 'warning']]);
    // It ended while nothing arrived here.
    expect(shown(alarmSpans([span('a', '08:00', null)], READ, view([])))).toEqual([[at('08:00'), READ, 'warning']]);
  });

  it('have what was raised or rose since the log was read', () => {
    const open = view([alarm('a', '10:35', { severity: 'high', raised_at: iso('08:00') }), alarm('b', '10:36', { severity: 'critical' })]);
    expect(shown(alarmSpans([span('a', '08:00', null)], READ, open))).toEqual([
      [at('08:00'), at('10:35'), 'warning'],
      [at('10:35'), null, 'high'],
      [at('10:36'), null, 'critical'],
    ]);
    expect(shown(alarmSpans([], READ, open))).toHaveLength(2);
  });

  it('are those of the log alone until it is known what is open', () => {
    const unknown = { alarms: [], changes: [], seen: null };
    expect(shown(alarmSpans([span('a', '08:00', null), span('b', '07:00', '07:30')], READ, unknown))).toEqual([
      [at('08:00'), null, 'warning'],
      [at('07:00'), at('07:30'), 'warning'],
    ]);
  });
});
