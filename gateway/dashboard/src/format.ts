// Numbers, spans and times as people read them.
import { texts } from './texts';
import { wordOf } from './wordOf';

/** A reading, exactly as it was sent. */
export const number = (value: number | null | undefined): string =>
  value === null || value === undefined ? texts.none : String(value);

export function withUnit(value: number | null | undefined, unit: string): string {
  return value === null || value === undefined ? texts.noReading : `${value} ${unit}`.trim();
}

/** `42 s`, `3 min`, `2 h 5 min`, `4 d`. */
export function span(ms: number): string {
  const { s, min, h, d } = texts.span;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${Math.max(0, seconds)} ${s}`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} ${min}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 === 0 ? `${hours} ${h}` : `${hours} ${h} ${minutes % 60} ${min}`;
  return `${Math.floor(hours / 24)} ${d}`;
}

export const ago = (ms: number | null): string => {
  if (ms === null) return texts.unknown;
  return ms < 1500 ? texts.span.now : texts.ago(span(ms));
};

/** `812 B`, `64 KB`. */
export const bytes = (count: number): string => (count < 1024 ? `${count} B` : `${Math.round(count / 102.4) / 10} KB`);

const DAY_MS = 24 * 60 * 60 * 1000;
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const FULL: Intl.DateTimeFormatOptions = {
  year: 'numeric',
  month: '2-digit',
  day: '2-digit',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
};
const full = new Intl.DateTimeFormat(undefined, FULL);
const zoned = new Intl.DateTimeFormat(undefined, { ...FULL, timeZoneName: 'shortOffset' });

/** The zone of all times that are shown. */
export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

type Time = number | string | null | undefined;

const parsed = (time: Time): number | null => {
  const at = typeof time === 'number' ? time : time ? Date.parse(time) : Number.NaN;
  return Number.isNaN(at) ? null : at;
};

/** Date and time in the zone of this browser. */
export function dateTime(time: Time): string {
  const at = parsed(time);
  return at === null ? texts.none : full.format(at);
}

/** Date and time with how far it is from UTC: on paper it is the same everywhere, and in the night in which the clocks change. */
export function zonedTime(time: Time): string {
  const at = parsed(time);
  return at === null ? texts.none : zoned.format(at);
}

/** Whether the clocks of this zone were not changed between the two. */
export const isSameOffset = (a: number, b: number): boolean => new Date(a).getTimezoneOffset() === new Date(b).getTimezoneOffset();

const isSameDay = (at: number, now: number): boolean => Math.abs(now - at) < DAY_MS && new Date(now).getDate() === new Date(at).getDate();

/** The time of day, and the date too if it is not today's. */
export function shortTime(time: Time, now = Date.now()): string {
  const at = parsed(time);
  if (at === null) return texts.none;
  return isSameDay(at, now) ? clock.format(at) : full.format(at);
}

const minute = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

/** The time of day and how long ago that was; the date too if it is not today's. */
export function since(time: Time, now: number): string {
  const at = parsed(time);
  if (at === null) return texts.unknown;
  return `${isSameDay(at, now) ? minute.format(at) : full.format(at)} · ${ago(Math.max(0, now - at))}`;
}

export const alarmType = (type: string): string => wordOf(texts.alarmType, type) ?? type.replaceAll('_', ' ');
