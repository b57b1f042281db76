// The table of what a trend shows: each reading where each is drawn, buckets where these are drawn.
import { ref, watch, type Ref } from 'vue';

import { RestError, type Chart, type Rest } from '../client';
import { fileTime, fileWord, saveTable } from '../tableFile';
import { POINTS } from './useTrend';

interface TableSource {
  deviceId: () => string;
  chart: Readonly<Ref<Chart | null>>;
  /** The time of the axis, in milliseconds. */
  from: Readonly<Ref<number>>;
  until: Readonly<Ref<number>>;
  rest: Pick<Rest, 'historyTable'>;
}

interface TrendTable {
  failure: Readonly<Ref<string>>;
  save: () => Promise<void>;
}

export function useTrendTable({ deviceId, chart, from, until, rest }: TableSource): TrendTable {
  const failure = ref('');
  let isSaving = false;
  // What failed says nothing about another detector.
  watch(deviceId, () => (failure.value = ''));

  async function save() {
    if (!chart.value || isSaving) return;
    const [id, { samples, reachesFrom }] = [deviceId(), chart.value];
    const [begin, end] = [Math.round(from.value), Math.round(until.value)];
    isSaving = true;
    failure.value = '';
    try {
      const time = { from: begin, until: end };
      const table = await rest.historyTable(id, samples ? time : { ...time, points: POINTS });
      // The name says from when on there is something.
      const kept = Math.min(end, Math.max(begin, reachesFrom === undefined ? begin : Date.parse(reachesFrom)));
      saveTable(`${fileWord(id)}_${fileTime(kept)}_${fileTime(end)}`, table);
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      failure.value = error.message;
    } finally {
      isSaving = false;
    }
  }
  return { failure, save };
}
