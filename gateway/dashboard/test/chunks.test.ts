import { describe, expect, it } from 'vitest';

import { ChunkedList } from '../src/client/chunks';

const item = (id: string) => ({ id, epoch: 'e', seq: 1 });

describe('a list in chunks', () => {
  it('begins again with a first chunk, although the one before was not finished', () => {
    const list = new ChunkedList<ReturnType<typeof item>>(({ id }) => id);
    expect(list.chunk([item('abandoned')], true, true)).toBe(false);
    expect(list.chunk([item('a')], true, true)).toBe(false);
    expect(list.chunk([item('b')], false, false)).toBe(true);
    expect(list.values().map(({ id }) => id)).toEqual(['a', 'b']);
  });
});
