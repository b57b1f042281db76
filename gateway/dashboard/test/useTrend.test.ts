import { createApp, effectScope, nextTick, ref, shallowRef, type EffectScope } from 'vue';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { EMPTY_VIEW, RestError, type Bucket, type Chart, type DeviceView, type Sample } from '../src/client';
import { gatewayPlugin } from '../src/client/composables';
import { Gateway } from '../src/client/gateway';
import { useTrend } from '../src/parts/useTrend';
import { FakeLink } from './fakeLink';

const NOW = Date.parse('2026-11-26T10:00:00.000Z');
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** How long the history is left alone after an answer. */
const PAUSE = 5000;
const iso = (at: number) => new Date(at).toISOString();
const sample = (at: number, value: number): Sample => ({ timestamp: iso(at), sensor_reading: value, data_quality: 'good', unit: 'ppm' });
const answer = (more: Partial<Chart>): Chart => ({ samples: [], buckets: [], bucketMs: 0, spans: [], spansIncompleteBefore: undefined, reachesFrom: undefined, ...more });
/** The last of the buckets of a time. */
const buckets = (until: number, width: number): Partial<Chart> => ({
  samples: null,
  bucketMs: width,
  buckets: [{ from: iso(until - width), until: iso(until), min: 1, max: 9, mean: 5, count: 3, unit: 'ppm', alarm_status: 'NORMAL', data_quality: 'good' } as Bucket],
});

interface Request {
  from: number;
  until: number;
  succeed: (chart: Partial<Chart>) => Promise<void>;
  fail: (status: number) => Promise<void>;
}
let requests: Request[];
let link: FakeLink;
let scope: EffectScope;
const length = ref(HOUR);
const view = shallowRef<DeviceView>(EMPTY_VIEW);

const rest = {
  chart: (_: string, from: number, until: number) =>
    new Promise<Chart>((resolve, reject) => {
      const after = async (done: () => void) => {
        done();
        await vi.advanceTimersByTimeAsync(0);
      };
      requests.push({
        from,
        until,
        succeed: (chart) => after(() => resolve(answer(chart))),
        fail: (status) => after(() => reject(new RestError(status, 'busy', 'Too busy'))),
      });
    }),
};

/** A reading arrives. */
async function arrives(seq: number, value: number, at = Date.now(), more: Partial<DeviceView> = {}) {
  const reading = { sensor_reading: value, unit: 'ppm', processed_at: iso(at), data_quality: 'good' } as NonNullable<DeviceView['reading']>;
  view.value = { ...view.value, reading, committedAt: iso(at), seen: { epoch: 'e', seq }, ...more };
  await nextTick();
}
const alarm = (id: string) => ({ id, severity: 'high', timestamp: iso(Date.now()), raised_at: iso(Date.now()), cleared_at: null }) as DeviceView['alarms'][number];

async function shown() {
  const gateway = new Gateway({ link });
  link.join();
  scope = effectScope();
  const app = createApp({}).use(gatewayPlugin(gateway));
  const has = app.runWithContext(() => scope.run(() => useTrend({ deviceId: () => 'a', view: () => view.value, length: () => length.value, rest })));
  await nextTick();
  if (!has) throw new Error('nothing is shown');
  return has;
}
const passes = (ms: number) => vi.advanceTimersByTimeAsync(ms);

beforeEach(async () => {
  vi.useFakeTimers({ now: NOW });
  requests = [];
  link = new FakeLink();
  length.value = HOUR;
  view.value = EMPTY_VIEW;
  await arrives(1, 10, NOW - 1000);
});
afterEach(() => {
  scope.stop();
  vi.useRealTimers();
});

