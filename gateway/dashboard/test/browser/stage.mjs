// What every part of the story works with: the people and their pages, what they look for, and whoever does what happens outside of the browser.
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';

import { chromium, selectors } from 'playwright-core';

const [address, pictures, executablePath, late] = process.argv.slice(2);
export const url = address;
const LATE = Number(late);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks for something outside of the browser. */
export async function ask(request) {
  process.stdout.write(`${JSON.stringify(request)}\n`);
  const { value, done } = await lines.next();
  if (done) throw new Error('nobody answers');
  return JSON.parse(value);
}
export const reading = (device, value, more = {}) => ask({ do: 'reading', device, value, ...more });
export const token = async (claims) => (await ask({ do: 'token', claims })).token;
export const report = (line) => ask({ do: 'report', line: `dashboard: ${line}` });

export function expect(is, what) {
  if (!is) throw new Error(`expected: ${what}`);
}

/** Waits until it holds. For what no page shows: a page waits for what it shows itself. */
export async function holds(what, probe) {
  const end = Date.now() + LATE;
  while (!(await probe())) {
    if (Date.now() > end) throw new Error(`gave up waiting: ${what}`);
    await setTimeout(20);
  }
}

/** Everything that a page must never do. */
export const offences = [];
/** When the requests began that have no answer yet. */
const unanswered = new Map();

export const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--autoplay-policy=document-user-activation-required',
  ],
});

/** A browser of its own, as whoever has this token. */
export async function person(itsToken, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(LATE);
  await context.addInitScript((text) => {
    if (text) sessionStorage.setItem('token', text);
    // How many tones were played: a test cannot hear.
    window.tones = 0;
    const play = AudioContext.prototype.createOscillator;
    AudioContext.prototype.createOscillator = function tone() {
      window.tones += 1;
      return play.call(this);
    };
    document.addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  }, itsToken);
  context.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== new URL(url).origin && protocol !== 'blob:') offences.push(`a request to ${origin}`);
    unanswered.set(request, { begun: Date.now(), context });
  });
  for (const end of ['requestfinished', 'requestfailed']) context.on(end, (request) => unanswered.delete(request));
  const page = await context.newPage();
  page.on('console', (message) => message.text().startsWith('CSP') && offences.push(message.text()));
  page.on('pageerror', (error) => offences.push(error.stack ?? error.message));
  return page;
}

export const open = (page, path) => page.goto(`${url}${path}`);
export const seen = (locator) => locator.waitFor({ state: 'visible' });
export const gone = (locator) => locator.waitFor({ state: 'hidden' });
export async function textOf(download) {
  const parts = [];
  for await (const part of await download.createReadStream()) parts.push(part);
  return Buffer.concat(parts).toString();
}
export const row = (page, device) => page.locator(`tr[data-device="${device}"]`);
export const shows = (page, value) => seen(page.getByTestId('gauge-value').getByText(String(value), { exact: true }));
/** The page knows who uses it. Before, what they may not do is absent for another reason. A narrow window does not show it. */
export const knows = (page, name) => page.locator('.topbar .name').getByText(name).waitFor({ state: 'attached' });

/** Asks again, as a person does, until the page has it. For lists that are read once: what is written behind an answer may come later. */
export async function seenAfter(again, wanted) {
  await holds('what is asked for again', async () => {
    if (await wanted.isVisible()) return true;
    await again.click();
    return wanted.waitFor({ state: 'visible', timeout: 1000 }).then(
      () => true,
      () => false,
    );
  });
}

// Small ones, for the README.
export const picture = (page, name) => page.screenshot({ path: `${pictures}/${name}.jpeg`, type: 'jpeg', quality: 55 });

export async function step(name, run) {
  try {
    await run();
  } catch (error) {
    for (const [index, page] of browser.contexts().flatMap((context) => context.pages()).entries()) {
      await page.screenshot({ path: `${pictures}/failed-${index}.png` }).catch(() => undefined);
    }
    console.error(`${name}: ${error.stack}`);
    for (const [request, { begun, context }] of unanswered) {
      if (browser.contexts().includes(context)) console.error(`no answer for ${Date.now() - begun} ms: ${request.method()} ${request.url()}`);
    }
    console.error(offences.join('\n'));
    process.exit(1);
  }
}

await mkdir(pictures, { recursive: true });
selectors.setTestIdAttribute('data-test');

export const everything = { devices: ['*'] };
export const operatorToken = await token({ ...everything, sub: 'operator', name: 'Asha Operator', verbs: ['read', 'ack', 'operate', 'admin'] });
export const readerToken = await token({ ...everything, sub: 'reader', name: 'Ravi Reader', verbs: ['read'] });
export const limitedToken = await token({ devices: ['OTSM-0001'], sub: 'limited', name: 'Lena Limited', verbs: ['read', 'ack'] });

/** A note that would be markup, if it were more than text. */
export const NOTE = 'The crew is on its way. <b>Valve</b> 3 is closed.';

export const operator = await person(null);
export const reader = await person(readerToken);
