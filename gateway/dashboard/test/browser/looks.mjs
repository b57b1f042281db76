// Every screen, in three looks: checked for accessibility, and pictured.
import { AxeBuilder } from '@axe-core/playwright';

import { expect, open, operatorToken, person, picture, reading, row, seen, step } from './stage.mjs';

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
