// Drives the dashboard in Chromium. `tests/it/dashboard.rs` starts it, and does what happens outside of the browser.
//
//   node browser.mjs URL PICTURES CHROMIUM LATE
//
// It writes a request per line and reads an answer per line. It exits 0 if everything was seen that was expected. `LATE`: the longest wait for
// anything, in milliseconds. What is looked at once is only what cannot change any more by then, or what must never be.
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';

import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const [url, pictures, executablePath, late] = process.argv.slice(2);
const LATE = Number(late);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks for something outside of the browser. */
async function ask(request) {
  process.stdout.write(`${JSON.stringify(request)}\n`);
  const { value, done } = await lines.next();
  if (done) throw new Error('nobody answers');
  return JSON.parse(value);
}
const reading = (device, value, more = {}) => ask({ do: 'reading', device, value, ...more });
const token = async (claims) => (await ask({ do: 'token', claims })).token;
const report = (line) => ask({ do: 'report', line: `dashboard: ${line}` });

function expect(is, what) {
  if (!is) throw new Error(`expected: ${what}`);
}

/** Waits until it holds. For what no page shows: a page waits for what it shows itself. */
async function holds(what, probe) {
  const end = Date.now() + LATE;
  while (!(await probe())) {
    if (Date.now() > end) throw new Error(`gave up waiting: ${what}`);
    await setTimeout(20);
  }
}

/** Everything that a page must never do. */
const offences = [];
/** When the requests began that have no answer yet. */
const unanswered = new Map();

