// A screen on a wall has no bar to click on: its address says `?kiosk`. It stays one wherever it leads.
import type { LocationQuery } from 'vue-router';

interface Place {
  name?: unknown;
  path: string;
  query: LocationQuery;
  hash: string;
}

export const hasKiosk = (query: LocationQuery): boolean => query.kiosk !== undefined;

/** Where to go instead, so that a kiosk stays one: a filter that is cleared, or a link, says nothing of it. */
export function asKiosk(to: Place, from: Pick<Place, 'query'>): Pick<Place, 'path' | 'query' | 'hash'> | null {
  if (!hasKiosk(from.query) || hasKiosk(to.query) || to.name === 'sign-in') return null;
  return { path: to.path, query: { ...to.query, kiosk: from.query.kiosk as string | null }, hash: to.hash };
}

export type KioskScreen = 'alarms' | 'fleet';

/** What a kiosk that was opened at `/` shows: the alarms while one is open, or while nobody can say so. Until it is known, what it shows stays. */
export function kioskScreen(alarms: { isComplete: boolean; isRefused: boolean; open: number }, before: KioskScreen | null): KioskScreen | null {
  if (alarms.isRefused || (alarms.isComplete && alarms.open > 0)) return 'alarms';
  return alarms.isComplete ? 'fleet' : before;
}
