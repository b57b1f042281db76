// What a key does to the chart of a trend that has the focus. Pure.

/** What is drawn: the points in seconds since 1970, rising, and the time of the axis in milliseconds. */
export interface Drawn {
  times: readonly number[];
  from: number;
  until: number;
  /** Before it nothing is kept; `null` if that is outside. */
  keptFrom: number | null;
  /** Where the cursor is, in seconds. */
  cursor: number | null;
}

export type TrendMove = { to: 'point'; at: number } | { to: 'time'; from: number; until: number } | { to: 'start' };

/** So many points at once. */
const LEAP = 10;

/** `null`: the key is not one of the chart, or there is nothing further. */
export function trendMove(key: string, isShift: boolean, drawn: Drawn): TrendMove | null {
  switch (key) {
    case 'ArrowLeft':
      return isShift ? pan(drawn, -0.5) : step(drawn, -1);
    case 'ArrowRight':
      return isShift ? pan(drawn, 0.5) : step(drawn, 1);
    case 'PageUp':
      return step(drawn, -LEAP);
    case 'PageDown':
      return step(drawn, LEAP);
    case 'Home':
      return step(drawn, Number.NEGATIVE_INFINITY);
    case 'End':
      return step(drawn, Number.POSITIVE_INFINITY);
    case '+':
    case '=':
      return zoom(drawn, 0.5);
    case '-':
    case '_':
      return zoom(drawn, 2);
    case '0':
    case 'Escape':
      return { to: 'start' };
    default:
      return null;
  }
}

/** The first key brings the cursor to the newest point, or to the end that was asked for. */
function step({ times, from, until, cursor }: Drawn, by: number): TrendMove | null {
  const seen = times.filter((at) => at >= from / 1000 && at <= until / 1000);
  const last = seen.length - 1;
  if (last < 0) return null;
  const isInside = cursor !== null && cursor * 1000 >= from && cursor * 1000 <= until;
  // Its own point may be gone.
  const begin = !isInside ? -1 : by < 0 ? seen.findIndex((at) => at >= cursor) : seen.findLastIndex((at) => at <= cursor);
  const to = begin < 0 && Number.isFinite(by) ? last : Math.min(last, Math.max(0, begin + by));
  return { to: 'point', at: seen[to] as number };
}

/** What is under the cursor stays where it is. */
function zoom({ from, until, cursor }: Drawn, by: number): TrendMove {
  const inside = cursor !== null && cursor * 1000 >= from && cursor * 1000 <= until;
  const around = inside ? cursor * 1000 : (from + until) / 2;
  return { to: 'time', from: around - (around - from) * by, until: around + (until - around) * by };
}

function pan({ from, until, keptFrom }: Drawn, by: number): TrendMove | null {
  if (by < 0 && keptFrom !== null) return null;
  const far = (until - from) * by;
  return { to: 'time', from: from + far, until: until + far };
}
