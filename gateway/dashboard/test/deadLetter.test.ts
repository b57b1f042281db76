import { describe, expect, it } from 'vitest';

import type { DeadLetter } from '../src/client';
import { beginningOf, groupsOf, hexDump, isLonger, names, payloadOf, serialOf } from '../src/deadLetter';
import { texts } from '../src/texts';
import readme from '../../../ingest/README.md?raw';

const letter = (more: Partial<DeadLetter> = {}): DeadLetter => ({
  id: '1-0',
  at: '2026-11-26T10:00:00.000Z',
  reason: 'not_json',
  detail: 'expected `,` or `}` at line 1 column 20',
  topic: 'SubTronics/data',
  size: 20,
  payload: '{"OTSM-2 Serial Number": "OTSM-0114", "Parameters": {"Li',
  cut: false,
  ...more,
});
const base64 = (bytes: number[]) => btoa(String.fromCharCode(...bytes));

describe('a message that could not be read', () => {
  it('shows its beginning on one line, and all of it when it is asked for', () => {
    const short = letter({ payload: '{"a": 1' });
    expect(beginningOf(short)).toBe('{"a": 1');
    expect(isLonger(short)).toBe(false);
    const long = letter({ payload: `{\n  "a": "${'x'.repeat(500)}"` });
    expect(beginningOf(long)).toMatch(/^\{ "a": "x+…$/);
    expect(isLonger(long)).toBe(true);
    expect(payloadOf(long)).toBe(long.payload);
  });

  it('shows bytes as digits, and what of them is text beside it', () => {
    const bytes = letter({ payload: undefined, payload_base64: base64([0xff, 0xfe, ...[...'OTSM-0114 <b>'].map((char) => char.charCodeAt(0)), 0x00, 0x0a]) });
    expect(payloadOf(bytes)).toBe(
      '000000  ff fe 4f 54 53 4d 2d 30 31 31 34 20 3c 62 3e 00  ..OTSM-0114 <b>.\n' + `000010  0a${' '.repeat(45)}  .`,
    );
    expect(beginningOf(bytes)).toMatch(/^ff fe 4f/);
    expect(hexDump(new Uint8Array())).toBe('');
    expect(payloadOf(letter({ payload: undefined, payload_base64: 'no base64!' }))).toBe('');
  });

  it('names a detector in its payload, in its topic, or in what the server says', () => {
    expect(names(letter(), 'OTSM-0114')).toBe(true);
    expect(names(letter(), 'OTSM-011')).toBe(false);
    expect(names(letter(), 'TSM-0114')).toBe(false);
    expect(names(letter({ payload: '', topic: 'SubTronics/OTSM-7/data' }), 'OTSM-7')).toBe(true);
    expect(names(letter({ payload: '', detail: 'serial "a.c/(1)" is not admitted' }), 'a.c/(1)')).toBe(true);
    expect(names(letter({ payload: '', detail: 'serial "abc" is not admitted' }), 'a.c')).toBe(false);
    expect(names(letter({ payload: undefined, payload_base64: base64([0xff, ...[...'OTSM-9'].map((char) => char.charCodeAt(0))]) }), 'OTSM-9')).toBe(true);
  });

  it('has a reason in plain words, and says what to do about it, for each reason of the server', () => {
    const [, table = ''] = readme.split('| reason | meaning |');
    const reasons = [...(table.split('\n\n')[0] ?? '').matchAll(/^\| `(\w+)` \|/gm)].map(([, reason]) => reason);
    expect(reasons.length).toBeGreaterThan(10);
    expect(Object.keys(texts.deadLetters.reasons)).toEqual(reasons);
    for (const known of [...Object.values(texts.deadLetters.reasons), texts.deadLetters.otherReason]) expect(known.operator).toMatch(/[Tt]reat its place as unknown and call/);
  });

  it('is of the detector whose serial number it has, if that is one', () => {
    expect(serialOf(letter())).toBe('OTSM-0114');
    expect(serialOf(letter({ payload: '{"OTSM-2 Serial Number": "OTSM-01' }))).toBe('');
    expect(serialOf(letter({ payload: '{"OTSM-2 Serial Number": "A"}{"OTSM-2 Serial Number":"A"}' }))).toBe('A');
    expect(serialOf(letter({ payload: '{"OTSM-2 Serial Number": "A"}{"OTSM-2 Serial Number":"B"}' }))).toBe('');
    expect(serialOf(letter({ payload: undefined, payload_base64: base64([0xff, ...[...'"OTSM-2 Serial Number":"X-1"'].map((char) => char.charCodeAt(0))]) }))).toBe('X-1');
  });
});

describe('messages that could not be read, repeated', () => {
  const of = (id: string, serial: string, more: Partial<DeadLetter> = {}) => letter({ id, payload: `{"OTSM-2 Serial Number": "${serial}", "Parameters": {"Li`, ...more });
  it('are one entry for each detector, topic and reason, where the newest of it is', () => {
    const letters = [of('9', 'A'), of('8', 'B'), of('7', 'A', { detail: 'at column 7' }), of('6', 'A', { reason: 'not_utf8' }), of('5', 'A', { topic: 'other' }), of('4', 'A')];
    expect(groupsOf(letters).map(({ letters: alike }) => alike.map(({ id }) => id))).toEqual([['9', '7', '4'], ['8'], ['6'], ['5']]);
    expect(groupsOf(letters).flatMap(({ letters: alike }) => alike)).toHaveLength(letters.length);
  });
  it('stay where they are when older ones come', () => {
    const letters = [of('9', 'A'), of('8', 'B')];
    const keys = groupsOf(letters).map(({ key }) => key);
    expect(groupsOf([...letters, of('7', 'B'), of('6', 'C')]).map(({ key }) => key).slice(0, 2)).toEqual(keys);
  });
});
