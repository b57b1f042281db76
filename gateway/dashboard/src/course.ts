// The course of a reading for the chart: what is stored, and what arrives while it is shown.
import type { Bucket, History, Sample } from './client';

export interface Course {
  /** Seconds since 1970, rising. */
  times: number[];
  /** `null`: a gap. */
  values: (number | null)[];
  mins: (number | null)[];
  maxs: (number | null)[];
  qualities: string[];
}

export const EMPTY_COURSE: Course = { times: [], values: [], mins: [], maxs: [], qualities: [] };

/** A pause longer than so many usual ones is a gap. */
const GAP = 4;
const LEAST_GAP_S = 15;

export function courseOf(history: Pick<History, 'samples' | 'buckets'>): Course {
  return history.buckets && history.buckets.length > 0 ? ofBuckets(history.buckets) : ofSamples(history.samples);
}

function ofBuckets(buckets: readonly Bucket[]): Course {
  const course = empty();
  for (const bucket of buckets) {
    const at = (Date.parse(bucket.from) + Date.parse(bucket.until)) / 2000;
    if (bucket.count === 0) push(course, at, null, null, null, '');
    else push(course, at, bucket.mean, bucket.min, bucket.max, bucket.data_quality ?? bucket.quality ?? '');
  }
  return withGaps(course);
}

function ofSamples(samples: readonly Sample[]): Course {
  const course = empty();
  const sorted = samples
    .map((sample) => ({ at: Date.parse(sample.timestamp) / 1000, sample }))
    .filter(({ at }) => !Number.isNaN(at))
    .sort((a, b) => a.at - b.at);
  for (const { at, sample } of sorted) {
    const { sensor_reading: value, data_quality: quality } = sample;
    push(course, at, value, value, value, quality);
  }
  return withGaps(course);
}

/** Adds a reading that just arrived. Older ones than the newest are in the history at the next look. */
export function withLive(course: Course, at: number, value: number | null, quality: string): Course {
  const last = course.times.at(-1);
  if (last !== undefined && at <= last) return course;
  const next: Course = {
    times: [...course.times],
    values: [...course.values],
    mins: [...course.mins],
    maxs: [...course.maxs],
    qualities: [...course.qualities],
  };
  if (last !== undefined && at - last > gapOf(course.times)) push(next, (last + at) / 2, null, null, null, '');
  push(next, at, value, value, value, quality);
  return next;
}

const empty = (): Course => ({ times: [], values: [], mins: [], maxs: [], qualities: [] });

function push(course: Course, at: number, value: number | null, min: number | null, max: number | null, quality: string): void {
  course.times.push(at);
  course.values.push(value);
  course.mins.push(min);
  course.maxs.push(max);
  course.qualities.push(quality);
}

/** Puts an empty point into each pause, so that no line is drawn across it. */
function withGaps(course: Course): Course {
  const limit = gapOf(course.times);
  const result = empty();
  course.times.forEach((at, index) => {
    const before = course.times[index - 1];
    if (before !== undefined && at - before > limit) push(result, (before + at) / 2, null, null, null, '');
    push(result, at, course.values[index] ?? null, course.mins[index] ?? null, course.maxs[index] ?? null, course.qualities[index] ?? '');
  });
  return result;
}

function gapOf(times: readonly number[]): number {
  const pauses = times
    .slice(1)
    .map((at, index) => at - (times[index] as number))
    .sort((a, b) => a - b);
  const usual = pauses[Math.floor(pauses.length / 2)] ?? LEAST_GAP_S;
  return Math.max(LEAST_GAP_S, usual * GAP);
}
