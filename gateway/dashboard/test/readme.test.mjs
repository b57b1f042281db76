import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const folder = fileURLToPath(new URL('..', import.meta.url));

/** Every piece of this language in the README. */
async function pieces(language) {
  const readme = await readFile(`${folder}README.md`, 'utf8');
  return [...readme.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].filter(([, name]) => name === language).map(([, , code]) => code);
}

/** What the compiler says of these files, as if they lay beside the client. */
async function compiled(files) {
  const beside = await mkdtemp(`${folder}.readme-`);
  try {
    const options = { extends: '../tsconfig.json', compilerOptions: { rootDirs: ['.', '../src'] }, files: Object.keys(files) };
    const all = { ...files, 'tsconfig.json': JSON.stringify(options) };
    await Promise.all(Object.entries(all).map(([name, text]) => writeFile(`${beside}/${name}`, text)));
    const compiler = `${folder}node_modules/vue-tsc/bin/vue-tsc.js`;
    await promisify(execFile)(process.execPath, [compiler, '--noEmit', '-p', beside]);
    return '';
  } catch (error) {
    return String(error.stdout ?? error);
  } finally {
    await rm(beside, { recursive: true });
  }
}

describe('the code in the README', () => {
  it('compiles', { timeout: 120_000 }, async () => {
    const [main] = await pieces('ts');
    const [component] = await pieces('vue');
    expect(main).toContain('gatewayPlugin');
    expect(component).toContain('useDevice');
    // Beside it the same with an error, which shows that errors are found.
    const wrong = { 'wrong.ts': `${main}gateway.nothing();\n`, 'Wrong.vue': component.replace('sensor_reading', 'nothing') };
    const errors = (await compiled({ 'main.ts': main, 'App.vue': component, ...wrong })).match(/^\S.*error TS.*$/gm);
    expect(errors).toEqual([expect.stringMatching(/Wrong\.vue.*nothing/), expect.stringMatching(/wrong\.ts.*nothing/)]);
  });
});
