import { describe, expect, it } from 'vitest';

import { trendMove, type Drawn } from '../src/trendKeys';

const drawn = (more: Partial<Drawn> = {}): Drawn => ({ times: [90, 100, 110, 120, 130], from: 100_000, until: 120_000, keptFrom: null, cursor: null, ...more });
const move = (key: string, more: Partial<Drawn> = {}, isShift = false) => trendMove(key, isShift, drawn(more));

describe('the keys of a chart', () => {
  it('bring the cursor to the newest point that is drawn, and from point to point', () => {
    expect(move('ArrowLeft')).toEqual({ to: 'point', at: 120 });
    expect(move('ArrowRight')).toEqual({ to: 'point', at: 120 });
    expect(move('ArrowLeft', { cursor: 120 })).toEqual({ to: 'point', at: 110 });
    expect(move('ArrowRight', { cursor: 110 })).toEqual({ to: 'point', at: 120 });
    expect(move('Home', { cursor: 110 })).toEqual({ to: 'point', at: 100 });
    expect(move('Home')).toEqual({ to: 'point', at: 100 });
    expect(move('End')).toEqual({ to: 'point', at: 120 });
    expect(move('PageUp', { cursor: 120 })).toEqual({ to: 'point', at: 100 });
  });

  it('leave it at the last one, and never outside of what is drawn', () => {
    expect(move('ArrowLeft', { cursor: 100 })).toEqual({ to: 'point', at: 100 });
    expect(move('ArrowRight', { cursor: 120 })).toEqual({ to: 'point', at: 120 });
    // Its point was dropped, or is outside since the time was moved.
    expect(move('ArrowLeft', { cursor: 40 })).toEqual({ to: 'point', at: 120 });
    expect(move('ArrowLeft', { cursor: 115 })).toEqual({ to: 'point', at: 110 });
    expect(move('ArrowRight', { cursor: 115 })).toEqual({ to: 'point', at: 120 });
    expect(move('ArrowLeft', { times: [] })).toBeNull();
    expect(move('End', { times: [90, 130] })).toBeNull();
  });

  it('zoom around the cursor, which stays where it is, or around the middle', () => {
    expect(move('+', { cursor: 120 })).toEqual({ to: 'time', from: 110_000, until: 120_000 });
    expect(move('=', {})).toEqual({ to: 'time', from: 105_000, until: 115_000 });
    expect(move('-', {})).toEqual({ to: 'time', from: 90_000, until: 130_000 });
    expect(move('+', { cursor: 40 })).toEqual({ to: 'time', from: 105_000, until: 115_000 });
    expect(move('0')).toEqual({ to: 'start' });
    expect(move('Escape')).toEqual({ to: 'start' });
  });

  it('move the time by half of it, and not to where nothing is kept', () => {
    expect(move('ArrowLeft', {}, true)).toEqual({ to: 'time', from: 90_000, until: 110_000 });
    expect(move('ArrowRight', {}, true)).toEqual({ to: 'time', from: 110_000, until: 130_000 });
    expect(move('ArrowLeft', { keptFrom: 105_000 }, true)).toBeNull();
  });

  it('are no others', () => {
    for (const key of ['a', '/', 'Tab', 'Enter', ' ', 'ArrowUp', 'ArrowDown']) expect(move(key)).toBeNull();
  });
});
