// Rows of the alarm log as a file for spreadsheets (RFC 4180).
import type { AlarmLogRow, FleetRow } from './client';

const COLUMNS = [
  'timestamp',
  'device_id',
  'device_name',
  'severity',
  'alarm_type',
  'message',
  'current_value',
  'threshold',
  'unit',
  'gas_type',
  'state',
  'acknowledged',
  'acknowledged_at',
  'acknowledged_by',
  'acknowledged_note',
  'cleared_at',
  'alarm_id',
] as const satisfies readonly (keyof AlarmLogRow)[];

/** A text that a spreadsheet would take for a formula gets an apostrophe: names come from detectors. */
function cell(value: string | number | boolean | null | undefined): string {
  if (value === null || value === undefined) return '';
  if (typeof value !== 'string') return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** What operators call a device now, and where it is now. The log has what it called itself then. */
const PLACE = ['shown_name', 'zone', 'site'] as const;

export function csvOf(rows: readonly AlarmLogRow[], rowOf: (deviceId: string) => Pick<FleetRow, 'name' | 'zone' | 'site'> | undefined): string {
  const lines = rows.map((row) => {
    const place = rowOf(row.device_id);
    return [...COLUMNS.map((column) => cell(row[column])), cell(place?.name), cell(place?.zone), cell(place?.site)].join(',');
  });
  return `${[[...COLUMNS, ...PLACE].join(','), ...lines].join('\r\n')}\r\n`;
}
