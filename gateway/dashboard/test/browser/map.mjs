// Where the detectors are.
import { expect, gone, open, operator, reading, seen, shows, step } from './stage.mjs';

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
