// Screens that are not live say so, and recover by themselves.
import { ask, gone, holds, open, operator, operatorToken, person, reader, reading, report, row, seen, shows, step } from './stage.mjs';

await step('a page that plays nothing before a click says so', async () => {
  // Nobody has clicked in this browser yet, but the sound was wanted in it before.
  const page = await person(operatorToken);
  await page.addInitScript(() => localStorage.setItem('sound', 'true'));
  // Whatever Playwright evaluates counts as a click of the user. So nothing is, until the page has made its sound.
  const isRunning = page.waitForEvent('websocket');
  await open(page, '/ui/alarms?kiosk');
  await isRunning;
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
