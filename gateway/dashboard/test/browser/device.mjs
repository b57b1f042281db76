// One detector: its trend, what it last said, its name, and its messages that cannot be read.
import { ask, expect, gone, knows, open, operator, operatorToken, person, reader, reading, row, seen, seenAfter, step, textOf } from './stage.mjs';

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
  const watcher = await person(operatorToken);
  await watcher.clock.install();
  await open(watcher, '/ui/devices/OTSM-0001');
  await seen(watcher.getByTestId('gauge-value').getByText('ppm'));
  expect((await watcher.getByTestId('last-known').count()) === 0, 'a reading of now is present');
  // Half of the silence limit of this system, which is an hour.
  await watcher.clock.fastForward('31:00');
  await seen(watcher.getByTestId('last-known'));
  await watcher.context().close();
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
