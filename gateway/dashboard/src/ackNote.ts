// What happened to an alarm while somebody looks at the dialog in which it is acknowledged. Pure.
import type { Alert } from './client';
import { alarmType } from './format';
import { texts } from './texts';

const RANK: Record<Alert['severity'], number> = { warning: 0, high: 1, critical: 2 };

/** Empty: nothing. `now` is the alarm as it is; `undefined` if it has ended. */
export function ackNote(shown: Alert, now: Alert | undefined): string {
  if (!now) return texts.ack.gone;
  if (now.type !== shown.type) {
    const type = alarmType(now.type);
    return RANK[now.severity] > RANK[shown.severity] || now.type > shown.type ? texts.ack.escalated(type) : texts.ack.changed(type);
  }
  if (now.count > shown.count) return texts.ack.again;
  if (now.state === shown.state) return '';
  if (now.state === 'acknowledged') return texts.ack.byOther(now.acknowledged_by ?? '');
  return texts.ack.changed(texts.alarmState[now.state]);
}
