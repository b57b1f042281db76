// The list of all detectors.
import { expect, gone, open, operator, reading, seen, step } from './stage.mjs';

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
