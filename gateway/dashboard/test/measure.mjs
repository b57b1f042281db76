// How smooth the list of all detectors is, and whether the page grows. `tests/bench/run screen` starts it:
//
//   node measure.mjs URL SECONDS CHROMIUM
//
// The result is one line of JSON; `tests/bench/scenarios/screen.rs` says what is in it.
import { chromium } from 'playwright-core';

const [url, seconds, executablePath] = process.argv.slice(2);
/** Nothing counts before everything is there and compiled. */
const WARM_UP_MS = 30_000;
/** Between two collections. */
const STEP_MS = 30_000;

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'] });
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
page.on('pageerror', (error) => {
  throw error;
});
await page.addInitScript(watch);
await page.goto(`${url}/ui/fleet`);
await page.locator('.rows .row').first().waitFor();
const devtools = await page.context().newCDPSession(page);
await devtools.send('Performance.enable');
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The page after everything that is no longer needed was collected. */
async function collected() {
  // What a first collection frees may have kept something else.
  for (let times = 0; times < 2; times += 1) await devtools.send('HeapProfiler.collectGarbage');
  const { metrics } = await devtools.send('Performance.getMetrics');
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  return { heap: of('JSHeapUsedSize') / 1024 / 1024, nodes: of('Nodes') };
}

await wait(WARM_UP_MS);
const samples = [];
const frames = new Map();
const sums = { count: 0, longTasks: 0, longestTask: 0, changes: 0, ms: 0 };
const steps = Math.max(1, Math.round((Number(seconds) * 1000) / STEP_MS));
samples.push(await collected());
for (let step = 0; step < steps; step += 1) {
  // Collections do not count.
  await page.evaluate(() => globalThis.watched.begin());
  await wait(STEP_MS);
  const found = await page.evaluate(() => globalThis.watched.end());
  if (found.changes === 0) throw new Error('nothing changed on the screen');
  for (const [ms, count] of found.frames) frames.set(ms, (frames.get(ms) ?? 0) + count);
  sums.longestTask = Math.max(sums.longestTask, found.longestTask);
  for (const key of ['longTasks', 'changes', 'ms']) sums[key] += found[key];
  samples.push(await collected());
}
await browser.close();

const sorted = [...frames].sort(([a], [b]) => a - b);
const all = sorted.reduce((sum, [, count]) => sum + count, 0);
function quantile(share) {
  let before = 0;
  for (const [ms, count] of sorted) {
    before += count;
    if (before >= all * share) return ms;
  }
  return 0;
}
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const minutes = samples.map((_, index) => (index * STEP_MS) / 60_000);
const heaps = samples.map(({ heap }) => heap);
const slope =
  mean(minutes.map((minute, index) => (minute - mean(minutes)) * (heaps[index] - mean(heaps)))) / mean(minutes.map((minute) => (minute - mean(minutes)) ** 2));
console.log(
  JSON.stringify({
    frameP50: quantile(0.5),
    frameP99: quantile(0.99),
    frameMax: sorted.at(-1)[0],
    frames: (all * 1000) / sums.ms,
    longTasks: (sums.longTasks * 60_000) / sums.ms,
    longestTask: sums.longestTask,
    heapFirst: heaps[0],
    heapLast: heaps.at(-1),
    heapGrowthKibPerMinute: slope * 1024,
    nodesFirst: samples[0].nodes,
    nodesLast: samples.at(-1).nodes,
    changes: (sums.changes * 1000) / sums.ms,
  }),
);

/** Runs in the page. What it keeps does not grow: frames are counted by their whole milliseconds. */
function watch() {
  const none = () => ({ frames: new Map(), longTasks: 0, longestTask: 0, changes: 0, since: performance.now() });
  let now = none();
  let last = 0;
  const frame = (at) => {
    if (last > 0) {
      const ms = Math.min(2000, Math.round(at - last));
      now.frames.set(ms, (now.frames.get(ms) ?? 0) + 1);
    }
    last = at;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      now.longTasks += 1;
      now.longestTask = Math.max(now.longestTask, duration);
    }
  }).observe({ type: 'longtask' });
  addEventListener('DOMContentLoaded', () =>
    new MutationObserver((changes) => (now.changes += changes.length)).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
    }),
  );
  globalThis.watched = {
    begin: () => {
      now = none();
      last = 0;
    },
    end: () => ({ ...now, frames: [...now.frames], ms: performance.now() - now.since }),
  };
}