describe('a trend', () => {
  it('has a reading that arrives while its history is read', async () => {
    const has = await shown();
    await requests[0]?.succeed({ samples: [sample(NOW - 2000, 9), sample(NOW - 1000, 10)] });
    await passes(MINUTE);
    expect(requests, 'the history is read again').toHaveLength(2);
    await arrives(2, 612);
    // It is newer than what the server read.
    await requests[1]?.succeed({ samples: [sample(NOW - 2000, 9), sample(NOW - 1000, 10)] });
    expect(has.trend.value.values.filter((value) => value !== null)).toEqual([9, 10, 612]);
    // The next answer has it.
    await passes(MINUTE);
    await requests[2]?.succeed({ samples: [sample(NOW - 1000, 10), sample(NOW + MINUTE, 612)] });
    expect(has.trend.value.values.filter((value) => value !== null)).toEqual([10, 612]);
  });

  it('asks for what it misses once at a time, and gets it', async () => {
    const has = await shown();
    // Each second reading does not arrive.
    for (let seq = 3; seq < 60; seq += 2) await arrives(seq, seq);
    expect(requests, 'one is under way').toHaveLength(1);
    await requests[0]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    expect(has.trend.value.values).toContain(10);
    await passes(PAUSE);
    expect(requests, 'and one has waited').toHaveLength(2);
    await requests[1]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    await passes(PAUSE);
    expect(requests).toHaveLength(2);
  });

  it('shows what was read before with its own times, until another time has been read', async () => {
    const has = await shown();
    await requests[0]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    length.value = 90 * 24 * HOUR;
    await nextTick();
    expect([has.until.value - has.from.value, has.isComing.value]).toEqual([HOUR, true]);
    await requests[1]?.fail(503);
    expect([has.until.value - has.from.value, has.isComing.value, has.failure.value]).toEqual([HOUR, true, 'Too busy']);
    // It is tried again by itself.
    await passes(MINUTE);
    expect(requests[2]).toBeDefined();
    await requests[2]?.succeed(buckets(Date.now(), HOUR));
    expect([has.until.value - has.from.value, has.isComing.value, has.failure.value]).toEqual([90 * 24 * HOUR, false, '']);
  });

  it('shows a part that is zoomed into when it has been read, and goes back', async () => {
    const has = await shown();
    await requests[0]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    has.zoomTo(NOW - 40 * MINUTE, NOW - 30 * MINUTE);
    expect([has.isZoomed.value, has.until.value - has.from.value]).toEqual([true, HOUR]);
    await requests[1]?.succeed({ samples: [sample(NOW - 35 * MINUTE, 7)] });
    expect([has.from.value, has.until.value, has.asOf.value]).toEqual([NOW - 40 * MINUTE, NOW - 30 * MINUTE, null]);
    await arrives(2, 900);
    expect(has.trend.value.values, 'what arrives is no part of it').toEqual([7]);
    has.zoomBack();
    await requests[2]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    expect([has.isZoomed.value, has.trend.value.values.at(-1)]).toEqual([false, 900]);
  });

  it('is moved neither into the future nor beyond its range', async () => {
    const has = await shown();
    await requests[0]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    has.zoomTo(NOW - 5 * MINUTE, NOW + 5 * MINUTE);
    await requests[1]?.succeed({ samples: [sample(NOW - 1000, 10)] });
    expect([has.from.value, has.until.value]).toEqual([NOW - 10 * MINUTE, NOW]);
    has.zoomTo(NOW - HOUR - MINUTE, NOW - MINUTE);
    await requests[2]?.succeed({ samples: [sample(NOW - 30 * MINUTE, 10)] });
    expect([has.isZoomed.value, has.until.value]).toEqual([true, NOW - MINUTE]);
    has.zoomTo(NOW - HOUR + MINUTE, NOW + MINUTE);
    expect(has.isZoomed.value, 'all of the range is the range, which goes on').toBe(false);
    has.zoomTo(NOW - 30 * MINUTE, NOW - 20 * MINUTE);
    has.zoomTo(NOW - 2 * HOUR, NOW);
    expect(has.isZoomed.value).toBe(false);
  });

  it('of months is read again within minutes, and says as of when it is', async () => {
    length.value = 90 * 24 * HOUR;
    const has = await shown();
    await requests[0]?.succeed(buckets(NOW, 4 * HOUR));
    expect(has.asOf.value).toBe(NOW);
    await passes(5 * MINUTE);
    expect(requests).toHaveLength(2);
    await requests[1]?.succeed(buckets(NOW, 4 * HOUR));
    expect(has.asOf.value).toBe(NOW + 5 * MINUTE);
  });

  it('is read again when an alarm changes, and when the connection is back', async () => {
    length.value = 24 * HOUR;
    const has = await shown();
    await requests[0]?.succeed(buckets(NOW, HOUR));
    await passes(PAUSE);
    await arrives(2, 612, Date.now(), { alarms: [alarm('x')] });
    expect(requests).toHaveLength(2);
    expect(has.spans.value.map(({ until, severity }) => [until, severity])).toEqual([[null, 'high']]);
    await requests[1]?.succeed(buckets(NOW, HOUR));
    await passes(PAUSE);
    link.lose('transport close');
    await nextTick();
    link.join();
    await nextTick();
    expect(requests).toHaveLength(3);
  });
});
