// Notices alarms that are new, or that reached a higher level, since the last look.
import { severityRank, type OpenAlarm, type Severity } from '../client';

export class NewAlarms {
  #known: Map<string, string> | undefined;

  /** Returns those that need somebody now and did not before. Nothing at the first look: that is how it was. */
  look(open: readonly OpenAlarm[]): OpenAlarm[] {
    const waiting = open.filter(({ state }) => state !== 'acknowledged');
    const now = new Map(waiting.map((alarm) => [`${alarm.deviceId} ${alarm.id}`, `${alarm.type} ${alarm.severity} ${alarm.count}`]));
    const before = this.#known;
    this.#known = now;
    if (!before) return [];
    return waiting.filter((alarm) => {
      const key = `${alarm.deviceId} ${alarm.id}`;
      const known = before.get(key);
      return known === undefined || (known !== now.get(key) && isWorse(known, alarm));
    });
  }
}

/** A step down makes no sound. */
function isWorse(known: string, alarm: OpenAlarm): boolean {
  const [, severity = '', count = ''] = known.split(' ');
  return severityRank(alarm.severity) < severityRank(severity as Severity) || alarm.count > Number(count);
}
