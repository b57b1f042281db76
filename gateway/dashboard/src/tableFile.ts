// A table (CSV) as a file of the browser.

/** A time as a name of a file has it. */
export const fileTime = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replaceAll(':', '-');

/** Without what a name of a file must not have: a serial may have any character. */
export const fileWord = (text: string): string => text.replace(/[^a-z0-9_-]/gi, '_');

export function saveTable(name: string, table: string | Blob): void {
  // The mark at the beginning tells spreadsheets that this is UTF-8.
  const url = URL.createObjectURL(new Blob(['\uFEFF', table], { type: 'text/csv;charset=utf-8' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `${name}.csv`;
  link.click();
  URL.revokeObjectURL(url);
}
