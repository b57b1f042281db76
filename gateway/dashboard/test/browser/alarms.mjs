// The open alarms: they are seen, acknowledged, and never by mistake.
import { expect, gone, holds, knows, NOTE, open, operator, operatorToken, reader, reading, row, seen, step, url } from './stage.mjs';

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
