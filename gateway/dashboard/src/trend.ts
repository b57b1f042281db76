// The trend of a reading for the chart: what is stored, and what arrives while it is shown. Pure.
import type { Bucket, Sample } from './client';

export interface Trend {
  /** Seconds since 1970, rising. Of a bucket it is the middle. */
  times: number[];
  /** How many seconds each point stands for: 0 for a single reading. */
  widths: number[];
  /** `null`: a gap. */
  values: (number | null)[];
  mins: (number | null)[];
  maxs: (number | null)[];
  qualities: string[];
  /** There are readings in another unit, which are no part of it. */
  hasOtherUnits: boolean;
}

const empty = (): Trend => ({ times: [], widths: [], values: [], mins: [], maxs: [], qualities: [], hasOtherUnits: false });
export const EMPTY_TREND: Trend = empty();

/** A pause longer than so many usual ones is a gap. */
const GAP = 4;
/** Between buckets that follow each other without a pause, one that is missing is a gap. */
const MISSING = 1.5;
const LEAST_GAP_S = 15;

/** A sample, or all of them in a stretch of time. */
interface Point {
  from: number;
  until: number;
  value: number | null;
  min: number | null;
  max: number | null;
  quality: string;
}

/** The trend of buckets. Readings in another unit than this are no part of it. */
export function trendOfBuckets(buckets: readonly Bucket[], unit: string): Trend {
  const own = buckets.filter((bucket) => unit === '' || bucket.unit === unit);
  const points = own.map(({ from, until, mean, min, max, data_quality: quality }) => ({
    from: Date.parse(from) / 1000,
    // Inclusive: the last millisecond.
    until: (Date.parse(until) + 1) / 1000,
    ...{ value: mean, min, max, quality },
  }));
  return withGaps(points, own.length < buckets.length);
}

export function trendOfSamples(samples: readonly Sample[], unit: string): Trend {
  const own = samples.filter((sample) => unit === '' || sample.unit === undefined || sample.unit === unit);
  const points = own
    .map(({ timestamp, sensor_reading: value, data_quality: quality }) => {
      const at = Date.parse(timestamp) / 1000;
      return { from: at, until: at, value, min: value, max: value, quality };
    })
    .filter(({ from }) => !Number.isNaN(from));
  return withGaps(points, own.length < samples.length);
}

/** A reading that arrived. `at`: seconds since 1970. */
export interface LiveReading {
  at: number;
  value: number | null;
  quality: string;
}

/** The most points of a trend that goes on with what arrives. */
export const LIVE_POINTS = 6000;

/** Adds readings that arrived, oldest first, and drops what was before `from`. One that is not newer than the newest is in the history at the next look. */
export function withLive(trend: Trend, readings: readonly LiveReading[], from: number): Trend {
  const newest = trend.times.at(-1) ?? Number.NEGATIVE_INFINITY;
  const fresh = readings.filter(({ at }) => at > newest && at >= from);
  if (fresh.length === 0) return trend;
  const begin = Math.max(
    trend.times.findIndex((time, index) => time + (trend.widths[index] ?? 0) / 2 >= from),
    trend.times.length + fresh.length - LIVE_POINTS,
    newest < from ? trend.times.length : 0,
  );
  const next: Trend = {
    times: trend.times.slice(begin),
    widths: trend.widths.slice(begin),
    values: trend.values.slice(begin),
    mins: trend.mins.slice(begin),
    maxs: trend.maxs.slice(begin),
    qualities: trend.qualities.slice(begin),
    hasOtherUnits: trend.hasOtherUnits,
  };
  const usual = median(next.times.slice(1).map((time, index) => time - (next.times[index] as number))) ?? 0;
  let last = next.times.at(-1);
  for (const { at, value, quality } of fresh) {
    if (last !== undefined && at <= last) continue;
    if (last !== undefined && at - last > limitOf(usual, 0)) pushGap(next, (last + at) / 2);
    push(next, { from: at, until: at, value, min: value, max: value, quality });
    last = at;
  }
  return next;
}

/** Places of values that have none beside them: a line between two points does not show them. */
export function isolated(values: readonly (number | null | undefined)[]): number[] {
  const isNone = (index: number) => values[index] === null || values[index] === undefined;
  return values.flatMap((_, index) => (!isNone(index) && isNone(index - 1) && isNone(index + 1) ? [index] : []));
}

function push(trend: Trend, { from, until, value, min, max, quality }: Point): void {
  trend.times.push((from + until) / 2);
  trend.widths.push(until - from);
  trend.values.push(value);
  trend.mins.push(min);
  trend.maxs.push(max);
  trend.qualities.push(quality);
}
const pushGap = (trend: Trend, at: number) => push(trend, { from: at, until: at, value: null, min: null, max: null, quality: '' });

/** Puts an empty point into each pause, so that no line is drawn across it. */
function withGaps(unsorted: readonly Point[], hasOtherUnits: boolean): Trend {
  const points = [...unsorted].sort((a, b) => a.from - b.from);
  const usual = usualPauses(points);
  const trend = { ...empty(), hasOtherUnits };
  points.forEach((point, index) => {
    const before = points[index - 1];
    // Two of the same time would be two values of one point.
    if (before && point.from < before.until) return;
    if (before) {
      const limit = Math.max(...[before, point].map((one) => limitOf(usual.get(widthOf(one)) ?? 0, widthOf(one))));
      if (point.from - before.from > limit) pushGap(trend, (before.until + point.from) / 2);
    }
    push(trend, point);
  });
  return trend;
}

/** In milliseconds: seconds are not exact. */
const widthOf = ({ from, until }: Point): number => Math.round((until - from) * 1000);

/** How far apart points of each width begin. Older ones are wider, and need not be told apart by what is usual for the newest. */
function usualPauses(points: readonly Point[]): Map<number, number> {
  const pauses = new Map<number, number[]>();
  points.forEach((point, index) => {
    const before = points[index - 1];
    const width = widthOf(point);
    if (!before || widthOf(before) !== width) return;
    const known = pauses.get(width);
    if (known) known.push(point.from - before.from);
    else pauses.set(width, [point.from - before.from]);
  });
  return new Map([...pauses].map(([width, all]) => [width, median(all) ?? 0]));
}

/** A pause longer than this is a gap. */
function limitOf(usual: number, widthMs: number): number {
  const width = widthMs / 1000;
  const isDense = width > 0 && usual <= MISSING * width;
  return Math.max(LEAST_GAP_S, isDense ? MISSING * width : GAP * usual);
}

function median(numbers: readonly number[]): number | undefined {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
