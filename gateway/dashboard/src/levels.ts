// The alarm levels of a detector, and on which side of each danger is.
import type { Reading } from './client';

export interface Level {
  name: 'A1' | 'A2' | 'A3';
  value: number;
  isLow: boolean;
}

/** The share of oxygen in air. */
export const AIR = 20.9;

export function levelsOf(reading: Pick<Reading, 'a1_level' | 'a2_level' | 'a3_level' | 'a1_type'>): Level[] {
  const isLow = /^l/i.test(reading.a1_type ?? '');
  // An oxygen detector warns of too little first, and often of too much next.
  const side = (value: number) => isLow && !(reading.a1_level < AIR && value > AIR);
  return [
    { name: 'A1', value: reading.a1_level, isLow },
    { name: 'A2', value: reading.a2_level, isLow: side(reading.a2_level) },
    { name: 'A3', value: reading.a3_level, isLow: side(reading.a3_level) },
  ];
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
