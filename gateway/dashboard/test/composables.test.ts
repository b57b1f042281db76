import { createApp, effectScope, nextTick, ref } from 'vue';
import { beforeEach, describe, expect, it } from 'vitest';

import { gatewayPlugin, useAlarms, useDevice, useFleet, useLinkState } from '../src/client/composables';
import { Gateway } from '../src/client/gateway';
import { FakeLink } from './fakeLink';

const timestamp = '2026-11-26T10:00:00.000Z';
let link: FakeLink;
let gateway: Gateway;

/** Does what a component does when it is shown. Returns what it has, and how it goes. */
function shown<T>(setup: () => T): { has: T; goes: () => void } {
  const scope = effectScope();
  const app = createApp({}).use(gatewayPlugin(gateway));
  const has = app.runWithContext(() => scope.run(setup)) as T;
  return { has, goes: () => scope.stop() };
}

const sent = () => link.sent.map(({ name, body }) => [name, body]);

beforeEach(() => {
  link = new FakeLink();
  gateway = new Gateway({ link });
  link.join();
});

describe('a component', () => {
  it('subscribes when it is shown, follows, and unsubscribes when it goes', async () => {
    const id = ref('a');
    const { has, goes } = shown(() => useDevice(id));
    expect(sent()).toEqual([['subscribe:device', { deviceId: 'a' }]]);
    link.fire('device:data', { deviceId: 'a', data: { sensor_reading: 7 }, timestamp, epoch: 'e', seq: 1, age_ms: 0 });
    expect(has.view.value.reading?.sensor_reading).toBe(7);
    // It shows another device.
    id.value = 'b';
    await nextTick();
    expect(sent().slice(1)).toEqual([
      ['unsubscribe:device', 'a'],
      ['subscribe:device', { deviceId: 'b' }],
    ]);
    expect(has.view.value.reading).toBeNull();
    goes();
    expect(sent().at(-1)).toEqual(['unsubscribe:device', 'b']);
    link.fire('device:data', { deviceId: 'b', data: { sensor_reading: 8 }, timestamp, epoch: 'e', seq: 1, age_ms: 0 });
    expect(has.view.value.reading).toBeNull();
  });

  it('shares its subscription with others', () => {
    const first = shown(() => useDevice('a'));
    const second = shown(() => useDevice('a'));
    first.goes();
    expect(sent()).toHaveLength(1);
    second.goes();
    expect(sent().at(-1)).toEqual(['unsubscribe:device', 'a']);
  });

  it('follows the fleet and the alarms', () => {
    const { has, goes } = shown(() => ({ fleet: useFleet({ prefix: 'a' }), alarms: useAlarms(), state: useLinkState() }));
    expect(sent()).toEqual([
      ['subscribe:fleet', { filter: { prefix: 'a' } }],
      ['subscribe:alarms', { filter: {} }],
    ]);
    link.fire('fleet:snapshot', { devices: [{ deviceId: 'a', epoch: 'e', seq: 1 }], first: true, more: false, timestamp });
    expect(has.fleet.rows.value.map(({ deviceId }) => deviceId)).toEqual(['a']);
    expect([has.fleet.isComplete.value, has.alarms.isComplete.value]).toEqual([true, false]);
    link.lose('transport close');
    expect(has.state.value.phase).toBe('lost');
    link.join();
    goes();
    expect(sent().slice(-2)).toEqual([
      ['unsubscribe:fleet', null],
      ['unsubscribe:alarms', null],
    ]);
  });
});
