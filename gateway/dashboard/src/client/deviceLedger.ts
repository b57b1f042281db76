// What a client knows of one device, from its events. Each event is taken once, in order.
import type { Alert, ChangedAlert, DeviceAlerts, DeviceAlertsChanged, DeviceData, Reading } from './events';
import { WholePositions, type Position, type Positioned } from './positions';

export type DeviceEvent =
  | { name: 'device:data'; body: DeviceData }
  | { name: 'device:alerts'; body: DeviceAlerts }
  | { name: 'device:alerts:changed'; body: DeviceAlertsChanged };

export interface AlarmChange {
  alert: ChangedAlert;
  at: string;
}

export interface DeviceView {
  reading: Reading | null;
  /** Server time of the commit that the reading came with. */
  committedAt: string | null;
  /** The age of the reading at that time. */
  ageMs: number | null;
  /** The server repeated the reading because the device is silent, or was retired. */
  stale: boolean;
  /** Open alarms. */
  alarms: readonly Alert[];
  /** What happened to alarms while this client watched, newest first. */
  changes: readonly AlarmChange[];
  /** The newest position of which everything arrived. What an operator has seen. */
  seen: Position | null;
  /** `false`: the device has sent nothing yet; `null`: not known yet. */
  known: boolean | null;
}

/** How many changes are kept. */
const CHANGES = 100;

const isOpen = (alert: Alert) => alert.state !== 'cleared' && alert.cleared_at === null;

export const EMPTY_VIEW: DeviceView = {
  reading: null,
  committedAt: null,
  ageMs: null,
  stale: false,
  alarms: [],
  changes: [],
  seen: null,
  known: null,
};

/** Server time at which the reading was taken, which may be long before its commit: a backlog is sent when a link is back. */
export function takenAt({ reading, committedAt, ageMs }: DeviceView): string | null {
  if (!reading) return null;
  return committedAt === null || ageMs === null ? reading.processed_at : new Date(Date.parse(committedAt) - ageMs).toISOString();
}

export class DeviceLedger {
  readonly #positions = new WholePositions();
  #view: DeviceView = EMPTY_VIEW;

  get since(): Position | undefined {
    return this.#positions.since;
  }

  /** Everything that is known. A new object after each change. */
  get view(): DeviceView {
    return this.#view;
  }

  /** Takes an event. Returns whether it was new. */
  take(event: DeviceEvent): boolean {
    if (!this.#positions.isNew(event.name, event.body)) return false;
    const { epoch, seq, stale, more }: Positioned = event.body;
    // Alarms come after the reading: what is acknowledged counts for this position, so it must not be ahead of them.
    const seen = stale || more ? this.#view.seen : { epoch, seq };
    this.#view = { ...this.#view, seen, known: true, ...this.#changed(event) };
    return true;
  }

  /** A subscription was answered. */
  answered(answer: { epoch?: string; seq: number }): void {
    this.#positions.answered(answer);
    if (this.#view.known === null) this.#view = { ...this.#view, known: answer.seq > 0 };
  }

  #changed(event: DeviceEvent): Partial<DeviceView> {
    switch (event.name) {
      case 'device:data': {
        const { data, timestamp, age_ms, stale, snapshot, more } = event.body;
        const reading = { reading: data, committedAt: timestamp, ageMs: age_ms, stale: Boolean(stale) };
        // A snapshot of one event says that no alarm is open. Otherwise they follow.
        return snapshot && !more && !stale ? { ...reading, alarms: [] } : reading;
      }
      case 'device:alerts': {
        const open = event.body.alerts.filter(isOpen);
        return { alarms: event.body.snapshot ? open : merged(this.#view.alarms, open) };
      }
      case 'device:alerts:changed': {
        const { alerts, timestamp } = event.body;
        const news = alerts.map((alert) => ({ alert, at: timestamp })).reverse();
        return {
          alarms: merged(this.#view.alarms, alerts),
          changes: [...news, ...this.#view.changes].slice(0, CHANGES),
        };
      }
    }
  }
}

/** The open alarms after these were replaced, added or, if they ended, removed. */
function merged(alarms: readonly Alert[], news: readonly Alert[]): Alert[] {
  const byId = new Map(alarms.map((alert) => [alert.id, alert]));
  for (const alert of news) {
    if (isOpen(alert)) byId.set(alert.id, alert);
    else byId.delete(alert.id);
  }
  return [...byId.values()];
}
