// When alarms of a detector stood, for its trend: what the log says, brought up to now by what arrived since. Pure.
import type { Alert, Chart, DeviceView } from './client';

export interface AlarmSpan {
  from: number;
  /** `null`: not ended. */
  until: number | null;
  severity: string;
}

/**
 * The log has a span for each level of an alarm. Those that were open when it was read, at `readAt`, end when the alarm ended or changed its
 * level since. What was raised since is added.
 */
export function alarmSpans(spans: Chart['spans'], readAt: number, { alarms, changes, seen }: Pick<DeviceView, 'alarms' | 'changes' | 'seen'>): AlarmSpan[] {
  const now = new Map(alarms.map((alarm) => [alarm.id, alarm]));
  const known = new Set<string>();
  const all = spans.flatMap(({ id, from, until, severity }): AlarmSpan[] => {
    const span = { from: Date.parse(from), until: until === null ? null : Date.parse(until), severity };
    if (span.until !== null) return [span];
    known.add(id);
    // Until it is known what is open now, the log counts.
    if (seen === null) return [span];
    const alarm = now.get(id);
    if (!alarm) return [{ ...span, until: endOf(id, changes) ?? Math.max(span.from, readAt) }];
    const changedAt = Date.parse(alarm.timestamp);
    if (changedAt <= span.from) return [span];
    return [{ ...span, until: changedAt }, spanOf(alarm)];
  });
  return [...all, ...alarms.filter(({ id }) => !known.has(id)).map(spanOf)];
}

/** Since it has its level. */
const spanOf = ({ timestamp, severity }: Alert): AlarmSpan => ({ from: Date.parse(timestamp), until: null, severity });

function endOf(id: string, changes: DeviceView['changes']): number | undefined {
  const last = changes.find(({ alert }) => alert.id === id);
  return last && Date.parse(last.alert.cleared_at ?? last.at);
}
