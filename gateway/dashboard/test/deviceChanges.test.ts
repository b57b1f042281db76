import { describe, expect, it } from 'vitest';

import type { AlarmLogRow, DeviceView } from '../src/client';
import { deviceChanges } from '../src/deviceChanges';

const at = '2026-11-26T10:00:00.000Z';
const later = '2026-11-26T10:05:00.000Z';
const message = 'a1_level: 250 before, 300 now';

describe('what changed at a detector', () => {
  const row = { alarm_type: 'setting_changed', timestamp: at, message, acknowledged_at: later, acknowledged_by: 'Asha' } as AlarmLogRow;
  const change = { at, alert: { type: 'setting_changed', change: 'raised', message } } as DeviceView['changes'][number];

  it('says which setting, where it began', () => {
    expect(deviceChanges([row], []).map((entry) => [entry.at, entry.message, entry.who])).toEqual([
      [later, '', 'Asha'],
      [at, message, ''],
    ]);
  });
  it('is said once, if it is in the log and arrived too', () => {
    expect(deviceChanges([row], [change]).filter((entry) => entry.message === message)).toHaveLength(1);
  });
});
