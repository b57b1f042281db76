import { describe, expect, it } from 'vitest';

import { ackNote } from '../src/ackNote';
import { SILENCE, announced } from '../src/announcement';
import type { OpenAlarm } from '../src/client';
import { texts } from '../src/texts';

const alarm = (more: Partial<OpenAlarm> = {}) =>
  ({
    id: 'x',
    deviceId: 'OTSM-1',
    name: 'Block 1',
    zone: 'Harbour',
    device_name: '',
    type: 'alarm_level_1',
    severity: 'warning',
    state: 'unacknowledged',
    count: 1,
    ...more,
  }) as OpenAlarm;

describe('an alarm whose acknowledgement is being confirmed', () => {
  const shown = alarm();
  const note = (more: Partial<OpenAlarm>) => ackNote(shown, alarm(more));

  it('is as it was', () => {
    expect(note({})).toBe('');
    expect(note({ current_value: 300 } as Partial<OpenAlarm>)).toBe('');
  });
  it('was acknowledged by somebody else', () => {
    expect(note({ state: 'acknowledged', acknowledged_by: 'Ravi' })).toBe(texts.ack.byOther('Ravi'));
    expect(note({ state: 'acknowledged' })).toBe(texts.ack.byOther(''));
    expect(texts.ack.byOther('Ravi')).toContain('by Ravi');
  });
  it('returned to normal', () => {
    expect(note({ state: 'returned' })).toBe(texts.ack.changed(texts.alarmState.returned));
    expect(note({ state: 'latched' })).toBe(texts.ack.changed(texts.alarmState.latched));
  });
  it('was raised again, also if it looks the same', () => {
    expect(note({ count: 2 })).toBe(texts.ack.again);
    // That matters more than that the one before was acknowledged.
    expect(note({ count: 2, state: 'acknowledged' })).toBe(texts.ack.again);
  });
  it('escalated, went down a level, or ended', () => {
    expect(note({ type: 'alarm_level_2', severity: 'high' })).toBe(texts.ack.escalated('Gas, level A2'));
    expect(ackNote(alarm({ type: 'alarm_level_3', severity: 'critical' }), alarm({ type: 'alarm_level_2', severity: 'high' }))).toBe(texts.ack.changed('Gas, level A2'));
    expect(ackNote(shown, undefined)).toBe(texts.ack.gone);
  });
});

describe('what is read aloud of new alarms', () => {
  it('is the first of them, and how many more there are', () => {
    const one = announced(SILENCE, [alarm()]);
    expect(one.text).toBe('New alarm: Block 1 (OTSM-1, Harbour), Gas, level A1');
    expect(announced(SILENCE, [alarm(), alarm({ id: 'y' }), alarm({ id: 'z' })]).text).toBe(`${one.text}, and 2 more`);
  });
  it('is read again although it has the same words', () => {
    const one = announced(SILENCE, [alarm()]);
    const two = announced(one, [alarm()]);
    expect(two.text).toBe(one.text);
    expect(two.turn).not.toBe(one.turn);
  });
  it('stays if nothing is new', () => {
    const one = announced(SILENCE, [alarm()]);
    expect(announced(one, [])).toBe(one);
  });
});
