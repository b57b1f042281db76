import { effectScope, nextTick, ref, shallowRef } from 'vue';
import { describe, expect, it } from 'vitest';

import type { Held } from '../src/heldOrder';
import { useSteadyPress } from '../src/parts/useSteadyPress';

const rowsOf = (keys: string): Held<string>[] => [...keys].map((key) => ({ key, item: key, isGone: false }));

describe('a press of a mouse that lies still', () => {
  let time = 0;
  const list = Object.assign(new EventTarget(), { at: '' });
  const rows = shallowRef(rowsOf(''));
  const scope = effectScope();
  scope.run(() => useSteadyPress(ref(list) as never, rows, (target) => (target as unknown as typeof list).at, () => time));
  const fire = (name: string, more: object) => {
    const event = Object.assign(new Event(name, { cancelable: true }), more);
    list.dispatchEvent(event);
    return event;
  };
  /** Whether it acts on this row. */
  const press = (key: string, pointerType = 'mouse', detail = 1) => {
    list.at = key;
    fire('pointerdown', { pointerType });
    return !fire('click', { detail }).defaultPrevented;
  };
  const move = () => fire('pointermove', { pointerType: 'mouse' });

  it('does not act on a row that has just come there', async () => {
    // The listeners are added.
    await nextTick();
    rows.value = rowsOf('abc');
    expect(press('a'), 'nothing was there before').toBe(true);
    time += 1000;
    rows.value = rowsOf('bacd');
    expect(press('b')).toBe(false);
    expect(press('c'), 'it stayed').toBe(true);
    expect(press('d'), 'nothing was there before').toBe(true);
    expect(press('b', 'touch'), 'a finger').toBe(true);
    time += 200;
    rows.value = rowsOf('bacd');
    expect(press('a'), 'it came 200 ms ago, though the rows are read again').toBe(false);
    time += 100;
    expect(press('a'), 'it is seen').toBe(true);
    rows.value = rowsOf('abcd');
    expect(press('a')).toBe(false);
    move();
    expect(press('a'), 'the mouse was moved to it').toBe(true);
    scope.stop();
  });
});
