// What the chart of one detector shows: the history of the time that is wanted, and the readings that arrive. What is drawn is always what was
// read for the time of its axis: until another time has been read, the one before stays.
import { computed, onScopeDispose, ref, shallowRef, watch, type ComputedRef, type Ref, type ShallowRef } from 'vue';

import { alarmSpans, type AlarmSpan } from '../alarmSpans';
import { RestError, SHORT_MS, useLinkState, useServerClock, type Chart, type DeviceView, type Rest } from '../client';
import { EMPTY_TREND, LIVE_POINTS, trendOfBuckets, trendOfSamples, withLive, type LiveReading, type Trend } from '../trend';

/** The most buckets of a time. */
export const POINTS = 600;
/** Nothing is to be seen in less. */
const LEAST_MS = 10_000;
const TICK_MS = 5000;
/** After each answer the history is left alone for so long, however often something seems to be missing. */
const PAUSE_MS = 5000;
/** So old may be what is drawn: as long as a bucket is, within these. */
const LEAST_PERIOD_MS = 60_000;
const LONGEST_PERIOD_MS = 5 * 60_000;
const AFTER_FAILURE_MS = 30_000;
const NO_CHART: Chart = { samples: [], buckets: [], bucketMs: 0, spans: [], spansIncompleteBefore: undefined, reachesFrom: undefined };

/** The last so many milliseconds, or what somebody zoomed into. */
interface Wanted {
  length: number;
  zoom: { from: number; until: number } | null;
}
/** What was read for it, in milliseconds since 1970. */
interface Shown {
  wanted: Wanted;
  chart: Chart;
  from: number;
  until: number;
}

interface TrendSource {
  deviceId: () => string;
  view: () => DeviceView;
  /** How long the time is that is wanted. */
  length: () => number;
  rest: Pick<Rest, 'chart'>;
}

interface ShownTrend {
  trend: Readonly<ShallowRef<Trend>>;
  spans: ComputedRef<AlarmSpan[]>;
  /** `null`: nothing was read yet. */
  chart: ComputedRef<Chart | null>;
  from: ComputedRef<number>;
  until: ComputedRef<number>;
  /** What is shown does not go on by itself: when it was read. */
  asOf: ComputedRef<number | null>;
  /** What is wanted is not what is drawn. */
  isComing: ComputedRef<boolean>;
  failure: Readonly<Ref<string>>;
  isZoomed: ComputedRef<boolean>;
  zoomTo: (begin: number, end: number) => void;
  zoomBack: () => void;
}

/** In a longer time one more reading is no point of the chart. */
const goesOn = ({ length, zoom }: Wanted): boolean => zoom === null && length <= SHORT_MS;

