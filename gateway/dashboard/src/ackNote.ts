// What happened to an alarm while somebody looks at the dialog in which it is acknowledged. Pure.
import { severityRank, type Alert } from './client';
import { alarmType } from './format';
import { texts } from './texts';

/** Empty: nothing. `now` is the alarm as it is; `undefined` if it has ended. */
export function ackNote(shown: Alert, now: Alert | undefined): string {
  if (!now) return texts.ack.gone;
  if (now.type !== shown.type) {
    const type = alarmType(now.type);
    return severityRank(now.severity) < severityRank(shown.severity) || now.type > shown.type ? texts.ack.escalated(type) : texts.ack.changed(type);
  }
  if (now.count > shown.count) return texts.ack.again;
  if (now.state === shown.state) return '';
  if (now.state === 'acknowledged') return texts.ack.byOther(now.acknowledged_by ?? '');
  return texts.ack.changed(texts.alarmState[now.state]);
}
