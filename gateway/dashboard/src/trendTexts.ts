// What is said beside the chart of a trend: of one point, and of all that is shown. Pure.
import { shortTime, withUnit } from './format';
import { texts } from './texts';
import type { Trend } from './trend';
import { wordOf } from './wordOf';

/** One point. A bucket is no reading: it has a mean, and a time from when to when. */
export function trendReadout({ times, widths, values, mins, maxs, qualities }: Trend, index: number, unit: string): string {
  const [at, width = 0, value] = [times[index], widths[index], values[index]];
  if (at === undefined) return '';
  const begin = shortTime((at - width / 2) * 1000);
  const time = width > 0 ? `${begin} – ${shortTime((at + width / 2) * 1000)}` : begin;
  if (value === null) return `${time} · ${texts.noReading}`;
  const { legend } = texts.device;
  const measured = width > 0 ? [`${legend.mean} ${withUnit(value, unit)}`, `${legend.min} ${withUnit(mins[index], unit)}`, `${legend.max} ${withUnit(maxs[index], unit)}`] : [withUnit(value, unit)];
  const quality = qualities[index] ?? '';
  return [time, measured.join(', '), quality ? `${legend.quality} ${wordOf(texts.quality, quality) ?? quality}` : ''].filter((part) => part !== '').join(' · ');
}

/** All that is shown, `from` and `until` in milliseconds. The last value is said only if it is a reading. */
export function trendSummary({ times, widths, values, mins, maxs }: Trend, unit: string, from: number, until: number): string {
  const [begin, end] = [from / 1000, until / 1000];
  const shown = times.flatMap((at, index) => {
    const half = (widths[index] ?? 0) / 2;
    return values[index] !== null && at + half >= begin && at - half <= end ? [index] : [];
  });
  const last = shown.at(-1);
  if (last === undefined) return texts.device.chartNone;
  const of = (list: readonly (number | null)[]) => shown.map((index) => list[index]).filter((value) => value !== null && value !== undefined);
  const summary = texts.device.chartTable(
    withUnit(of(mins).reduce((a, b) => Math.min(a, b)), unit),
    withUnit(of(maxs).reduce((a, b) => Math.max(a, b)), unit),
  );
  return widths[last] === 0 ? `${summary}, ${texts.device.chartLast(withUnit(values[last], unit))}` : summary;
}

const timeOfDay = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const withSeconds = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayOnly = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });
const DAY_S = 82_800;

/** The words of an axis, for ticks in seconds since 1970. The first one has its day below it, unless all are of today, and so has the first of each other day. */
export function axisTimes(ticks: readonly number[], now: number): string[] {
  const step = (ticks[1] ?? 0) - (ticks[0] ?? 0);
  let day = dayOnly.format(now);
  return ticks.map((tick) => {
    const date = new Date(tick * 1000);
    const ownDay = dayOnly.format(date);
    if (step >= DAY_S) return ownDay;
    const time = (step < 60 ? withSeconds : timeOfDay).format(date);
    if (ownDay === day) return time;
    day = ownDay;
    return `${time}\n${ownDay}`;
  });
}
