import { describe, expect, it } from 'vitest';
import { createMemoryHistory, createRouter } from 'vue-router';

import { asKiosk, kioskScreen } from '../src/kiosk';

const Nothing = { render: () => null };

describe('a kiosk', () => {
  it('stays one wherever it leads', async () => {
    const router = createRouter({
      history: createMemoryHistory(),
      routes: ['start', 'fleet', 'sign-in'].map((name) => ({ path: `/${name}`, name, component: Nothing })),
    });
    router.beforeEach((to, from) => asKiosk(to, from) ?? true);
    await router.push('/start');
    await router.push('/fleet?zone=North');
    expect(router.currentRoute.value.fullPath).toBe('/fleet?zone=North');
    await router.push('/start?kiosk');
    await router.push({ name: 'fleet', query: { zone: 'North' }, hash: '#x' });
    expect(router.currentRoute.value.fullPath).toBe('/fleet?zone=North&kiosk#x');
    // As "Clear the filter" does it.
    await router.replace({ query: {} });
    expect(router.currentRoute.value.fullPath).toBe('/fleet?kiosk');
    await router.push({ name: 'sign-in', query: { return: '/fleet?kiosk' } });
    expect(router.currentRoute.value.query).toEqual({ return: '/fleet?kiosk' });
  });

  it('shows the alarms when one opens, and the fleet when none is open any more', () => {
    const known = { isComplete: true, isRefused: false };
    expect(kioskScreen({ isComplete: false, isRefused: false, open: 0 }, null)).toBeNull();
    expect(kioskScreen({ ...known, open: 0 }, null)).toBe('fleet');
    expect(kioskScreen({ ...known, open: 1 }, 'fleet')).toBe('alarms');
    // Connected again, and the list is coming.
    expect(kioskScreen({ isComplete: false, isRefused: false, open: 0 }, 'alarms')).toBe('alarms');
    expect(kioskScreen({ ...known, open: 0 }, 'alarms')).toBe('fleet');
    expect(kioskScreen({ isComplete: false, isRefused: true, open: 0 }, 'fleet')).toBe('alarms');
  });
});
