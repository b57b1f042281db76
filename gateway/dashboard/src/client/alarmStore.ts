// The open alarms of every device, most urgent first.
import { ChunkedList, type Part } from './chunks';
import type { AlarmsChanged, AlarmsSnapshot, Alert, EndedAlarm, OpenAlarm, Severity } from './events';

/** An alarm that ended while this client watched. */
export interface PastAlarm {
  alarm: OpenAlarm;
  end: EndedAlarm;
}

/** How many of these are kept. */
const PAST = 50;

const keyOf = (alarm: { deviceId: string; id: string }) => `${alarm.deviceId} ${alarm.id}`;

export class AlarmStore {
  readonly #open = new ChunkedList<OpenAlarm>(keyOf);
  #past: PastAlarm[] = [];

  get isComplete(): boolean {
    return this.#open.isComplete;
  }

  get past(): readonly PastAlarm[] {
    return this.#past;
  }

  get open(): OpenAlarm[] {
    return this.#open.values().sort((a, b) => byUrgency(a, b));
  }

  get(deviceId: string, id: string): OpenAlarm | undefined {
    return this.#open.get(keyOf({ deviceId, id }));
  }

  restart(): void {
    this.#open.restart();
  }

  snapshot({ alarms, first, more }: Part<AlarmsSnapshot>): boolean {
    return this.#open.chunk(alarms, more, first);
  }

  changed({ changed, ended }: AlarmsChanged): void {
    this.#open.change(changed);
    for (const end of ended) {
      const alarm = this.#open.remove(keyOf(end));
      if (alarm) this.#past = [{ alarm, end }, ...this.#past].slice(0, PAST);
    }
  }
}

type Named = Pick<OpenAlarm, 'name' | 'device_name' | 'deviceId' | 'zone'> & { site?: string | null };

/** What people call the device of an alarm. */
export const nameOf = (alarm: Named) => alarm.name || alarm.device_name || alarm.deviceId;

/** Its zone, and its site if there are several: two sites may have a zone of the same name. */
export const placeOf = ({ zone, site }: { zone?: string | null; site?: string | null }, hasSites: boolean): string =>
  [zone ?? '', hasSites ? (site ?? '') : ''].filter((part) => part !== '').join(', ');

/** Its name, its id and its place: two devices may have the same name. */
export function labelOf(alarm: Named, hasSites = false): string {
  const name = nameOf(alarm);
  const rest = [name === alarm.deviceId ? '' : alarm.deviceId, placeOf(alarm, hasSites)].filter((part) => part !== '');
  return rest.length > 0 ? `${name} (${rest.join(', ')})` : name;
}

const SEVERITIES: readonly Severity[] = ['critical', 'high', 'warning'];
const RANK = new Map(SEVERITIES.map((severity, index) => [severity, index]));

/** 0 is the most severe, and so is one of a later release. */
export const severityRank = (severity: Severity): number => RANK.get(severity) ?? 0;

export const isAcknowledged = (alarm: Pick<Alert, 'state'>) => alarm.state === 'acknowledged';

/** By severity, then those that nobody has acknowledged, then by `rank` if it is given, then the newest. */
export function byUrgency<T extends Alert & { deviceId?: string }>(a: T, b: T, rank: (alarm: T) => number = () => 0): number {
  return (
    severityRank(a.severity) - severityRank(b.severity) ||
    Number(isAcknowledged(a)) - Number(isAcknowledged(b)) ||
    rank(a) - rank(b) ||
    b.timestamp.localeCompare(a.timestamp) ||
    `${a.deviceId} ${a.id}`.localeCompare(`${b.deviceId} ${b.id}`)
  );
}
