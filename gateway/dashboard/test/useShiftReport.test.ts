import { createApp, effectScope } from 'vue';
import { afterEach, describe, expect, it } from 'vitest';

import type { LogPage, LogQuery } from '../src/client';
import { gatewayPlugin } from '../src/client/composables';
import { Gateway } from '../src/client/gateway';
import { useShiftReport } from '../src/parts/useShiftReport';
import { FakeLink } from './fakeLink';

const timestamp = '2026-11-26T10:00:00.000Z';
let scope = effectScope();
afterEach(() => {
  scope.stop();
  scope = effectScope();
});

function shown() {
  const link = new FakeLink();
  const gateway = new Gateway({ link });
  link.join();
  const queries: LogQuery[] = [];
  const rest = {
    alarmLog: async (query: LogQuery): Promise<LogPage> => {
      queries.push(query);
      return { total_count: 0, logs: [] };
    },
  };
  const has = createApp({}).use(gatewayPlugin(gateway)).runWithContext(() => scope.run(() => useShiftReport(rest, () => 8)));
  if (!has) throw new Error('nothing is shown');
  return { link, queries, has };
}
const alarm = { id: 'x', deviceId: 'a', type: 'alarm_level_3', severity: 'critical', state: 'unacknowledged', timestamp, epoch: 'e', seq: 1 };
const device = (name: string) => ({ deviceId: 'a', name, lastSeen: null, epoch: 'e', seq: 1 });

describe('a report of the shift', () => {
  it('is not made before the lists are there, however impatient somebody is', async () => {
    const { link, queries, has } = shown();
    link.fire('alarms:snapshot', { alarms: [alarm], first: true, more: false, timestamp });
    await has.make();
    expect([has.isReady.value, has.report.value, queries.length]).toEqual([false, null, 0]);
    link.fire('fleet:snapshot', { devices: [device('Boiler')], first: true, more: false, timestamp });
    await has.make();
    expect(has.report.value).toMatchObject({ detectors: 1, open: [{ id: 'x' }], silent: [{ row: { deviceId: 'a' } }] });
    // Nothing on it moves.
    link.fire('fleet:changed', { devices: [{ ...device('Kettle'), seq: 2 }], removed: [], timestamp });
    expect(has.report.value?.silent[0]?.row.name).toBe('Boiler');
  });

  it('says why there is none if a list is refused', async () => {
    const { link, has } = shown();
    link.fire('alarms:snapshot', { alarms: [], first: true, more: false, timestamp });
    link.answer('subscribe:fleet', { ok: false, error: { code: 'limit', message: 'Too many subscriptions' } });
    expect(has.refused.value).toContain('Too many subscriptions');
    await has.make();
    expect([has.isReady.value, has.report.value, has.isLoading.value]).toEqual([false, null, false]);
  });
});
