// The alarm levels of a detector, and on which side of each danger is.
import type { Reading } from './client';

export const LEVEL_NAMES = ['A1', 'A2', 'A3'] as const;

export interface Level {
  name: (typeof LEVEL_NAMES)[number];
  value: number;
  isLow: boolean;
}

/** The share of oxygen in air. */
const AIR = 20.9;

type Judged = Pick<Reading, 'a1_level' | 'a2_level' | 'a3_level' | 'level_sides'> & { a1_type?: string };

/** Whether danger is below each level; `null` for one that is not used. */
export function lowSidesOf({ a1_level: a1, a2_level: a2, a3_level: a3, a1_type: type, level_sides: sides }: Judged): (boolean | null)[] {
  if (sides) return sides.map((side) => (side === null ? null : side === 'low'));
  // Data that was stored by a release without `level_sides`. An oxygen detector warns of too little first, and often of too much next.
  const isLow = /^l/i.test(type ?? '');
  return [a1, a2, a3].map((level) => isLow && !(a1 < AIR && level > AIR));
}

/** The levels by which readings are judged. */
export function levelsOf(reading: Judged): Level[] {
  const isLow = lowSidesOf(reading);
  const values = [reading.a1_level, reading.a2_level, reading.a3_level];
  return LEVEL_NAMES.flatMap((name, index) => {
    const [value, low] = [values[index], isLow[index]];
    return value === undefined || low === undefined || low === null ? [] : [{ name, value, isLow: low }];
  });
}

export interface Band {
  from: number;
  to: number;
  /** `null`: no level is reached. */
  level: Level['name'] | null;
}

/** The parts of the range in which a level is reached, from low to high, without gaps. */
export function bandsOf(levels: readonly Level[], low: number, high: number): Band[] {
  const edges = [low, ...levels.map(({ value }) => value).filter((value) => value > low && value < high), high].sort((a, b) => a - b);
  const bands: Band[] = [];
  for (let i = 0; i + 1 < edges.length; i += 1) {
    const [from, to] = [edges[i] as number, edges[i + 1] as number];
    if (from === to) continue;
    const middle = (from + to) / 2;
    const reached = levels.filter(({ value, isLow }) => (isLow ? middle <= value : middle >= value)).at(-1);
    bands.push({ from, to, level: reached?.name ?? null });
  }
  return bands;
}
