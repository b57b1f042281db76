// On paper every colour that the dark theme changes is that of the light one: a page in two themes cannot be read.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const style = (name) => readFileSync(new URL(`../src/styles/${name}.css`, import.meta.url), 'utf8');
const coloursOf = (block) => new Map([...block.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map(([, name, value]) => [name, value.replace(/^#(.)(.)(.)$/, '#$1$1$2$2$3$3')]));
const blockOf = (text, selector) => coloursOf(text.slice(text.indexOf(selector)).match(/\{([^{}]*)\}/)[1]);

/** Nothing of these is printed, or it is black on white. */
const UNPRINTED = ['--focus', '--bar', '--on-bar', '--bar-muted', '--shadow'];
const BLACK_ON_WHITE = ['--page', '--panel', '--raised', '--text', '--muted', '--edge'];

describe('the style of paper', () => {
  const light = blockOf(style('base'), ':root {');
  const dark = blockOf(style('base'), ":root[data-theme='dark']");
  const paper = blockOf(style('print'), ':root, ');

  it('has every colour of the dark theme', () => {
    expect(dark.size).toBeGreaterThan(20);
    expect([...dark.keys()].filter((name) => !paper.has(name) && !UNPRINTED.includes(name))).toEqual([]);
  });
  it('has those of the light theme', () => {
    const changed = [...paper].filter(([name, value]) => light.get(name) !== value && !BLACK_ON_WHITE.includes(name));
    expect(changed).toEqual([]);
  });
});