export function useTrend({ deviceId, view, length, rest }: TrendSource): ShownTrend {
  const link = useLinkState();
  const wanted = shallowRef<Wanted>({ length: length(), zoom: null });
  const shown = shallowRef<Shown | null>(null);
  const trend = shallowRef<Trend>(EMPTY_TREND);
  const failure = ref('');
  const serverNow = useServerClock();
  const newest = ref(serverNow());
  const unit = () => view().reading?.unit ?? '';
  /** Readings that arrived and are perhaps in no answer yet. */
  let recent: (LiveReading & { unit: string })[] = [];
  let run = 0;
  let isReading = false;
  let isAskedAgain = false;
  let askedAt = 0;
  /** The connection was lost, and what arrived meanwhile did not arrive here. */
  let wasAway = false;
  let pause: ReturnType<typeof setTimeout> | undefined;

  const isLive = computed(() => shown.value !== null && goesOn(shown.value.wanted));
  const until = computed(() => (shown.value && !isLive.value ? shown.value.until : newest.value));
  const from = computed(() => (shown.value && !isLive.value ? shown.value.from : until.value - (shown.value?.wanted ?? wanted.value).length));

  /** Reads what is wanted. What was asked for before is not waited for. */
  async function read() {
    run += 1;
    const mine = run;
    isReading = true;
    isAskedAgain = false;
    clearTimeout(pause);
    pause = undefined;
    askedAt = Date.now();
    const asked = wanted.value;
    const to = asked.zoom?.until ?? serverNow();
    const begin = asked.zoom?.from ?? to - asked.length;
    try {
      const chart = await rest.chart(deviceId(), Math.round(begin), Math.round(to), POINTS).catch(orNone);
      if (mine !== run) return;
      failure.value = '';
      if (asked.zoom === null) {
        newest.value = goesOn(asked) ? Math.max(to, ...recent.slice(-1).map(({ at }) => at * 1000)) : to;
        const covered = goesOn(asked) ? coveredBy(chart, to) : to;
        recent = recent.filter(({ at }) => at * 1000 > covered);
      }
      shown.value = { wanted: asked, chart, from: begin, until: to };
      draw();
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      if (mine === run) failure.value = error.message;
    } finally {
      if (mine === run) {
        isReading = false;
        pause = setTimeout(() => {
          pause = undefined;
          if (isAskedAgain) void read();
        }, PAUSE_MS);
      }
    }
  }

  /** Something may be missing in what is drawn. One request is under way, and one waits. */
  function readAgain() {
    if (isReading || pause) isAskedAgain = true;
    else void read();
  }

  function draw() {
    if (!shown.value) trend.value = EMPTY_TREND;
    else {
      const { samples, buckets } = shown.value.chart;
      const stored = samples ? trendOfSamples(samples, unit()) : trendOfBuckets(buckets, unit());
      // What arrived while the history was read is in no answer.
      const own = recent.filter((reading) => reading.unit === unit());
      trend.value = isLive.value ? withLive(stored, own, from.value / 1000) : stored;
    }
  }

  function want(next: Wanted) {
    wanted.value = next;
    failure.value = '';
    void read();
  }
  watch(
    [deviceId, length],
    ([id], [before]) => {
      if (before !== undefined && id !== before) {
        shown.value = null;
        recent = [];
        draw();
      }
      if (!shown.value) newest.value = serverNow();
      want({ length: length(), zoom: null });
    },
    { immediate: true },
  );
  // Readings in another unit are no part of the trend.
  watch(unit, draw);
  watch(
    () => view().seen,
    (seen, before) => {
      // After a gap the server may have stored what did not arrive here.
      if (goesOn(wanted.value) && seen && before && (seen.epoch !== before.epoch || seen.seq - before.seq > 1)) readAgain();
      const { reading, committedAt, stale } = view();
      if (!reading || stale || !committedAt) return;
      const at = Date.parse(reading.processed_at);
      const arrived = { at: at / 1000, value: reading.sensor_reading, quality: reading.data_quality, unit: reading.unit };
      recent = [...recent, arrived].filter((one) => one.at * 1000 > at - SHORT_MS).slice(-LIVE_POINTS);
      if (!isLive.value) return;
      newest.value = Math.max(newest.value, at);
      trend.value = withLive(trend.value, [arrived], from.value / 1000);
    },
  );
  // An alarm was raised, has ended, or is at another level.
  watch(
    [() => view().alarms.map(({ id, timestamp }) => `${id} ${timestamp}`).join(), () => view().seen] as const,
    ([alarms], [before, seenBefore]) => {
      // What was open when they arrived first was asked for with the history.
      if (alarms !== before && seenBefore) readAgain();
    },
  );
  watch(
    () => link.value.phase,
    (phase, before) => {
      if (before === 'live') wasAway = true;
      if (phase !== 'live' || !wasAway) return;
      wasAway = false;
      readAgain();
    },
  );
  const zoomBack = () => {
    if (wanted.value.zoom) want({ length: length(), zoom: null });
  };
  const ticking = setInterval(() => {
    if (isLive.value) newest.value = Math.max(newest.value, serverNow());
    const bucketMs = shown.value && !isLive.value ? shown.value.chart.bucketMs : 0;
    const period = failure.value ? AFTER_FAILURE_MS : Math.min(LONGEST_PERIOD_MS, Math.max(LEAST_PERIOD_MS, bucketMs));
    if (Date.now() - askedAt >= period) readAgain();
  }, TICK_MS);
  onScopeDispose(() => {
    run += 1;
    clearTimeout(pause);
    clearInterval(ticking);
  });

  return {
    trend,
    spans: computed(() => (shown.value ? alarmSpans(shown.value.chart.spans, shown.value.until, view()) : [])),
    chart: computed(() => shown.value?.chart ?? null),
    from,
    until,
    asOf: computed(() => (shown.value && !isLive.value && shown.value.wanted.zoom === null ? shown.value.until : null)),
    isComing: computed(() => shown.value?.wanted !== wanted.value),
    failure,
    isZoomed: computed(() => wanted.value.zoom !== null),
    zoomTo: (begin, end) => {
      const middle = (begin + end) / 2;
      const half = Math.max(end - begin, LEAST_MS) / 2;
      // There is nothing in the future.
      const back = Math.max(0, middle + half - serverNow());
      // Wider than the range, or all of it up to now, is the range.
      const wider = 2 * half - length();
      if (wider > 1 || (back > 0 && wider > -1)) return zoomBack();
      want({ length: length(), zoom: { from: middle - half - back, until: middle + half - back } });
    },
    zoomBack,
  };
}

/** A detector that has sent nothing yet has no history either. */
function orNone(error: unknown): Chart {
  if (error instanceof RestError && error.status === 404) return NO_CHART;
  throw error;
}

/** Up to when an answer has everything, in milliseconds. */
function coveredBy({ samples, buckets }: Chart, to: number): number {
  const last = samples ? samples.at(-1)?.timestamp : buckets.at(-1)?.until;
  return last === undefined ? Number.NEGATIVE_INFINITY : Math.min(to, Date.parse(last));
}
