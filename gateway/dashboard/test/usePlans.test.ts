import { effectScope, nextTick, ref, type EffectScope } from 'vue';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { RestError, type SitePlan } from '../src/client';
import { usePlans } from '../src/parts/usePlans';

const [plant, harbour] = ['Plant', 'Harbour'].map((name) => ({ id: name.toLowerCase(), name, site: null, south: 0, west: 0, north: 1, east: 1, url: '' })) as [SitePlan, SitePlan];
const busy = () => Promise.reject(new RestError(503, 'busy', 'Too busy'));
let plans: () => Promise<{ success: boolean; count: number; plans: SitePlan[] }>;
let image: (plan: SitePlan) => Promise<Blob>;
let scope: EffectScope;
const wanted = ref('plant');

async function shown() {
  scope = effectScope();
  const rest = { sitePlans: () => plans(), planImage: (plan: SitePlan) => image(plan) };
  const has = scope.run(() => usePlans(rest, (all) => all.find(({ id }) => id === wanted.value)));
  await passes(0);
  if (!has) throw new Error('nothing is shown');
  return has;
}
const passes = (ms: number) => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  vi.useFakeTimers();
  wanted.value = 'plant';
  plans = async () => ({ success: true, count: 2, plans: [plant, harbour] });
  image = async () => new Blob(['<svg/>']);
});
afterEach(() => {
  scope.stop();
  vi.useRealTimers();
});

describe('the plans of the map', () => {
  it('are asked for again if they cannot be read, and until then it says so', async () => {
    const answer = plans;
    plans = busy;
    const has = await shown();
    expect([has.plans.value, has.plan.value, has.plansFailure.value]).toEqual([null, undefined, 'The plans cannot be read: Too busy']);
    plans = answer;
    await passes(30_000);
    expect([has.plans.value?.length, has.plan.value, has.plansFailure.value]).toEqual([2, plant, '']);
    expect(has.image.value?.plan).toBe(plant);
  });

  it('are none at a server that knows none', async () => {
    plans = () => Promise.reject(new RestError(404, 'not_found', 'Not found'));
    const has = await shown();
    expect([has.plans.value, has.plansFailure.value]).toEqual([[], '']);
    expect(vi.getTimerCount(), 'it is not asked again').toBe(0);
  });

  it('have an image that is asked for again, also after another plan was looked at', async () => {
    const answer = image;
    image = busy;
    const has = await shown();
    expect([has.image.value, has.imageFailure.value]).toEqual([null, 'The plan Plant cannot be shown: Too busy']);
    image = answer;
    await passes(30_000);
    expect([has.image.value?.plan, has.imageFailure.value]).toEqual([plant, '']);
    let arrives = (_: Blob) => {};
    image = () => new Promise((resolve) => (arrives = resolve));
    wanted.value = 'harbour';
    await nextTick();
    expect(has.image.value, 'never the image of another plan').toBeNull();
    arrives(new Blob(['<svg/>']));
    await passes(0);
    expect(has.image.value?.plan).toBe(harbour);
  });

  it('say that a browser cannot show an image', async () => {
    const has = await shown();
    const refused = has.image.value;
    if (!refused) throw new Error('no image');
    has.refuse(refused);
    expect([has.image.value, has.imageFailure.value]).toEqual([null, 'The plan Plant cannot be shown: it is no image that this browser can show.']);
  });
});
