// What was: the alarm log, and the report of a shift.
import { expect, gone, NOTE, open, operator, picture, seen, step, textOf } from './stage.mjs';

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

await step('an address with a time that is none is not searched for', async () => {
  await open(operator, '/ui/alarms/history?from=abc');
  await seen(operator.getByText('This address has a time that cannot be read.'));
  expect((await operator.getByText('No alarm in this time').count()) === 0, 'nothing is said of alarms');
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
