// The plans of sites, and the image of the one that is shown. What cannot be read is said, and asked for again; the map does not wait for it.
import { computed, onScopeDispose, ref, shallowRef, watch, type ComputedRef, type Ref, type ShallowRef } from 'vue';

import { RestError, type Rest, type SitePlan } from '../client';
import { texts } from '../texts';

const AGAIN_MS = 30_000;

export interface PlanImage {
  plan: SitePlan;
  url: string;
}

/** `choose`: which of the plans is shown, if any. */
export function usePlans(
  rest: Pick<Rest, 'sitePlans' | 'planImage'>,
  choose: (plans: readonly SitePlan[]) => SitePlan | undefined,
): {
  /** `null`: not known yet. */
  plans: Readonly<ShallowRef<readonly SitePlan[] | null>>;
  plan: ComputedRef<SitePlan | undefined>;
  /** Of this plan, as soon as it is there. */
  image: Readonly<ShallowRef<PlanImage | null>>;
  plansFailure: Readonly<Ref<string>>;
  imageFailure: Readonly<Ref<string>>;
  /** The browser cannot show it. */
  refuse: (refused: PlanImage) => void;
} {
  const plans = shallowRef<readonly SitePlan[] | null>(null);
  const image = shallowRef<PlanImage | null>(null);
  const plansFailure = ref('');
  const imageFailure = ref('');
  const plan = computed(() => choose(plans.value ?? []));
  let run = 0;
  let isGone = false;
  let plansAgain: ReturnType<typeof setTimeout> | undefined;
  let imageAgain: ReturnType<typeof setTimeout> | undefined;

  async function loadPlans() {
    try {
      const answer = await rest.sitePlans();
      if (isGone) return;
      plansFailure.value = '';
      plans.value = answer.plans;
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      if (isGone) return;
      // A server that knows no plans.
      if (error.status === 404) plans.value = [];
      else {
        plansFailure.value = texts.map.plansFailed(error.message);
        plansAgain = setTimeout(() => void loadPlans(), AGAIN_MS);
      }
    }
  }
  void loadPlans();

  async function loadImage(wanted: SitePlan) {
    const mine = run;
    try {
      const content = await rest.planImage(wanted);
      if (mine !== run) return;
      imageFailure.value = '';
      image.value = { plan: wanted, url: URL.createObjectURL(content) };
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      if (mine !== run) return;
      imageFailure.value = texts.map.planFailed(wanted.name, error.message);
      imageAgain = setTimeout(() => void loadImage(wanted), AGAIN_MS);
    }
  }

  function forget() {
    run += 1;
    clearTimeout(imageAgain);
    imageFailure.value = '';
    if (image.value) URL.revokeObjectURL(image.value.url);
    image.value = null;
  }
  watch(plan, (wanted) => {
    forget();
    if (wanted) void loadImage(wanted);
  });
  onScopeDispose(() => {
    isGone = true;
    clearTimeout(plansAgain);
    forget();
  });

  return {
    plans,
    plan,
    image,
    plansFailure,
    imageFailure,
    refuse: (refused) => {
      if (image.value?.url !== refused.url) return;
      forget();
      imageFailure.value = texts.map.planFailed(refused.plan.name, texts.map.noImage);
    },
  };
}
