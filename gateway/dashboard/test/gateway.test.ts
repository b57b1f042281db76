import { beforeEach, describe, expect, it, vi } from 'vitest';

import { Gateway } from '../src/client/gateway';
import { faultsOf, isCurrent } from '../src/client/linkState';
import { FakeLink } from './fakeLink';

const timestamp = '2026-11-26T10:00:00.000Z';

describe('the connection', () => {
  let link: FakeLink;
  let gateway: Gateway;
  let time: number;
  /** What a clock tells that goes on while the machine sleeps. */
  let asleep: number;

  beforeEach(() => {
    vi.useFakeTimers();
    time = 1000;
    asleep = 0;
    link = new FakeLink();
    gateway = new Gateway({ link, elapsed: () => time, now: () => time + asleep, random: () => 0.5 });
  });

  /** Half seconds pass. */
  const pass = (ticks: number) => {
    for (let i = 0; i < ticks; i += 1) {
      time += 500;
      gateway.tick();
    }
  };

  const reading = (seq: number) => ({ deviceId: 'a', data: { sensor_reading: seq }, timestamp, epoch: 'e', seq, age_ms: 0 });

  it('subscribes again from the last whole position', () => {
    const changed = vi.fn();
    const watched = gateway.watchDevice('a', changed);
    expect(link.sent).toEqual([]);
    link.join();
    expect(link.take('subscribe:device')[0]?.body).toEqual({ deviceId: 'a', since: undefined });
    link.fire('device:data', reading(7));
    link.fire('device:data', { ...reading(8), more: true });
    link.lose('transport close');
    expect(gateway.state.phase).toBe('lost');
    link.join();
    expect(link.take('subscribe:device')[1]?.body).toEqual({ deviceId: 'a', since: { epoch: 'e', seq: 7 } });
    expect(gateway.state.phase).toBe('catching');
    link.answer('subscribe:device', { ok: true, epoch: 'e', seq: 8 });
    expect(gateway.state.phase).toBe('live');
    expect(changed).toHaveBeenCalledTimes(3);
    watched.stop();
    expect(link.take('unsubscribe:device')[0]?.body).toBe('a');
  });

  it('shares the subscription of a device', () => {
    link.join();
    const first = gateway.watchDevice('a', () => {});
    const second = gateway.watchDevice('a', () => {});
    expect(link.take('subscribe:device')).toHaveLength(1);
    expect(second.ledger).toBe(first.ledger);
    first.stop();
    expect(link.take('unsubscribe:device')).toHaveLength(0);
    second.stop();
    second.stop();
    expect(link.take('unsubscribe:device')).toHaveLength(1);
  });

  it('says why a device is refused', () => {
    const watched = gateway.watchDevice('a', () => {});
    link.join();
    link.sent[0]?.answer?.({ ok: false, error: { code: 'forbidden', message: 'no' } });
    expect(watched.refusal()?.code).toBe('forbidden');
  });

  it('says that the token ends also to whoever asks after it was announced', () => {
    const told = vi.fn();
    link.join();
    link.fire('auth:expiring', { expiresInMs: 25_000, closesInMs: 30_000 });
    gateway.onExpiring(told);
    expect(told).toHaveBeenCalledWith(30_000);
    link.lose('transport close');
    const later = vi.fn();
    gateway.onExpiring(later);
    expect(later).not.toHaveBeenCalled();
    // The session may have been renewed elsewhere: what the next connection does not announce does not end.
    expect(told).toHaveBeenLastCalledWith(null);
  });

  it('does not wait for the answer to a new token over a connection that is lost', async () => {
    expect(await gateway.refresh('early')).toMatchObject({ ok: false, error: { code: 'unavailable' } });
    expect(link.take('auth:refresh')).toHaveLength(0);
    link.join();
    const told = vi.fn();
    gateway.onExpiring(told);
    link.fire('auth:expiring', { expiresInMs: 25_000, closesInMs: 30_000 });
    const lost = gateway.refresh('new');
    link.lose('transport close');
    expect(await lost).toMatchObject({ ok: false, error: { code: 'unavailable' } });
    link.join();
    link.fire('auth:expiring', { expiresInMs: 25_000, closesInMs: 20_000 });
    // Late, and given up.
    link.take('auth:refresh')[0]?.answer?.({ ok: true });
    expect(told).toHaveBeenLastCalledWith(20_000);
    const taken = gateway.refresh('new');
    link.answer('auth:refresh', { ok: true });
    expect(await taken).toEqual({ ok: true });
    expect(told).toHaveBeenLastCalledWith(null);
  });

  it('is silent within 5 s after nothing arrives any more, and since when', () => {
    link.join();
    link.fire('device:data', reading(1));
    const heard = time;
    pass(6);
    expect(link.take('unsubscribe:device')).toHaveLength(1);
    expect(gateway.state.phase).toBe('live');
    pass(4);
    expect(gateway.state.phase).toBe('silent');
    expect(gateway.state.since).toBe(heard);
    expect(isCurrent(gateway.state)).toBe(false);
    pass(15);
    expect(link.drops).toBe(1);
    expect(gateway.state).toMatchObject({ phase: 'lost', since: heard });
  });

  it('stays live as long as it is answered', () => {
    link.join();
    for (let i = 0; i < 100; i += 1) {
      pass(1);
      link.sent.filter(({ name }) => name === 'unsubscribe:device').at(-1)?.answer?.({ ok: true });
    }
    expect(gateway.state.phase).toBe('live');
    expect(link.drops).toBe(0);
  });

  it('is not live before every list and device is there again', () => {
    gateway.watchDevice('a', () => {});
    gateway.watchFleet({}, () => {});
    const alarms = gateway.watchAlarms({}, () => {});
    const all = { devices: [], alarms: [], more: false, timestamp };
    link.join();
    expect(gateway.state.phase).toBe('catching');
    link.answer('subscribe:device');
    link.fire('fleet:snapshot', all);
    link.fire('alarms:snapshot', { ...all, alarms: [{ id: 'x', deviceId: 'a', epoch: 'e', seq: 1, severity: 'high', timestamp }] });
    expect(gateway.state.phase).toBe('live');
    link.lose('transport close');
    const lost = gateway.state.since;
    time += 2000;
    link.join();
    // The alarm of before the break is shown still, so nothing may say that it is current.
    expect(alarms.store.open).toHaveLength(1);
    expect(gateway.state).toMatchObject({ phase: 'catching', since: lost });
    expect(isCurrent(gateway.state)).toBe(false);
    link.fire('fleet:snapshot', all);
    link.answer('subscribe:device');
    link.fire('alarms:snapshot', { ...all, more: true });
    expect(gateway.state.phase).toBe('catching');
    link.fire('alarms:snapshot', all);
    expect(gateway.state.phase).toBe('live');
    expect(alarms.store.open).toHaveLength(0);
  });

  it('does not wait for what is refused, or no longer watched', () => {
    gateway.watchAlarms({}, () => {});
    const fleet = gateway.watchFleet({}, () => {});
    link.join();
    link.answer('subscribe:alarms', { ok: false, error: { code: 'forbidden', message: 'no' } });
    expect(gateway.state.phase).toBe('catching');
    fleet.stop();
    expect(gateway.state.phase).toBe('live');
  });

  it('stays silent when something is no longer watched', () => {
    const fleet = gateway.watchFleet({}, () => {});
    link.join();
    link.fire('fleet:snapshot', { devices: [], more: false, timestamp });
    pass(10);
    expect(gateway.state.phase).toBe('silent');
    fleet.stop();
    expect(gateway.state.phase).toBe('silent');
  });

  it('does not take the rest of a replaced list for the new one', () => {
    gateway.watchFleet({}, () => {});
    const all = { devices: [], more: false, timestamp };
    link.join();
    link.fire('fleet:snapshot', all);
    gateway.wake();
    link.answer('unsubscribe:device');
    link.fire('fleet:snapshot', all);
    expect(gateway.state.phase).toBe('catching');
    link.answer('unsubscribe:fleet');
    link.fire('fleet:snapshot', all);
    expect(gateway.state.phase).toBe('live');
  });

  it('notices a dead connection in a hidden tab, which is called once a minute', () => {
    gateway.watchFleet({}, () => {});
    link.join();
    link.fire('fleet:snapshot', { devices: [], more: false, timestamp });
    for (let minute = 0; minute < 5; minute += 1) {
      time += 50_000;
      link.fire('fleet:changed', { devices: [], removed: [], timestamp });
      time += 10_000;
      gateway.tick();
      link.answer('unsubscribe:device');
    }
    expect(gateway.state.phase).toBe('live');
    expect(link.take('subscribe:fleet')).toHaveLength(1);
    for (let minute = 0; minute < 3 && link.drops === 0; minute += 1) {
      time += 60_000;
      gateway.tick();
    }
    expect(link.drops).toBe(1);
    expect(gateway.state.phase).toBe('lost');
  });

  it('trusts nothing after the machine slept, though its clock stood still, until the server answers', () => {
    link.join();
    pass(1);
    expect(gateway.state.phase).toBe('live');
    asleep = 3_600_000;
    pass(1);
    expect(gateway.state.phase).toBe('catching');
    link.answer('unsubscribe:device');
    expect(gateway.state.phase).toBe('live');
  });

  it('stays closed when it is closed', () => {
    gateway.connect();
    link.join();
    const before = link.connects;
    gateway.close();
    vi.advanceTimersByTime(60_000);
    expect(link.connects).toBe(before);
  });

  it('asks for everything again after it slept, and trusts a connection that answers', () => {
    gateway.watchDevice('a', () => {});
    gateway.watchFleet({}, () => {});
    gateway.watchAlarms({}, () => {});
    link.join();
    link.fire('device:data', reading(3));
    time += 60_000;
    gateway.tick();
    expect(gateway.state.phase).toBe('catching');
    expect(link.take('subscribe:device').at(-1)?.body).toEqual({ deviceId: 'a', since: { epoch: 'e', seq: 3 } });
    expect(link.take('subscribe:fleet')).toHaveLength(2);
    expect(link.take('subscribe:alarms')).toHaveLength(2);
    pass(10);
    expect(gateway.state.phase).toBe('silent');
  });

  it('keeps the rest of a list that was replaced out of the new one', () => {
    const fleet = gateway.watchFleet({}, () => {});
    link.join();
    const row = (deviceId: string) => ({ deviceId, epoch: 'e', seq: 1 });
    link.fire('fleet:snapshot', { devices: [row('retired')], more: true, timestamp });
    gateway.wake();
    // On its way since before.
    link.fire('fleet:snapshot', { devices: [row('retired too')], more: true, timestamp });
    link.take('unsubscribe:fleet')[0]?.answer?.({ ok: true });
    const [first, second] = link.take('subscribe:fleet');
    first?.answer?.({ ok: false, error: { code: 'invalid', message: 'replaced' } });
    link.fire('fleet:snapshot', { devices: [row('a')], more: false, timestamp });
    second?.answer?.({ ok: true });
    expect(fleet.store.rows.map(({ deviceId }) => deviceId)).toEqual(['a']);
    expect(fleet.refusal()).toBeNull();
  });

  it('is refused for good without a right token, and tries again after what passes', () => {
    gateway.connect();
    link.active = false;
    link.fire('connect_error', { message: 'never shown' }.message);
    expect(gateway.state).toMatchObject({ phase: 'refused', reason: 'never shown' });
    gateway.connect();
    link.fire('connect_error', 'too many connections');
    expect(gateway.state.phase).toBe('lost');
    const before = link.connects;
    vi.advanceTimersByTime(3000 + 3500);
    expect(link.connects).toBe(before + 1);
  });

  it('connects again after the server closed the connection', () => {
    link.join();
    link.active = false;
    link.lose('io server disconnect');
    vi.advanceTimersByTime(10_000);
    expect(link.connects).toBe(1);
    gateway.close();
  });

  it('says which part of the data path is away, and since when', () => {
    link.join();
    const ok = { ok: true, age_ms: 0 };
    const dependencies = { redis: { ok: false, age_ms: 4000, reason: 'no answer' }, broker: ok, ingest: ok, subscriptions: ok };
    link.fire('system:status', { status: 'degraded', dependencies, timestamp });
    expect(isCurrent(gateway.state)).toBe(false);
    expect(faultsOf(gateway.state.status)).toEqual([{ what: 'redis', reason: 'no answer', since: Date.parse(timestamp) - 4000 }]);
    link.fire('system:status', { status: 'ok', dependencies: { ...dependencies, redis: ok }, timestamp });
    expect(isCurrent(gateway.state)).toBe(true);
  });

  it('shows rows that arrive together at once, and a whole list without delay', () => {
    let shown = 0;
    const { store, stop } = gateway.watchFleet({}, () => (shown += 1));
    link.join();
    const row = (deviceId: string, seq = 1) => ({ deviceId, epoch: 'e', seq });
    link.fire('fleet:snapshot', { devices: [row('a'), row('b')], first: true, more: false, timestamp });
    expect(shown).toBe(1);
    link.fire('fleet:changed', { devices: [row('a', 2)], removed: [], timestamp });
    link.fire('fleet:changed', { devices: [row('b', 2)], removed: [], timestamp });
    expect([shown, store.get('b')?.seq]).toEqual([1, 2]);
    vi.advanceTimersByTime(50);
    expect(shown).toBe(2);
    link.fire('fleet:changed', { devices: [row('a', 3)], removed: [], timestamp });
    vi.advanceTimersByTime(50);
    expect(shown).toBe(3);
    // Nobody watches any more.
    link.fire('fleet:changed', { devices: [row('a', 4)], removed: [], timestamp });
    stop();
    vi.advanceTimersByTime(50);
    expect(shown).toBe(3);
  });

  it('keeps what it knows while the link is away', () => {
    const fleet = gateway.watchFleet({}, () => {});
    link.join();
    link.fire('fleet:snapshot', { devices: [{ deviceId: 'a', epoch: 'e', seq: 1 }], more: false, timestamp });
    link.lose('transport close');
    expect(fleet.store.rows).toHaveLength(1);
  });
});
