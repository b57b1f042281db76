import { afterEach, describe, expect, it, vi } from 'vitest';

import { Rest, type Sample, type SitePlan } from '../src/client/rest';

const rest = new Rest(() => ({ token: 'a.b.c', csrfToken: 'csrf' }));

/** Answers each request with what `answer` returns, and returns the requests. */
function serve(answer: (url: URL, init: RequestInit) => { status?: number; body: unknown }) {
  const requests: { url: URL; init: RequestInit }[] = [];
  vi.stubGlobal('fetch', async (path: string, init: RequestInit) => {
    const url = new URL(path, 'http://gateway.test');
    requests.push({ url, init });
    const { status, body } = answer(url, init);
    return new Response(JSON.stringify(body), { status: status ?? 200 });
  });
  return requests;
}
afterEach(() => vi.unstubAllGlobals());

describe('a request', () => {
  it('shows who sends it, and that a page of ours means it', async () => {
    const requests = serve(() => ({ body: { success: true } }));
    await rest.acknowledge('a/b', 'x', { epoch: 'e', seq: 7 });
    const [request] = requests;
    expect(request?.url.pathname).toBe('/devices/a%2Fb/subtronics/alerts/x/acknowledge');
    expect(request?.init.headers).toMatchObject({ authorization: 'Bearer a.b.c', 'x-csrf-token': 'csrf' });
    expect(JSON.parse(String(request?.init.body))).toEqual({ seen: { epoch: 'e', seq: 7 } });
  });

  it('has the note of whoever acknowledges, and no field without one', async () => {
    const requests = serve(() => ({ body: { success: true } }));
    await rest.acknowledge('a', 'x', { epoch: 'e', seq: 7 }, ' The crew is on its way. ');
    await rest.acknowledge('a', 'x', { epoch: 'e', seq: 7 }, '  ');
    const seen = { epoch: 'e', seq: 7 };
    expect(requests.map(({ init }) => JSON.parse(String(init.body)))).toEqual([{ seen, note: 'The crew is on its way.' }, { seen }]);
  });

  it('has the name of whoever acknowledges without a token', async () => {
    const requests = serve(() => ({ body: { success: true } }));
    await rest.acknowledge('a', 'x', { epoch: 'e', seq: 7 }, '', ' Asha ');
    await rest.acknowledge('a', 'x', { epoch: 'e', seq: 7 }, '', ' ');
    const seen = { epoch: 'e', seq: 7 };
    expect(requests.map(({ init }) => JSON.parse(String(init.body)))).toEqual([{ seen, acknowledged_by: 'Asha' }, { seen }]);
  });

  it('is answered with what became of an acknowledgement', async () => {
    const results = async (status: number, body: unknown) => {
      serve(() => ({ status, body }));
      return (await rest.acknowledge('a', 'x', { epoch: 'e', seq: 1 })).result;
    };
    expect(await results(200, { success: true })).toBe('done');
    expect(await results(200, { success: true, escalated: true })).toBe('escalated');
    expect(await results(404, { error_message: 'Alert not found' })).toBe('gone');
    expect(await results(403, { error_message: 'Not allowed' })).toBe('forbidden');
    expect(await results(503, { error_message: 'Redis is away' })).toBe('failed');
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('failed')));
    expect((await rest.acknowledge('a', 'x', { epoch: 'e', seq: 1 })).result).toBe('failed');
  });

  it('changes what operators say of a device only if it is the one that was read', async () => {
    vi.stubGlobal('fetch', async () => new Response(JSON.stringify({ success: true, name: 'Boiler' }), { headers: { etag: 'W/"1f"' } }));
    const { profile, tag } = await rest.profile('a/b');
    expect([profile.name, tag]).toEqual(['Boiler', 'W/"1f"']);
    const requests = serve(() => ({ status: 412, body: { error_code: 'changed', error_message: 'It was changed meanwhile' } }));
    await expect(rest.changeProfile('a/b', tag, { name: null })).rejects.toMatchObject({ status: 412, code: 'changed' });
    const [request] = requests;
    expect([request?.init.method, request?.url.pathname]).toEqual(['PUT', '/api/devices/a%2Fb/profile']);
    expect(request?.init.headers).toMatchObject({ 'if-match': 'W/"1f"', 'content-type': 'application/json' });
    expect(request?.init.body).toBe('{"name":null}');
  });

  it('fails if the answer breaks off, whatever was asked for', async () => {
    const cut = () => new ReadableStream({ start: (body) => body.enqueue(new TextEncoder().encode('{"logs":[')), pull: (body) => body.error(new TypeError('terminated')) });
    vi.stubGlobal('fetch', async () => new Response(cut()));
    const failure = { status: 0, code: 'no_answer' };
    await expect(rest.alarmLog({})).rejects.toMatchObject(failure);
    await expect(rest.chart('a', 0, 1000, 600)).rejects.toMatchObject(failure);
    await expect(rest.planImage({ id: 'x' } as SitePlan)).rejects.toMatchObject(failure);
    expect((await rest.acknowledge('a', 'x', { epoch: 'e', seq: 1 })).result).toBe('failed');
    // An empty one is no list either. Where nothing is answered, nothing is missing.
    vi.stubGlobal('fetch', async () => new Response(''));
    await expect(rest.sitePlans()).rejects.toMatchObject(failure);
    await rest.signOut();
  });

  const sample = (at: number, index: number): Sample => ({ timestamp: new Date(at).toISOString(), sensor_reading: index, data_quality: 'good' });
  /** Answers requests for the history as the server does. */
  const serveHistory = (all: Sample[], more: object = {}) =>
    serve((url) => {
      const until = Number(url.searchParams.get('until'));
      const samples = all.filter(({ timestamp }) => Date.parse(timestamp) <= until).slice(-Number(url.searchParams.get('limit')));
      return { body: { device_id: 'a', count: samples.length, samples, buckets: [], bucket_ms: 6000, ...more } };
    });
  const HOUR = 3_600_000;

  it('reads every sample of a short time, each once', async () => {
    // Three in each millisecond: pages end in the middle of one.
    const requests = serveHistory(Array.from({ length: 2500 }, (_, index) => sample(1_000_000 + Math.floor(index / 3), index)));
    const { samples } = await rest.chart('a', 0, HOUR, 600);
    expect(samples).toHaveLength(2500);
    expect(new Set(samples?.map(({ sensor_reading: value }) => value)).size).toBe(samples?.length);
    expect(samples?.at(-1)?.sensor_reading).toBe(2499);
    expect(samples?.[0]?.sensor_reading).toBe(0);
    // Buckets and alarms come with the first answer, and are not made again for each page.
    expect(requests.map(({ url }) => url.searchParams.get('points'))).toEqual(['600', null, null]);
  });

  it('reads no samples of a long time, and not endlessly many of a short one', async () => {
    const bucket = { from: new Date(0).toISOString(), until: new Date(5999).toISOString(), min: 1, max: 9, mean: 2, count: 3, unit: 'ppm', alarm_status: 'NORMAL', data_quality: 'good' };
    const requests = serveHistory([sample(0, 1)], { buckets: [bucket], reaches_from: '2026-01-01T00:00:00.000Z' });
    const long = await rest.chart('a', 0, HOUR + 1, 600);
    expect(long).toMatchObject({ samples: null, buckets: [bucket], bucketMs: 6000, reachesFrom: '2026-01-01T00:00:00.000Z' });
    expect(requests).toHaveLength(1);
    const many = serveHistory(Array.from({ length: 30_000 }, (_, index) => sample(index, index)), { buckets: [bucket] });
    const short = await rest.chart('a', 0, HOUR, 600);
    expect(short).toMatchObject({ samples: null, buckets: [bucket] });
    expect(many.length).toBeLessThan(6);
  });

  it('reads buckets of a short time of which not every sample is kept', async () => {
    // Buckets of samples would have six seconds. These are of a rollup.
    const minutes = serveHistory([sample(HOUR - 1, 1)], { bucket_ms: 60_000, buckets: [{ count: 60 }] });
    expect(await rest.chart('a', 0, HOUR, 600)).toMatchObject({ samples: null, bucketMs: 60_000, buckets: [{ count: 60 }] });
    expect(minutes).toHaveLength(1);
    serveHistory([sample(1, 1)], { bucket_ms: 6001 });
    expect((await rest.chart('a', 0, HOUR, 600)).samples).toHaveLength(1);
  });

  it('reads a table of samples or of buckets as it is', async () => {
    const asked: string[] = [];
    vi.stubGlobal('fetch', async (path: string) => {
      asked.push(path);
      return new Response('from,until\r\n');
    });
    const table = await rest.historyTable('a/b', { from: 5, until: 9, points: 600 });
    expect(await table.text()).toBe('from,until\r\n');
    await rest.historyTable('a/b', { from: 5, until: 9 });
    expect(asked).toEqual(['/api/devices/a%2Fb/history.csv?from=5&until=9&points=600', '/api/devices/a%2Fb/history.csv?from=5&until=9']);
    serve(() => ({ status: 503, body: { error_code: 'busy', error_message: 'Too busy' } }));
    await expect(rest.historyTable('a', { from: 5, until: 9 })).rejects.toMatchObject({ status: 503, message: 'Too busy' });
  });

  it('tells the time of the server', async () => {
    vi.stubGlobal('fetch', async () => new Response('{}', { headers: { date: 'Thu, 26 Nov 2026 10:00:00 GMT' } }));
    const dates: string[] = [];
    rest.onDate = (date) => dates.push(date);
    await rest.health();
    expect(dates).toEqual(['Thu, 26 Nov 2026 10:00:00 GMT']);
  });
});
