// Parts of screens as they are drawn, without a browser.
import { createSSRApp, h, type Component } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { describe, expect, it } from 'vitest';

import type { FleetRow } from '../src/client';
import { gatewayPlugin } from '../src/client/composables';
import { Gateway } from '../src/client/gateway';
import AlarmBadge from '../src/parts/AlarmBadge.vue';
import DeviceCard from '../src/parts/DeviceCard.vue';
import LiveReading from '../src/parts/LiveReading.vue';
import { FakeLink } from './fakeLink';

const timestamp = '2026-11-26T10:00:00.000Z';
const NOW = Date.parse(timestamp);

async function drawn(link: FakeLink, component: Component, props: object, arrives: () => void): Promise<string> {
  const gateway = new Gateway({ link });
  link.join();
  // Somebody watches already: what arrives is there when the part is drawn.
  gateway.watchAlarms({}, () => {});
  arrives();
  const app = createSSRApp({ render: () => h(component, props) }).use(gatewayPlugin(gateway));
  app.component('RouterLink', { render: () => null });
  return renderToString(app);
}

describe('the badge of the alarms', () => {
  const alarm = { id: 'x', deviceId: 'a', epoch: 'e', seq: 1, type: 'alarm_level_3', severity: 'critical', timestamp };
  const badge = async (alarms: object[] | null, refused = false) => {
    const link = new FakeLink();
    const html = await drawn(link, AlarmBadge, {}, () => {
      if (refused) link.answer('subscribe:alarms', { ok: false, error: { code: 'limit', message: 'Too many' } });
      if (alarms) link.fire('alarms:snapshot', { alarms, first: true, more: false, timestamp });
    });
    return /data-test="(alarm-count|open-count|alarms-unknown)"/.exec(html)?.[1] ?? 'none';
  };
  it('is absent only if it is known that nothing is open', async () => {
    expect(await badge([])).toBe('none');
    expect(await badge(null)).toBe('alarms-unknown');
    expect(await badge(null, true)).toBe('alarms-unknown');
    expect(await badge([{ ...alarm, state: 'acknowledged' }])).toBe('open-count');
    expect(await badge([{ ...alarm, state: 'returned' }])).toBe('alarm-count');
  });
});

describe('a reading of now', () => {
  const reading = (more: Partial<FleetRow>) =>
    drawn(new FakeLink(), LiveReading, { row: { deviceId: 'a', unit: 'ppm', sensor_reading: 15, data_quality: 'good', lastSeen: timestamp, ...more }, now: NOW }, () => {});
  it('says so if it is doubtful', async () => {
    expect(await reading({})).toMatch(/15 ppm.*now/);
    expect(await reading({})).not.toContain('uncertain');
    expect(await reading({ data_quality: 'uncertain' })).toMatch(/15 ppm.*uncertain, now/);
  });
  it('is no number if there is none', async () => {
    expect(await reading({ sensor_reading: null, data_quality: 'bad' })).toContain('No reading');
  });
});

describe('the card of a detector on the map', () => {
  const row = { deviceId: 'a', name: 'Boiler', unit: 'ppm', sensor_reading: 1500, lastSeen: timestamp, alarms: 1 } as FleetRow;
  const props = { item: { row, condition: 'a3' }, now: NOW, hasPlace: true, mayPlace: false };
  const NONE = 'No alarm is open.';

  it('does not say that no alarm is open before it is known', async () => {
    const html = await drawn(new FakeLink(), DeviceCard, props, () => {});
    expect(html).not.toContain(NONE);
    expect(html).toContain('1 open alarm');
  });

  it('nor if the list is refused', async () => {
    const link = new FakeLink();
    const html = await drawn(link, DeviceCard, props, () => link.answer('subscribe:alarms', { ok: false, error: { code: 'limit', message: 'Too many' } }));
    expect(html).not.toContain(NONE);
    expect(html).toContain('Too many');
  });

  it('says it when the list is there', async () => {
    const link = new FakeLink();
    const none = { alarms: [], first: true, more: false, timestamp };
    const html = await drawn(link, DeviceCard, { ...props, item: { row: { ...row, alarms: 0 }, condition: 'normal' } }, () => link.fire('alarms:snapshot', none));
    expect(html).toContain(NONE);
    const other = new FakeLink();
    expect(await drawn(other, DeviceCard, props, () => other.fire('alarms:snapshot', none)), 'its row has another one').not.toContain(NONE);
  });
});
