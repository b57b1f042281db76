import { describe, expect, it } from 'vitest';

import { DeviceLedger, type DeviceEvent } from '../src/client/deviceLedger';
import { ModelServer } from './modelServer';
import { seeded } from './random';

/** A client whose connection breaks anywhere: between the events of a position, within a replay, before the answer. */
class Client {
  readonly ledger = new DeviceLedger();
  /** Every change of an alarm that was taken, in order. */
  readonly log: string[] = [];
  #waiting: (DeviceEvent | { name: 'answer'; answer: { epoch?: string; seq: number } })[] = [];

  connect(server: ModelServer): void {
    const { events, answer } = server.subscribe(this.ledger.since);
    // Whoever is away for so long has missed something; no client can help that.
    expect(answer).not.toMatchObject({ alarmsRecovered: false });
    this.#waiting = [...events];
    if (answer.ok) this.#waiting.push({ name: 'answer', answer });
  }

  send(events: DeviceEvent[]): void {
    this.#waiting.push(...events);
  }

  /** A slow client is sent only the latest of the readings that wait, which says how many were left out. */
  conflate(): void {
    const last = this.#waiting.at(-1);
    const before = this.#waiting.at(-2);
    const isPlain = (item: typeof last): item is Extract<DeviceEvent, { name: 'device:data' }> =>
      item?.name === 'device:data' && !item.body.more && !item.body.snapshot && !item.body.stale;
    if (!isPlain(last) || !isPlain(before) || last.body.seq !== before.body.seq + 1 + (last.body.skipped ?? 0)) return;
    const skipped = 1 + (before.body.skipped ?? 0) + (last.body.skipped ?? 0);
    this.#waiting.splice(-2, 2, { name: 'device:data', body: { ...last.body, skipped } });
  }

  /** Takes the first `count` things that wait. */
  receive(count: number): void {
    for (const item of this.#waiting.splice(0, count)) {
      if (item.name === 'answer') this.ledger.answered(item.answer);
      else if (this.ledger.take(item) && item.name === 'device:alerts:changed') {
        const { epoch, seq, alerts } = item.body;
        alerts.forEach(({ id, change }) => this.log.push(`${epoch} ${seq} ${id} ${change}`));
      }
    }
  }

  breakConnection(): void {
    this.#waiting = [];
  }

  get waiting(): number {
    return this.#waiting.length;
  }
}

function run(seed: number): { disconnects: number; snapshots: number } {
  const random = seeded(seed);
  const server = new ModelServer(random);
  const client = new Client();
  let [disconnects, snapshots] = [0, 0];
  // Nothing is owed to a client before its first answer.
  client.connect(server);
  client.receive(client.waiting);
  for (let step = 0; step < 2000; step += 1) {
    const dice = random();
    if (dice < 0.45) client.send(server.commit());
    else if (dice < 0.52) client.conflate();
    else if (dice < 0.85) client.receive(Math.floor(random() ** 2 * 60));
    else {
      client.breakConnection();
      disconnects += 1;
      // Sometimes away for longer than events are stored, but not longer than changes are.
      const missed = random() < 0.05 ? 70 : Math.floor(random() * 5);
      if (missed === 70) snapshots += 1;
      for (let i = 0; i < missed; i += 1) server.commit();
      client.connect(server);
    }
  }
  client.breakConnection();
  client.connect(server);
  client.receive(client.waiting);
  expect(client.log, `seed ${seed}: every change of an alarm, once, in order`).toEqual(server.log);
  const { view } = client.ledger;
  expect(view.reading, `seed ${seed}: the newest reading`).toEqual(server.reading);
  const byId = (a: { id: string }, b: { id: string }) => a.id.localeCompare(b.id);
  const states = (alarms: readonly { id: string; state: string }[]) => [...alarms].sort(byId).map(({ id, state }) => `${id} ${state}`);
  expect(states(view.alarms), `seed ${seed}: the open alarms`).toEqual(states(server.open));
  return { disconnects, snapshots };
}

describe('a device across lost connections', () => {
  it('misses nothing and takes nothing twice', () => {
    let [disconnects, snapshots] = [0, 0];
    for (let seed = 1; seed <= 30; seed += 1) {
      const counts = run(seed);
      disconnects += counts.disconnects;
      snapshots += counts.snapshots;
    }
    expect(disconnects).toBeGreaterThan(5000);
    expect(snapshots).toBeGreaterThan(100);
  });
});

const data = (seq: number, more = {}): DeviceEvent => ({
  name: 'device:data',
  body: { deviceId: 'a', data: { sensor_reading: seq } as never, timestamp: '2026-11-26T10:00:00.000Z', epoch: 'e', seq, age_ms: 0, ...more },
});

describe('a device', () => {
  it('repeats a stale reading without a new position', () => {
    const ledger = new DeviceLedger();
    ledger.take(data(4));
    expect(ledger.take(data(2, { stale: true }))).toBe(true);
    expect(ledger.view.stale).toBe(true);
    expect(ledger.view.seen).toEqual({ epoch: 'e', seq: 4 });
    expect(ledger.since).toEqual({ epoch: 'e', seq: 4 });
  });

  it('has seen only what arrived whole', () => {
    const ledger = new DeviceLedger();
    ledger.take(data(4));
    ledger.take(data(5, { more: true }));
    expect(ledger.view.reading?.sensor_reading).toBe(5);
    // The connection may break here, before the alarms of this position have come.
    expect(ledger.view.seen).toEqual({ epoch: 'e', seq: 4 });
    ledger.take({ name: 'device:alerts:changed', body: { deviceId: 'a', alerts: [], timestamp: '', epoch: 'e', seq: 5 } });
    expect(ledger.view.seen).toEqual({ epoch: 'e', seq: 5 });
  });

  it('has seen a snapshot when its last event has come', () => {
    const ledger = new DeviceLedger();
    ledger.take(data(4, { snapshot: true, more: true }));
    expect(ledger.view.seen).toBeNull();
    ledger.take({ name: 'device:alerts', body: { deviceId: 'a', alerts: [], snapshot: true, epoch: 'e', seq: 4 } });
    expect(ledger.view.seen).toEqual({ epoch: 'e', seq: 4 });
  });

  it('is unknown until it has sent something', () => {
    const ledger = new DeviceLedger();
    expect(ledger.view.known).toBeNull();
    ledger.answered({ seq: 0 });
    expect(ledger.view.known).toBe(false);
    ledger.take(data(1));
    expect(ledger.view.known).toBe(true);
  });

  it('has no open alarm after a snapshot of one event', () => {
    const ledger = new DeviceLedger();
    const alert = { id: 'x', state: 'unacknowledged', cleared_at: null } as never;
    ledger.take({ name: 'device:alerts', body: { deviceId: 'a', alerts: [alert], epoch: 'e', seq: 1 } });
    expect(ledger.view.alarms).toHaveLength(1);
    ledger.take(data(9, { snapshot: true }));
    expect(ledger.view.alarms).toHaveLength(0);
  });

  it('starts again after Redis lost its data', () => {
    const ledger = new DeviceLedger();
    ledger.take(data(9));
    ledger.take(data(1, { epoch: 'f', snapshot: true }));
    expect(ledger.since).toEqual({ epoch: 'f', seq: 1 });
    expect(ledger.take(data(2, { epoch: 'f' }))).toBe(true);
  });
});
