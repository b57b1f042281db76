// What a token allows, and how long.
import { everything, expect, gone, knows, limitedToken, open, operator, person, seen, seenAfter, step, token } from './stage.mjs';

await step('what a token does not allow is absent', async () => {
  const limited = await person(limitedToken);
  await open(limited, '/ui/fleet');
  await knows(limited, 'Lena Limited');
  await seen(limited.getByTestId('fleet').getByText('OTSM-0001'));
  expect((await limited.getByText('OTSM-0002').count()) === 0, 'no row of a detector that the token does not name');
  await open(limited, '/ui/alarms');
  await seen(limited.getByText('No alarm is open of the detectors that you may see.'));
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
