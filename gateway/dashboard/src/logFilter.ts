// What the history of alarms is asked for. It stands in the address, which means the same wherever it is opened: its times have a zone. The
// form has them in the zone of this browser.
import type { LogQuery } from './client';
import { texts } from './texts';

/** The form of the history, as its fields have it. */
export interface LogForm {
  from: string;
  until: string;
  severity: string;
  type: string;
  device: string;
}
type Address = Readonly<Record<string, unknown>>;

const textOf = (address: Address, key: string): string => {
  const value = address[key];
  return typeof value === 'string' ? value : '';
};

/** A time as a field has it, to the minute. */
const localOf = (ms: number): string => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
const localOfText = (text: string): string => (Number.isNaN(Date.parse(text)) ? '' : localOf(Date.parse(text)));

/** The form for an address. `first`: since when, if the address does not say it. */
export function formOf(address: Address, first: number): LogForm {
  const text = (key: string) => textOf(address, key);
  return {
    from: text('from') ? localOfText(text('from')) : localOf(first),
    until: localOfText(text('until')),
    severity: text('severity'),
    type: text('type'),
    device: text('device'),
  };
}

/** The address for a form. A time that nobody touched stays as exact as it was. */
export function addressOf({ from, until, severity, type, device }: LogForm, before: Address): Record<string, string> {
  const time = (key: string, field: string) => {
    if (field === '') return '';
    return field === localOfText(textOf(before, key)) ? textOf(before, key) : new Date(field).toISOString();
  };
  const all = { from: time('from', from), until: time('until', until), severity, type, device: device.trim() };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ''));
}

/** What the server is asked for, or why nobody knows what is meant: that is no answer of "no alarm". */
export function askedOf(address: Address): { asked: LogQuery; problem: string } {
  const text = (key: string) => textOf(address, key);
  const problem = (why: string) => ({ asked: {}, problem: why });
  if (['from', 'until'].some((key) => text(key) !== '' && Number.isNaN(Date.parse(text(key))))) return problem(texts.history.badTime);
  if (text('severity') && !Object.hasOwn(texts.severity, text('severity'))) return problem(texts.history.badSeverity);
  if (text('type') && !Object.hasOwn(texts.alarmType, text('type'))) return problem(texts.history.badType);
  const time = (key: string) => (text(key) ? new Date(text(key)).toISOString() : undefined);
  const [start_date, end_date] = [time('from'), time('until')];
  if (start_date && end_date && start_date > end_date) return problem(texts.history.reversed);
  return {
    asked: { start_date, end_date, severity: text('severity') || undefined, alarm_type: text('type') || undefined, device_id: text('device') || undefined },
    problem: '',
  };
}

/** The serial of a detector that somebody calls by its shown name, if only one has it. The log is searched by serials. */
export function serialOf(word: string, rows: readonly { deviceId: string; name: string }[]): string {
  const text = word.trim();
  if (rows.some(({ deviceId }) => deviceId === text)) return text;
  const named = rows.filter(({ name }) => name.toLowerCase() === text.toLowerCase());
  return named.length === 1 && named[0] ? named[0].deviceId : text;
}
