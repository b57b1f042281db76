// The screen of the open alarms as it is drawn, without a browser.
import { createPinia } from 'pinia';
import { createSSRApp } from 'vue';
import { createMemoryHistory, createRouter } from 'vue-router';
import { renderToString } from 'vue/server-renderer';
import { beforeAll, describe, expect, it, vi } from 'vitest';

import type { Session } from '../src/client';
import { gatewayPlugin } from '../src/client/composables';
import { Gateway } from '../src/client/gateway';
import AlarmsScreen from '../src/screens/AlarmsScreen.vue';
import { useSession } from '../src/stores/session';
import { FakeLink } from './fakeLink';

// The screen listens to its keys.
beforeAll(() => void vi.stubGlobal('document', new EventTarget()));

const timestamp = '2026-11-26T10:00:00.000Z';
const alarm = (deviceId: string, type: string, severity: string, more: object = {}) => ({
  id: 'x', deviceId, name: null, zone: null, site: null, epoch: 'e', seq: 1, type, severity, state: 'unacknowledged', message: 'words',
  current_value: null, peak_value: null, unit: 'ppm', count: 1, timestamp, raised_at: timestamp, ...more,
});
const silent = (count: number) => Array.from({ length: count }, (_, index) => alarm(`silent-${index}`, 'device_offline', 'high'));

const EVERYTHING = { subject: 's', name: 'Asha', verbs: ['read'], devices: ['*'] } as unknown as Session;

async function drawn(alarms: object[], rights = EVERYTHING, path = '/alarms'): Promise<string> {
  const link = new FakeLink();
  const gateway = new Gateway({ link });
  link.join();
  // Somebody watches already: what arrives is there when the screen is drawn.
  gateway.watchAlarms({}, () => {});
  link.fire('alarms:snapshot', { alarms, first: true, more: false, timestamp });
  const Empty = { render: () => null };
  const routes = [
    { path: '/alarms', name: 'alarms', component: AlarmsScreen },
    { path: '/alarms/history', name: 'history', component: Empty },
    { path: '/alarms/shift', name: 'shift', component: Empty },
    { path: '/devices/:deviceId', name: 'device', component: Empty },
  ];
  const router = createRouter({ history: createMemoryHistory(), routes });
  await router.push(path);
  const pinia = createPinia();
  useSession(pinia).session = rights;
  return renderToString(createSSRApp(AlarmsScreen).use(pinia).use(router).use(gatewayPlugin(gateway)));
}
const devices = (html: string) => [...html.matchAll(/<tr[^>]* data-device="([^"]*)"/g)].map(([, device]) => device);

describe('a list that is too long to be shown', () => {
  it('says how much is not shown, and that it is gas', async () => {
    const html = await drawn([...silent(300), alarm('gas', 'alarm_level_1', 'warning')]);
    expect(devices(html)).not.toContain('gas');
    expect(html).toContain('300 of 301 alarms are shown; 1 gas alarm is among the rest.');
    expect(html).toContain('Show 300 more');
  });
  it('says that no gas is among the rest', async () => {
    expect(await drawn([...silent(302), alarm('gas', 'alarm_level_3', 'critical')])).toContain('300 of 303 alarms are shown; none of the rest is of gas.');
  });
  it('says nothing if all of it is shown', async () => {
    const html = await drawn(silent(300));
    expect(devices(html)).toHaveLength(300);
    expect(html).not.toContain('alarms are shown');
  });
});

describe('no open alarm', () => {
  it('is calm for whoever may see every detector only', async () => {
    expect(await drawn([])).toContain('No alarm is open.');
    const limited = await drawn([], { ...EVERYTHING, devices: ['OTSM-0001'] });
    expect(limited).not.toContain('No alarm is open.');
    expect(limited).toContain('No alarm is open of the detectors that you may see.');
  });
});

describe('the filter', () => {
  const two = [alarm('silent', 'device_offline', 'high'), alarm('gas', 'alarm_level_1', 'warning')];
  const at = async (query: string) => devices(await drawn(two, EVERYTHING, `/alarms?${query}`));
  it('is in the address', async () => {
    expect(await at('severity=warning')).toEqual(['gas']);
    expect(await at('q=sil')).toEqual(['silent']);
  });
  it('hides nothing if its severity is none', async () => {
    expect(await at('severity=constructor')).toHaveLength(2);
  });
});
