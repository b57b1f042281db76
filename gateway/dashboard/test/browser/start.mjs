// How a page begins: who uses it, and what it does if something does not come.
import { expect, open, operator, operatorToken, person, readerToken, reading, seen, shows, step } from './stage.mjs';

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
