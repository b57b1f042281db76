// Rows of the alarm log as a file for spreadsheets (RFC 4180).
import type { AlarmLogRow } from './client';

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

export function csvOf(rows: readonly AlarmLogRow[]): string {
  const lines = rows.map((row) => COLUMNS.map((column) => cell(row[column])).join(','));
  return `${[COLUMNS.join(','), ...lines].join('\r\n')}\r\n`;
}
