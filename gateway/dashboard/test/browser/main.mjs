// Drives the dashboard in Chromium. `tests/it/dashboard.rs` starts it, and does what happens outside of the browser.
//
//   node main.mjs URL PICTURES CHROMIUM LATE
//
// It writes a request per line and reads an answer per line. It exits 0 if everything was seen that was expected. `LATE`: the longest wait for
// anything, in milliseconds. What is looked at once is only what cannot change any more by then, or what must never be.
//
// One story with one system: each part finds what those before it have left.
import { browser, expect, offences, step } from './stage.mjs';

for (const part of ['start', 'alarms', 'rights', 'history', 'fleet', 'faults', 'device', 'map', 'looks']) await import(`./${part}.mjs`);

await step('no page did what it must not do', async () => {
  expect(offences.length === 0, `nothing, but ${offences.join('\n')}`);
});
await browser.close();
// The answers may go on.
process.exit(0);
