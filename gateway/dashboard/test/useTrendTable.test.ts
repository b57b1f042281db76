import { effectScope, nextTick, ref, shallowRef, type EffectScope } from 'vue';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { RestError, type Chart } from '../src/client';
import { useTrendTable } from '../src/parts/useTrendTable';

const FROM = Date.parse('2026-10-28T03:00:00.000Z');
const UNTIL = Date.parse('2026-11-27T03:00:00.000Z');
const answer = (more: Partial<Chart>): Chart => ({ samples: null, buckets: [], bucketMs: 0, spans: [], spansIncompleteBefore: undefined, reachesFrom: undefined, ...more });

let scope: EffectScope;
let files: { name: string; bytes: Promise<ArrayBuffer> }[];
const id = ref('a/b');
const chart = shallowRef<Chart | null>(null);
const historyTable = vi.fn<(deviceId: string, time: object) => Promise<Blob>>();

beforeEach(() => {
  files = [];
  id.value = 'a/b';
  chart.value = answer({});
  historyTable.mockReset().mockImplementation(async () => new Blob(['°C,1\r\n']));
  // What the browser does with a file.
  const link = { href: '', download: '', click: () => files.push({ name: link.download, bytes: blobs.get(link.href)!.arrayBuffer() }) };
  const blobs = new Map<string, Blob>();
  vi.stubGlobal('document', { createElement: () => link });
  vi.spyOn(URL, 'createObjectURL').mockImplementation((blob) => {
    blobs.set(`blob:${blobs.size}`, blob as Blob);
    return `blob:${blobs.size - 1}`;
  });
  vi.spyOn(URL, 'revokeObjectURL').mockImplementation(() => {});
  scope = effectScope();
});
afterEach(() => {
  scope.stop();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const start = () => scope.run(() => useTrendTable({ deviceId: () => id.value, chart, from: ref(FROM + 0.4), until: ref(UNTIL), rest: { historyTable } }))!;

describe('the table of a trend', () => {
  it('has buckets where these are drawn, and each reading where each is', async () => {
    const { save } = start();
    await save();
    chart.value = answer({ samples: [] });
    await save();
    const time = { from: FROM, until: UNTIL };
    expect(historyTable.mock.calls).toEqual([
      ['a/b', { ...time, points: 600 }],
      ['a/b', time],
    ]);
  });

  it('is a file that a spreadsheet reads as UTF-8, whose name says from when on there is something', async () => {
    const { save } = start();
    await save();
    chart.value = answer({ reachesFrom: '2026-11-01T10:30:00.000Z' });
    await save();
    chart.value = answer({ reachesFrom: '2026-12-01T10:30:00.000Z' });
    await save();
    expect(files.map(({ name }) => name)).toEqual([
      'a_b_2026-10-28T03-00-00_2026-11-27T03-00-00.csv',
      'a_b_2026-11-01T10-30-00_2026-11-27T03-00-00.csv',
      'a_b_2026-11-27T03-00-00_2026-11-27T03-00-00.csv',
    ]);
    const bytes = [...new Uint8Array((await files[0]?.bytes) ?? new ArrayBuffer(0))];
    expect(bytes).toEqual([0xef, 0xbb, 0xbf, ...new TextEncoder().encode('°C,1\r\n')]);
  });

  it('is asked for once at a time, and not before anything is shown', async () => {
    const { save } = start();
    await Promise.all([save(), save()]);
    chart.value = null;
    await save();
    expect(historyTable).toHaveBeenCalledTimes(1);
  });

  it('says why there is none, for the detector that is shown', async () => {
    const { save, failure } = start();
    historyTable.mockRejectedValue(new RestError(503, 'busy', 'Too busy'));
    await save();
    expect(failure.value).toBe('Too busy');
    expect(files).toEqual([]);
    id.value = 'c';
    await nextTick();
    expect(failure.value).toBe('');
    await save();
    historyTable.mockImplementation(async () => new Blob([]));
    await save();
    expect([failure.value, files.length]).toEqual(['', 1]);
  });
});