const browser = await chromium.launch({
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
async function person(itsToken, options = {}) {
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

const open = (page, path) => page.goto(`${url}${path}`);
const seen = (locator) => locator.waitFor({ state: 'visible' });
const gone = (locator) => locator.waitFor({ state: 'hidden' });
async function textOf(download) {
  const parts = [];
  for await (const part of await download.createReadStream()) parts.push(part);
  return Buffer.concat(parts).toString();
}
const row = (page, device) => page.locator(`tr[data-device="${device}"]`);
const shows = (page, value) => seen(page.getByTestId('gauge-value').getByText(String(value), { exact: true }));
/** The page knows who uses it. Before, what they may not do is absent for another reason. A narrow window does not show it. */
const knows = (page, name) => page.locator('.topbar .name').getByText(name).waitFor({ state: 'attached' });

/** Asks again, as a person does, until the page has it. For lists that are read once: what is written behind an answer may come later. */
async function seenAfter(again, wanted) {
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
const picture = (page, name) => page.screenshot({ path: `${pictures}/${name}.jpeg`, type: 'jpeg', quality: 55 });

async function step(name, run) {
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
const { selectors } = await import('playwright-core');
selectors.setTestIdAttribute('data-test');

const everything = { devices: ['*'] };
const operatorToken = await token({ ...everything, sub: 'operator', name: 'Asha Operator', verbs: ['read', 'ack', 'operate', 'admin'] });
const readerToken = await token({ ...everything, sub: 'reader', name: 'Ravi Reader', verbs: ['read'] });
const limitedToken = await token({ devices: ['OTSM-0001'], sub: 'limited', name: 'Lena Limited', verbs: ['read', 'ack'] });

/** A note that would be markup, if it were more than text. */
const NOTE = 'The crew is on its way. <b>Valve</b> 3 is closed.';

const operator = await person(null);
const reader = await person(readerToken);

await step('nobody sees anything without a token, and a wrong one is refused', async () => {
  await reading('OTSM-0001', 100);
  await open(operator, '/');
  await seen(operator.getByRole('heading', { name: 'Gas detection' }));
  await operator.getByLabel('Token', { exact: true }).fill('wrong');
  await operator.getByRole('button', { name: 'Sign in with the token' }).click();
  await seen(operator.getByText('The server refused it'));
  await operator.getByLabel('Token', { exact: true }).fill(operatorToken);
  await operator.getByRole('button', { name: 'Sign in with the token' }).click();
});

await step('without an alarm the fleet is the first page', async () => {
  await operator.waitForURL('**/ui/fleet');
  await seen(operator.getByTestId('fleet').getByText('OTSM-0001'));
  await seen(operator.getByTestId('link').getByText('Live'));
});

await step('a reading moves the gauge', async () => {
  await open(operator, '/ui/devices/OTSM-0001');
  await shows(operator, 100);
  const before = await operator.locator('.needle').getAttribute('d');
  await reading('OTSM-0001', 180);
  await shows(operator, 180);
  await operator.waitForFunction((old) => document.querySelector('.needle')?.getAttribute('d') !== old, before);
});

await step('an alarm appears in two browsers, and its acknowledgement too', async () => {
  await open(operator, '/ui/alarms');
  await open(reader, '/ui/alarms');
  await seen(operator.getByText('No alarm is open.'));
  await seen(reader.getByText('No alarm is open.'));
  await knows(operator, 'Asha Operator');
  await knows(reader, 'Ravi Reader');
  await reading('OTSM-0002', 620);
  for (const page of [operator, reader]) {
    await seen(row(page, 'OTSM-0002'));
    await seen(page.getByTestId('alarm-count').getByText('1'));
    await page.waitForFunction(() => document.title.startsWith('(1)'));
  }
  expect((await row(reader, 'OTSM-0002').getByTestId('acknowledge').count()) === 0, 'a reader has no button to acknowledge');
  expect((await reader.getByTestId('acknowledge-shown').count()) === 0, 'nor one for all');
  await row(operator, 'OTSM-0002').getByTestId('acknowledge').click();
  await operator.getByTestId('ack-confirm').click();
  for (const page of [operator, reader]) await seen(row(page, 'OTSM-0002').getByText('Acknowledged by Asha Operator'));
  await gone(reader.getByTestId('alarm-count'));
  // It is open all the same.
  await seen(reader.getByTestId('open-count').getByText('1'));
  await reader.waitForFunction(() => document.title.startsWith('1 open'));
});

await step('an alarm shows the reading of now, and not the one that raised it', async () => {
  await reading('OTSM-0002', 980);
  await seen(row(operator, 'OTSM-0002').getByTestId('live-reading').getByText('980 ppm'));
  await seen(row(operator, 'OTSM-0002').getByText('Value at alarm 620 ppm'));
});

await step('a key acts on the row that has the focus, and on no other', async () => {
  await reading('OTSM-0008', 300);
  await seen(row(operator, 'OTSM-0008'));
  await operator.locator('h1').click();
  await operator.keyboard.press('a');
  await operator.keyboard.press('Enter');
  expect((await operator.locator('dialog[open]').count()) === 0, 'no dialog without a focused row');
  await row(operator, 'OTSM-0008').press('a');
  await seen(operator.getByTestId('ack-device').getByText('OTSM-0008'));
  // Enter, struck at once after A, acknowledges nothing.
  await operator.keyboard.press('Enter');
  await gone(operator.getByRole('dialog'));
  await seen(row(operator, 'OTSM-0008').getByText('Not acknowledged'));
});

await step('what is new waits while somebody points at a row, no row moves, and it is shown when it is asked for', async () => {
  await reading('OTSM-0030', 310);
  const above = row(operator, 'OTSM-0030');
  const target = row(operator, 'OTSM-0008');
  await seen(above);
  await target.hover();
  // A pointer that lies still for long holds nothing: this one keeps moving, however slow the machine is.
  await target.evaluate((element) => {
    const move = () => element.dispatchEvent(new PointerEvent('pointermove', { pointerType: 'mouse', bubbles: true }));
    window.moving = setInterval(move, 200);
    move();
  });
  const places = () =>
    operator.locator('tr[data-alarm]').evaluateAll((rows) => rows.map((one) => [one.dataset.device, one.getBoundingClientRect().top]));
  const before = await places();
  // Longer texts in the rows that are there, and a new row with a long name.
  await reading('OTSM-0002', 987.65);
  await seen(row(operator, 'OTSM-0002').getByText('peak 987.65 ppm'));
  await reading('OTSM-0030', 249);
  await seen(above.getByTestId('back'));
  const path = `/devices/OTSM-0030/subtronics/alerts/${await above.getAttribute('data-alarm')}/acknowledge`;
  const note = 'A long note. '.repeat(20).trim();
  const answer = await operator.request.post(`${url}${path}`, { headers: { authorization: `Bearer ${operatorToken}` }, data: { note } });
  expect(answer.ok(), `the note is taken (${answer.status()})`);
  await seen(above.getByText('A long note.'));
  await reading('OTSM-0009', 1500, { root: { 'Device Alise Name': 'The detector with the longest name of the whole site' } });
  await seen(operator.getByTestId('held'));
  const after = new Map(await places());
  for (const [device, place] of before) expect(after.get(device) === place, `${device} stays where it is (${place}, ${after.get(device)})`);
  for (const width of [1100, 1440]) {
    await operator.setViewportSize({ width, height: 900 });
    const heights = await operator.locator('tr[data-alarm]').evaluateAll((rows) => rows.map((one) => one.getBoundingClientRect().height));
    expect(new Set(heights).size === 1, `all rows are as high as each other (${heights})`);
  }
  await operator.getByTestId('show-now').click();
  await operator.waitForFunction(() => document.querySelector('tr[data-alarm]')?.dataset.device === 'OTSM-0009');
  await operator.evaluate(() => clearInterval(window.moving));
  await operator.mouse.move(5, 5);
});

await step('a run that is cancelled sends no more, and touches no later dialog', async () => {
  const held = [];
  await operator.route('**/acknowledge', (route) => held.push(route));
  const six = [20, 21, 22, 23, 24, 25].map((number) => `OTSM-00${number}`);
  for (const device of six) await reading(device, 300);
  // They come in no particular order.
  for (const device of six) await seen(row(operator, device));
  await operator.getByTestId('acknowledge-shown').click();
  await operator.getByTestId('ack-confirm').click();
  await holds('four acknowledgements are held', () => held.length === 4);
  await operator.getByRole('button', { name: 'Cancel' }).click();
  await gone(operator.getByRole('dialog'));
  await row(operator, 'OTSM-0008').getByTestId('acknowledge').click();
  await seen(operator.getByRole('dialog'));
  const cancelled = held.splice(0);
  await Promise.all(cancelled.map((route) => route.continue()));
  for (const route of cancelled) await (await route.request().response())?.finished();
  const acknowledged = cancelled.map((route) => decodeURIComponent(new URL(route.request().url()).pathname.split('/')[2]));
  for (const page of [operator, reader]) for (const device of acknowledged) await seen(row(page, device).getByText('Acknowledged by Asha Operator'));
  expect(cancelled.length === 4 && held.length === 0, `four were sent, and no more (${cancelled.length}, ${held.length})`);
  expect(await operator.getByTestId('ack-confirm').isEnabled(), 'the later dialog is as it was');
  await operator.getByRole('button', { name: 'Cancel' }).click();
  await operator.unroute('**/acknowledge');
});

await step('an alarm that escalates while the dialog is open is not acknowledged by mistake', async () => {
  await reading('OTSM-0003', 300);
  await seen(row(operator, 'OTSM-0003'));
  // With the keyboard, as somebody who works there does.
  await row(operator, 'OTSM-0003').press('a');
  await seen(operator.getByRole('dialog').getByText('Gas, level A1'));
  await reading('OTSM-0003', 700);
  await seen(operator.getByTestId('ack-note').getByText('Escalated since you opened this: now Gas, level A2'));
  await operator.getByTestId('ack-confirm').click();
  await seen(operator.getByTestId('ack-result').getByText('It had reached a higher level'));
  await operator.getByRole('button', { name: 'Close' }).click();
  await seen(row(operator, 'OTSM-0003').getByText('Not acknowledged'));
  await seen(row(reader, 'OTSM-0003').getByText('Not acknowledged'));
});

await step('single keys can be turned off, a selection is told, and it stays when the dialog is cancelled', async () => {
  await reading('OTSM-0011', 300);
  const line = row(operator, 'OTSM-0011');
  await seen(line);
  await operator.mouse.move(5, 5);
  await line.press(' ');
  await seen(operator.locator('tr[data-device="OTSM-0011"][aria-selected="true"]'));
  await line.press('a');
  await seen(operator.getByRole('dialog'));
  await operator.getByRole('button', { name: 'Cancel' }).click();
  await gone(operator.getByRole('dialog'));
  await seen(operator.locator('tr[data-device="OTSM-0011"][aria-selected="true"]'));

  const toggle = async () => {
    await operator.getByText('Account').locator('xpath=ancestor::summary').click();
    await operator.getByLabel('Keys A and /').click();
    await operator.keyboard.press('Escape');
  };
  await toggle();
  await line.press('a');
  await operator.keyboard.press('/');
  // Space comes behind them, and acts on the row as everywhere.
  await operator.keyboard.press(' ');
  await seen(operator.locator('tr[data-device="OTSM-0011"][aria-selected="false"]'));
  expect((await operator.locator('dialog[open]').count()) === 0, 'no dialog');
  expect(await line.evaluate((element) => element === document.activeElement), 'the focus stays in the list');
  await toggle();
});

await step('the focus stays on its row when the order changes', async () => {
  await row(operator, 'OTSM-0011').focus();
  // From among many of A1 to the top.
  await reading('OTSM-0011', 1600);
  await operator.waitForFunction(() => {
    const first = document.querySelector('tr[data-alarm]');
    return first?.dataset.device === 'OTSM-0011' && first === document.activeElement;
  });
});

await step('a selection is acknowledged at once, with one note', async () => {
  await reading('OTSM-0004', 1200);
  await seen(row(operator, 'OTSM-0004'));
  await operator.mouse.move(5, 5);
  await row(operator, 'OTSM-0003').getByRole('checkbox').check();
  await row(operator, 'OTSM-0004').getByRole('checkbox').check();
  await operator.getByTestId('acknowledge-selected').click();
  await operator.getByTestId('ack-words').fill(NOTE);
  await seen(operator.getByTestId('note-left').getByText(`${NOTE.length} of 280`));
  await operator.getByTestId('ack-confirm').click();
  for (const device of ['OTSM-0003', 'OTSM-0004']) {
    await seen(row(reader, device).getByText('Acknowledged by Asha Operator'));
    await seen(row(reader, device).getByText(NOTE));
  }
  await open(reader, '/ui/devices/OTSM-0004');
  await seen(reader.locator('.cards').getByText(NOTE));
  await seen(reader.locator('.changes').getByText(NOTE));
  await open(reader, '/ui/alarms');
});

await step('what a token does not allow is absent', async () => {
  const limited = await person(limitedToken);
  await open(limited, '/ui/fleet');
  await knows(limited, 'Lena Limited');
  await seen(limited.getByTestId('fleet').getByText('OTSM-0001'));
  expect((await limited.getByText('OTSM-0002').count()) === 0, 'no row of a detector that the token does not name');
  await open(limited, '/ui/alarms');
  await seen(limited.getByText('No alarm is open.'));
  await open(limited, '/ui/devices/OTSM-0002');
  await seen(limited.getByText('This detector cannot be shown'));
  await open(limited, '/ui/operation');
  await knows(limited, 'Lena Limited');
  await seen(limited.getByText('Data path'));
  expect((await limited.getByText('Audit trail').count()) === 0, 'no audit trail');
  expect((await limited.getByText('Replicas').count()) === 0, 'no replicas');
  expect((await limited.getByTestId('dead-letters').count()) === 0, 'no messages of whatever detector');
  await open(operator, '/ui/operation');
  const audit = operator.locator('section', { has: operator.getByRole('heading', { name: 'Audit trail' }) }).last();
  await seenAfter(audit.getByRole('button', { name: 'Read again' }), audit.getByRole('cell', { name: 'Asha Operator' }).first());
  await limited.context().close();
});

await step('a token that ends is replaced while the page goes on', async () => {
  const claims = { ...everything, sub: 'short', name: 'Sara Short', verbs: ['read'] };
  const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;
  // It is announced ten minutes before, so at once.
  const page = await person(await token({ ...claims, exp: inSeconds(540) }));
  await open(page, '/ui/fleet');
  await seen(page.getByText('You will be signed out in'));
  await page.getByLabel('New token').fill(await token({ ...claims, exp: inSeconds(3600) }));
  await page.getByRole('button', { name: 'Go on with the new token' }).click();
  await gone(page.getByText('You will be signed out in'));
  await seen(page.getByTestId('link').getByText('Live'));
  await page.context().close();
});

await step('the history has what is filtered, and so has its file', async () => {
  await open(operator, '/ui/alarms/history');
  await seen(operator.getByRole('cell', { name: 'Gas, level A3' }).first());
  await operator.getByLabel('Severity').selectOption('critical');
  await operator.getByRole('button', { name: 'Show', exact: true }).click();
  await gone(operator.getByRole('cell', { name: 'Gas, level A1' }).first());
  const [download] = await Promise.all([operator.waitForEvent('download'), operator.getByRole('button', { name: 'Download as CSV' }).click()]);
  const text = await textOf(download);
  expect(text.includes('OTSM-0004') && !text.includes('OTSM-0003'), `only critical alarms: ${text}`);
  expect(text.includes(NOTE), `with the note: ${text}`);
});

await step('many detectors: only the rows that are seen are drawn', async () => {
  for (let number = 100; number < 250; number += 1) await reading(`OTSM-0${number}`, number);
  await open(operator, '/ui/fleet?sort=id');
  const fleet = operator.getByTestId('fleet');
  await operator.waitForFunction(() => Number(document.querySelector('[aria-rowcount]')?.getAttribute('aria-rowcount')) > 150);
  expect((await fleet.locator('.rows .row').count()) < 60, 'fewer rows than detectors');
  // Some may still be coming, and make the list longer.
  await operator.waitForFunction(() => {
    const list = document.querySelector('[data-test="fleet"]');
    list?.scrollTo(0, list.scrollHeight);
    return list?.textContent.includes('OTSM-0249');
  });
  await seen(fleet.getByText('OTSM-0249'));
  expect((await fleet.locator('.rows .row').count()) < 60, 'also at its end');
  await operator.getByPlaceholder('Search name').fill('OTSM-0123');
  await operator.waitForURL('**q=OTSM-0123**');
  await seen(fleet.getByText('OTSM-0123'));
  await gone(fleet.getByText('OTSM-0249'));
});

await step('a page that plays nothing before a click says so', async () => {
  // Nobody has clicked in this browser yet, but the sound was wanted in it before.
  const page = await person(operatorToken);
  await page.addInitScript(() => localStorage.setItem('sound', 'true'));
  await open(page, '/ui/alarms?kiosk');
  await seen(page.getByTestId('sound-locked'));
  await page.getByTestId('sound-locked').getByRole('button').click();
  await gone(page.getByTestId('sound-locked'));
  await seen(row(page, 'OTSM-0004'));

  // A screen that is not live says so in its title, and by sound.
  await page.evaluate(() => (window.tones = 0));
  await ask({ do: 'kill gateway' });
  await page.waitForFunction(() => document.title.startsWith('NOT LIVE'));
  await page.waitForFunction(() => window.tones > 0);
  await ask({ do: 'start gateway' });
  await gone(page.getByTestId('banner'));
  await page.waitForFunction(() => document.title.startsWith('('));
  await page.context().close();
});

await step('a killed gateway: the banner, and a page that recovers by itself without a gap', async () => {
  await open(operator, '/ui/devices/OTSM-0005');
  await reading('OTSM-0005', 10);
  await shows(operator, 10);
  // On a telephone, and at the end of a long list.
  await reader.setViewportSize({ width: 360, height: 640 });
  await open(reader, '/ui/alarms');
  await seen(row(reader, 'OTSM-0004'));
  const killed = Date.now();
  await ask({ do: 'kill gateway' });
  await seen(operator.getByTestId('banner').getByText('This screen is not live.'));
  await report(`the banner came ${Date.now() - killed} ms after the gateway was killed`);
  await seen(operator.locator('main.frozen'));
  await seen(reader.getByTestId('banner'));
  await reader.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  // It stays in sight.
  await reader.waitForFunction(() => {
    const banner = document.querySelector('[data-test="banner"]')?.getBoundingClientRect();
    return banner && banner.height > 0 && banner.top >= 0 && banner.bottom <= innerHeight + 1;
  });
  // An alarm that is raised and rises while nobody can see it.
  for (const value of [300, 600, 610]) await reading('OTSM-0005', value);
  await ask({ do: 'start gateway' });
  const started = Date.now();
  await shows(operator, 610);
  await gone(operator.getByTestId('banner'));
  await report(`the page was live ${Date.now() - started} ms after the gateway was ready`);
  await seen(operator.locator('.changes').getByText('Gas, level A1: Raised'));
  await seen(operator.locator('.changes').getByText('Gas, level A2: Escalated'));
  await seen(row(reader, 'OTSM-0005').getByText('Gas, level A2'));
});

await step('Redis is cut off: the banner, and back', async () => {
  const cut = Date.now();
  await ask({ do: 'cut Redis' });
  await seen(operator.getByTestId('banner').getByText('The store (Redis) has been down'));
  await report(`the banner came ${Date.now() - cut} ms after Redis was cut off`);
  await ask({ do: 'heal Redis' });
  await gone(operator.getByTestId('banner'));
  await reading('OTSM-0005', 33);
  await shows(operator, 33);
});

await step('a tab that was frozen is right when it wakes', async () => {
  // Whatever the connection brought meanwhile, everything is asked for again.
  const sent = [];
  operator.on('websocket', (socket) => socket.on('framesent', ({ payload }) => sent.push(String(payload))));
  operator.on('request', (request) => sent.push(request.postData() ?? ''));
  await operator.reload();
  await seen(operator.getByTestId('link').getByText('Live'));
  await seen(operator.getByTestId('gauge-value'));
  const devtools = await operator.context().newCDPSession(operator);
  await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
  await reading('OTSM-0005', 44);
  await reading('OTSM-0005', 55);
  await devtools.send('Page.setWebLifecycleState', { state: 'active' });
  await shows(operator, 55);
  await devtools.detach();
  const before = sent.length;
  await operator.evaluate(() => {
    const show = (state) => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state });
      document.dispatchEvent(new Event('visibilitychange'));
    };
    const now = Date.now;
    show('hidden');
    // Longer, and the client library takes the connection for dead.
    Date.now = () => now() + 11_000;
    show('visible');
    Date.now = now;
  });
  await holds('the detector is asked for again', () => sent.slice(before).some((text) => text.includes('"subscribe:device"')));
  await seen(operator.getByTestId('link').getByText('Live'));
});

await step('a detector that sends nothing readable, and one whose clock is wrong', async () => {
  await reading('OTSM-0006', 'broken');
  await reading('OTSM-0007', 120, { root: { timestamp: '2001-01-01 00:00:00' } });
  await open(operator, '/ui/devices/OTSM-0006');
  await seen(operator.getByTestId('gauge-value').getByText('No reading'));
  await seen(operator.getByText('No usable reading').first());
  await open(operator, '/ui/devices/OTSM-0007');
  await seen(operator.getByText("The detector's own time is missing or wrong."));
});

await step('a part of the trend is read anew, and a double click leads back', async () => {
  // The page also reads again what it shows.
  const read = (page, isWanted) => page.waitForRequest((request) => request.url().includes('/history?') && isWanted(lengthOf(request)));
  const lengthOf = (request) => {
    const query = new URL(request.url()).searchParams;
    return Number(query.get('until')) - Number(query.get('from'));
  };
  const day = 24 * 3_600_000;
  const isDay = (length) => length === day;
  await Promise.all([read(operator, isDay), open(operator, '/ui/devices/OTSM-0002?range=24h')]);
  // What is dragged over, or zoomed with a key, is what is drawn.
  const isDrawn = async () => {
    await seen(operator.locator('.chart figcaption').getByText('As of'));
    await operator.waitForFunction(() => document.querySelector('[data-test="trend-coming"]')?.textContent === '');
  };
  await isDrawn();
  const plot = operator.locator('.u-over');
  const { width, height } = await plot.evaluate((element) => element.getBoundingClientRect());
  const at = (share) => plot.hover({ position: { x: width * share, y: height / 2 } });
  await at(0.5);
  await operator.mouse.down();
  await at(0.6);
  await at(0.75);
  await Promise.all([read(operator, (length) => Math.abs(length - day / 4) < day / 20), operator.mouse.up()]);
  await seen(operator.getByTestId('zoom-back'));
  await Promise.all([read(operator, isDay), plot.dblclick()]);
  await gone(operator.getByTestId('zoom-back'));
  // The same with keys alone.
  await isDrawn();
  await operator.getByTestId('trend-chart').press('ArrowLeft');
  await seen(operator.getByTestId('trend-told').getByText('Quality'));
  await Promise.all([read(operator, (length) => Math.abs(length - day / 2) < day / 20), operator.keyboard.press('+')]);
  await seen(operator.getByTestId('zoom-back'));
  await Promise.all([read(operator, isDay), operator.keyboard.press('Escape')]);
  await gone(operator.getByTestId('zoom-back'));
  const [months] = await Promise.all([read(operator, (length) => length === 90 * day), operator.getByRole('button', { name: '90 days' }).click()]);
  expect(new URL(months.url()).searchParams.get('limit') === '1', 'without its samples');
  await seen(operator.getByTestId('trend-note').getByText('Readings are kept since'));
  await isDrawn();
  // Its file has what is drawn: buckets, also of times of which no sample is kept.
  const [file, asked] = await Promise.all([
    operator.waitForEvent('download'),
    operator.waitForRequest((request) => request.url().includes('/history.csv?')),
    operator.getByTestId('trend-table').click(),
  ]);
  expect(new URL(asked.url()).searchParams.get('points') === '600', asked.url());
  const text = await textOf(file);
  expect(/^\uFEFFfrom,until,min,max,mean,count,[^\r]*\r\n.*,ppm,/.test(text), text);
});

await step('what a silent detector last said is not shown as present', async () => {
  // It sent its last reading at the beginning.
  await open(operator, '/ui/devices/OTSM-0001');
  await seen(operator.getByTestId('last-known'));
});

await step('an address with a time that is none is not searched for', async () => {
  await open(operator, '/ui/alarms/history?from=abc');
  await seen(operator.getByText('This address has a time that cannot be read.'));
  expect((await operator.getByText('No alarm in this time').count()) === 0, 'nothing is said of alarms');
});

await step('a page whose first question gets no answer is shown, and asks again', async () => {
  const page = await person(readerToken);
  let asked = 0;
  // The first one is never answered.
  await page.route('**/auth/session', (route) => (asked++ === 0 ? undefined : route.continue()));
  await open(page, '/ui/fleet');
  await seen(page.getByTestId('link').getByText('Live'));
  await seen(page.getByText('Ravi Reader').first());
  expect(asked === 2, `asked twice, not ${asked} times`);
  await page.context().close();
});

await step('a page whose files cannot be had says so', async () => {
  const page = await person(readerToken);
  await page.route('**/*.js', (route) => route.fulfill({ status: 404 }));
  await open(page, '/ui/');
  await seen(page.getByText('Not loaded.'));
  await page.context().close();
});

await step('the name and the zone of a detector are changed, and nobody overwrites what another one changed', async () => {
  await reading('OTSM-0010', 12);
  const [first, second] = [await person(operatorToken), await person(operatorToken)];
  for (const page of [first, second]) {
    await open(page, '/ui/devices/OTSM-0010');
    await page.getByTestId('edit').click();
    await seen(page.getByTestId('profile').getByText('Name and place of OTSM-0010'));
    // What it was before anybody has changed it has arrived.
    await seen(page.locator('dialog[open] input:enabled').first());
  }
  await first.getByLabel('Name', { exact: true }).fill('Boiler');
  await first.getByTestId('profile-save').click();
  await gone(first.getByTestId('profile'));
  await seen(second.getByRole('heading', { name: 'Boiler', level: 1, includeHidden: true }));
  await second.getByLabel('Zone', { exact: true }).fill('Hall 1');
  await second.getByTestId('profile-save').click();
  await seen(second.getByTestId('theirs').getByText('Boiler'));
  expect((await second.getByLabel('Zone', { exact: true }).inputValue()) === 'Hall 1', 'what was typed is still there');
  await second.getByTestId('profile-save').click();
  await gone(second.getByTestId('profile'));
  for (const page of [first, second]) {
    await seen(page.getByRole('heading', { name: 'Boiler' }));
    await seen(page.locator('header.head').getByText('Hall 1'));
    await page.context().close();
  }
  await open(reader, '/ui/devices/OTSM-0010');
  await knows(reader, 'Ravi Reader');
  await seen(reader.getByRole('heading', { name: 'Boiler' }));
  expect((await reader.getByTestId('edit').count()) === 0, 'whoever may only see changes nothing');
});

await step('why a detector sends nothing readable is found from its alarm', async () => {
  await reading('OTSM-0012', 10);
  // Cut off in the middle, with what would be markup if it were more than text; and bytes that are no text.
  await ask({ do: 'message', text: '{"OTSM-2 Serial Number": "OTSM-0012", "Device Alise Name": "<img src=x alt=forged>", "Parameters": {"Offset": 1' });
  await ask({ do: 'message', bytes: [0xc3, 0x28, 0x9f, 0x92, 0x96, 0x00, 0xff] });
  await open(operator, '/ui/alarms');
  await row(operator, 'OTSM-0012').getByRole('link').click();
  await operator.getByTestId('why').click();
  const letters = operator.getByTestId('dead-letter');
  const again = operator.getByTestId('dead-letters').getByRole('button', { name: 'Read again' });
  // Its alarm is stored before it.
  await seenAfter(again, letters.getByText('The message is cut off or damaged'));
  await seen(letters.getByText('not_json', { exact: true }));
  await seen(letters.getByText('For the technician:'));
  expect((await letters.count()) === 1, 'only those that name it');
  await seen(letters.locator('pre').getByText('<img src=x alt=forged>'));
  expect((await operator.getByAltText('forged').count()) === 0, 'a payload is text');
  await open(operator, '/ui/operation?reason=not_utf8');
  await seenAfter(again, letters.getByText('The message is not text'));
  await seen(letters.getByTestId('operator').getByText('treat its place as unknown'));
  await letters.getByText('Show all of it').click();
  await seen(letters.locator('pre').getByText('000000  c3 28 9f'));
});

/** Until then there is the grid, on which everything is elsewhere. */
const planIsDrawn = (page) => page.waitForFunction(() => document.querySelector('img.plan[alt="Plant"]')?.naturalWidth > 0);

await step('on the map the worst of a place shows, and what has no place is beside it', async () => {
  await reading('OTSM-0301', 10, { root: { lat: '19.012000', long: '72.830000' } });
  await reading('OTSM-0302', 1500, { root: { lat: '19.012001', long: '72.830001' } });
  await reading('OTSM-0303', 10, { root: { lat: '19.011000', long: '72.838000' } });
  await reading('OTSM-0304', 1600);
  await open(operator, '/ui/map');
  const marker = operator.locator('[data-test="marker"][data-device="OTSM-0302"]');
  await seen(marker.getByText('1500'));
  // The plan was fetched with the token, and the policy of the page lets it be shown.
  await planIsDrawn(operator);
  await seen(operator.locator('[data-test="marker"][data-device="OTSM-0303"]'));
  expect((await operator.locator('[data-test="marker"][data-device="OTSM-0301"]').count()) === 0, 'two at one place are one marker');
  // The first one with the keyboard is the worst.
  await operator.waitForFunction(() => document.querySelector('[data-test="marker"]')?.dataset.device === 'OTSM-0302');
  await marker.click();
  await seen(operator.getByTestId('device-card').getByText('Gas, level A3'));
  await seen(operator.getByText('2 detectors at this place'));
  await operator.waitForURL('**device=OTSM-0302**');
  await operator.getByTestId('device-card').getByRole('button', { name: 'Close' }).click();
  await seen(operator.getByTestId('without-place').getByText('OTSM-0304'));
  await operator.getByTestId('map').focus();
  await marker.press('Enter');
  await operator.getByTestId('device-card').getByRole('link', { name: 'Open the detector' }).click();
  await shows(operator, 1500);
});

await step('a detector is placed on the map', async () => {
  await open(operator, '/ui/devices/OTSM-0010');
  await operator.getByTestId('edit').click();
  await operator.getByTestId('place-on-map').click();
  await seen(operator.getByTestId('placing').getByText('Boiler'));
  await seen(operator.getByTestId('marker').first());
  await planIsDrawn(operator);
  const map = operator.getByTestId('map');
  const { width, height } = await map.evaluate((element) => element.getBoundingClientRect());
  await map.click({ position: { x: width / 2, y: height * 0.7 } });
  await seen(operator.getByTestId('profile').getByText('Name and place of OTSM-0010'));
  await operator.waitForFunction(() => document.querySelector('dialog[open] .half input')?.value.startsWith('19.0'));
  await operator.getByTestId('profile-save').click();
  await gone(operator.getByTestId('profile'));
  await seen(operator.locator('[data-test="marker"][data-device="OTSM-0010"]'));
  await gone(operator.getByTestId('placing'));
  // On the grid, without the plan, it is there too.
  await operator.getByTestId('plans').selectOption('grid');
  await operator.waitForURL('**plan=grid**');
  await gone(operator.getByAltText('Plant'));
  await seen(operator.locator('[data-test="marker"][data-device="OTSM-0010"]'));
});

await step('the report of a shift has what is open, what was, and what is silent', async () => {
  await open(operator, '/ui/alarms/shift?hours=12');
  await seen(operator.getByTestId('shift-open').getByText('OTSM-0004'));
  await seen(operator.getByTestId('shift-open').getByText('Asha Operator').first());
  await seen(operator.getByTestId('shift-alarms').getByRole('cell', { name: 'Gas, level A2' }).first());
  await seen(operator.getByTestId('shift-silent'));
  await operator.emulateMedia({ media: 'print' });
  await seen(operator.getByText('Handed over by'));
  await gone(operator.getByRole('button', { name: 'Print' }));
  await picture(operator, 'shift-printed');
  await operator.emulateMedia({ media: 'screen' });
});

// Every screen, in three looks: checked for accessibility, and pictured.
const SCREENS = [
  ['alarms', '/ui/alarms', (page) => row(page, 'OTSM-0004')],
  ['shift', '/ui/alarms/shift', (page) => page.getByTestId('shift-open').getByText('OTSM-0004')],
  ['history', '/ui/alarms/history', (page) => page.getByRole('cell', { name: 'Gas, level A3' }).first()],
  ['fleet', '/ui/fleet', (page) => page.getByTestId('fleet').getByText('OTSM-0004')],
  ['grid', '/ui/fleet?view=grid', (page) => page.getByTestId('fleet').getByText('OTSM-0004')],
  ['device', '/ui/devices/OTSM-0002', (page) => page.locator('.chart canvas')],
  ['map', '/ui/map', (page) => page.locator('[data-test="marker"][data-device="OTSM-0302"]')],
  ['trend', '/ui/devices/OTSM-0002?range=90d', (page) => page.locator('.chart canvas'), (page) => page.getByTestId('trend').scrollIntoViewIfNeeded()],
  ['letters', '/ui/operation?serial=OTSM-0012', (page) => page.getByTestId('dead-letter')],
  ['note', '/ui/devices/OTSM-0304', (page) => page.getByTestId('acknowledge'), (page) => page.getByTestId('acknowledge').click()],
  ['edit', '/ui/devices/OTSM-0010', (page) => page.getByTestId('edit'), edit],
  ['operation', '/ui/operation', (page) => page.getByText('Data path')],
];
const LOOKS = {
  wide: { viewport: { width: 1280, height: 800 } },
  narrow: { viewport: { width: 360, height: 780 } },
  dark: { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
};
for (let value = 0; value < 40; value += 1) await reading('OTSM-0002', 500 + 20 * (value % 7));

async function edit(page) {
  await page.getByTestId('edit').click();
  await page.waitForFunction(() => document.querySelector('dialog[open] input')?.value === 'Boiler');
}

for (const [look, options] of Object.entries(LOOKS)) {
  await step(`the screens are accessible: ${look}`, async () => {
    const page = await person(operatorToken, { reducedMotion: 'reduce', ...options });
    for (const [name, path, ready, act] of SCREENS) {
      await open(page, path);
      await seen(ready(page));
      await act?.(page);
      const { violations } = await new AxeBuilder({ page }).analyze();
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
      expect(found.length === 0, `no violation on ${name}, but ${found.join('\n')}`);
      const overflow = await page.evaluate(() => {
        const dialog = document.querySelector('dialog[open]');
        return Math.max(document.documentElement.scrollWidth - innerWidth, dialog ? dialog.scrollWidth - dialog.clientWidth : 0);
      });
      expect(overflow <= 0, `${name} is no wider than the window (${overflow})`);
      await picture(page, `${name}-${look}`);
    }
    const stranger = await person(null, options);
    await open(stranger, '/ui/');
    await seen(stranger.getByLabel('Token', { exact: true }));
    const { violations } = await new AxeBuilder({ page: stranger }).analyze();
    expect(violations.length === 0, `no violation: ${JSON.stringify(violations)}`);
    await picture(stranger, `sign-in-${look}`);
    await page.context().close();
    await stranger.context().close();
  });
}

await step('no page did what it must not do', async () => {
  expect(offences.length === 0, `nothing, but ${offences.join('\n')}`);
});
await browser.close();
// The answers may go on.
process.exit(0);
