// What a message that could not be processed shows of itself. Whoever can send to the broker wrote it: it is shown as text, and never more.
import type { DeadLetter } from './client';

const BYTES_PER_LINE = 16;
/** So much of a payload is shown before somebody asks for all of it. */
const BEGINNING = 160;

type Payload = Pick<DeadLetter, 'payload' | 'payload_base64'>;

export const isText = (letter: Payload): boolean => letter.payload_base64 === undefined;

/** The whole payload, as far as it was kept: text, or the bytes as digits. */
export const payloadOf = (letter: Payload): string => (isText(letter) ? (letter.payload ?? '') : hexDump(bytesOf(letter.payload_base64 ?? '')));

/** The beginning of it on one line. */
export function beginningOf(letter: Payload): string {
  const text = isText(letter)
    ? (letter.payload ?? '').slice(0, 2 * BEGINNING).replace(/\s+/g, ' ').trim()
    : hexDigits(bytesOf(letter.payload_base64 ?? '').subarray(0, BEGINNING / 4)).join(' ');
  return text.length > BEGINNING ? `${text.slice(0, BEGINNING)}…` : text;
}

/** Whether there is more to see than its beginning. */
export const isLonger = (letter: Payload): boolean =>
  // Of bytes by their number: a dump is long, and is made of what is asked for alone. Its beginning never looks like it.
  isText(letter) ? (letter.payload ?? '') !== beginningOf(letter) : (letter.payload_base64 ?? '') !== '';

/** Whether it names a serial: in what the server says of it, in its topic, or anywhere in its payload. `OTSM-1` is not in `OTSM-11`. */
export function names(letter: DeadLetter, serial: string): boolean {
  const wanted = new RegExp(`(?<![\\p{L}\\p{N}])${serial.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}(?![\\p{L}\\p{N}])`, 'u');
  return [letter.detail, letter.topic, textOf(letter)].some((text) => wanted.test(text));
}

/** The text of a payload, as far as it is one. */
const textOf = (letter: Payload): string => (isText(letter) ? (letter.payload ?? '') : asciiOf(bytesOf(letter.payload_base64 ?? '')));

const SERIAL = /"OTSM-2 Serial Number"\s*:\s*"((?:[^"\\]|\\.){1,128})"/g;

/** The serial number that its payload has; empty if it has none, or several. */
export function serialOf(letter: Payload): string {
  const serials = new Set([...textOf(letter).matchAll(SERIAL)].map(([, serial]) => serial));
  return serials.size === 1 ? ([...serials][0] ?? '') : '';
}

/** Messages that could not be used for the same reason, and have the same serial number and topic. */
export interface LetterGroup {
  key: string;
  reason: string;
  topic: string;
  serial: string;
  /** The newest first. */
  letters: DeadLetter[];
}

/** The groups, the one with the newest message first. `letters` has the newest first. */
export function groupsOf(letters: readonly DeadLetter[]): LetterGroup[] {
  const groups = new Map<string, LetterGroup>();
  for (const letter of letters) {
    const { reason, topic } = letter;
    const serial = serialOf(letter);
    const key = JSON.stringify([reason, topic, serial]);
    const group = groups.get(key);
    if (group) group.letters.push(letter);
    else groups.set(key, { key, reason, topic, serial, letters: [letter] });
  }
  return [...groups.values()];
}

function bytesOf(base64: string): Uint8Array {
  try {
    return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

const hexDigits = (bytes: Uint8Array): string[] => [...bytes].map((byte) => byte.toString(16).padStart(2, '0'));

/** What is no visible character of ASCII becomes a point. */
const asciiOf = (bytes: Uint8Array): string => [...bytes].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');

/** As `hexdump -C` writes it: place, bytes, and what of them is text. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += BYTES_PER_LINE) {
    const part = bytes.subarray(at, at + BYTES_PER_LINE);
    const digits = hexDigits(part).join(' ').padEnd(3 * BYTES_PER_LINE - 1);
    lines.push(`${at.toString(16).padStart(6, '0')}  ${digits}  ${asciiOf(part)}`);
  }
  return lines.join('\n');
}
