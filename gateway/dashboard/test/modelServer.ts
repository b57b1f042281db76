// The server's side of one device, as gateway/README.md describes it: positions, what is stored of them, and how a subscription is answered.
import type { DeviceEvent } from '../src/client/deviceLedger';
import type { Alert, ChangedAlert, DeviceAnswer, Reading } from '../src/client/events';
import type { Position } from '../src/client/positions';

const STORED_EVENTS = 64;
const STORED_CHANGES = 200;
const ID = 'OTSM-0001';

interface Stored {
  seq: number;
  events: DeviceEvent[];
}

export class ModelServer {
  #epoch = 1;
  #seq = 0;
  #stored: Stored[] = [];
  #changes: { seq: number; event: DeviceEvent }[] = [];
  #reading: Reading | null = null;
  #open = new Map<string, Alert>();
  #alarms = 0;
  readonly #random: () => number;
  /** Every change of an alarm, in order. */
  readonly log: string[] = [];

  constructor(random: () => number) {
    this.#random = random;
  }

  get open(): Alert[] {
    return [...this.#open.values()];
  }

  get reading(): Reading | null {
    return this.#reading;
  }

  /** The events of the next position. */
  commit(): DeviceEvent[] {
    this.#seq += 1;
    const at = this.#at();
    const events: DeviceEvent[] = [];
    const changes = this.#random() < 0.3 ? this.#changeAlarms() : [];
    if (changes.length === 0 || this.#random() < 0.8) {
      this.#reading = { sensor_reading: this.#seq, timestamp: `reading ${this.#seq}` } as unknown as Reading;
      events.push({ name: 'device:data', body: { ...at, data: this.#reading, age_ms: 0 } });
    }
    const raised = changes.filter(({ change }) => change === 'raised');
    if (raised.length > 0) events.push({ name: 'device:alerts', body: { ...at, alerts: raised } });
    if (changes.length > 0) {
      const event: DeviceEvent = { name: 'device:alerts:changed', body: { ...at, alerts: changes } };
      events.push(event);
      this.#changes = [...this.#changes, { seq: this.#seq, event }].slice(-STORED_CHANGES);
      changes.forEach(({ id, change }) => this.log.push(`${this.#epoch} ${this.#seq} ${id} ${change}`));
    }
    const whole = withMore(events);
    this.#stored = [...this.#stored, { seq: this.#seq, events: whole }].slice(-STORED_EVENTS);
    return whole;
  }

  /** What a subscription is sent before it is answered, and the answer. */
  subscribe(since: Position | undefined): { events: DeviceEvent[]; answer: DeviceAnswer } {
    const epoch = String(this.#epoch);
    const oldest = this.#stored[0]?.seq ?? this.#seq + 1;
    const recovered = since?.epoch === epoch && since.seq <= this.#seq && oldest <= since.seq + 1;
    const answer = { ok: true as const, deviceId: ID, epoch, seq: this.#seq, recovered };
    if (recovered) {
      return { events: this.#stored.filter(({ seq }) => seq > since.seq).flatMap(({ events }) => events), answer };
    }
    const oldestChange = this.#changes.length < STORED_CHANGES ? 0 : (this.#changes[0]?.seq ?? 0);
    if (since?.epoch === epoch && oldestChange > since.seq) Object.assign(answer, { alarmsRecovered: false });
    const events = since?.epoch === epoch ? this.#changes.filter(({ seq }) => seq > since.seq).map(({ event }) => asMore(event)) : [];
    if (!this.#reading) return { events, answer };
    const body = { ...this.#at(), snapshot: true as const };
    const alarms = this.open;
    const data: DeviceEvent = { name: 'device:data', body: { ...body, data: this.#reading, age_ms: 0 } };
    if (alarms.length === 0 && !since) return { events: [...events, data], answer };
    events.push(...withMore([data, { name: 'device:alerts', body: { ...body, alerts: alarms } }]));
    return { events, answer };
  }

  #at() {
    return { deviceId: ID, epoch: String(this.#epoch), seq: this.#seq, timestamp: new Date(this.#seq * 1000).toISOString() };
  }

  #changeAlarms(): ChangedAlert[] {
    const changes: ChangedAlert[] = [];
    const count = 1 + Math.floor(this.#random() * 2);
    for (let i = 0; i < count; i += 1) {
      const alarms = this.open;
      const known = alarms[Math.floor(this.#random() * alarms.length)];
      if (known && (alarms.length > 3 || this.#random() < 0.5)) {
        const change = this.#random() < 0.5 ? 'acknowledged' : 'cleared';
        const isCleared = change === 'cleared';
        const alert = { ...known, state: change, cleared_at: isCleared ? 'now' : null } as Alert;
        if (isCleared) this.#open.delete(alert.id);
        else this.#open.set(alert.id, alert);
        changes.push({ ...alert, change });
      } else {
        this.#alarms += 1;
        const alert = { id: `alarm${this.#alarms}`, state: 'unacknowledged', cleared_at: null } as Alert;
        this.#open.set(alert.id, alert);
        changes.push({ ...alert, change: 'raised' });
      }
    }
    return changes;
  }
}

function asMore(event: DeviceEvent): DeviceEvent {
  return { ...event, body: { ...event.body, more: true } } as DeviceEvent;
}

function withMore(events: DeviceEvent[]): DeviceEvent[] {
  return events.map((event, index) => (index < events.length - 1 ? asMore(event) : event));
}
