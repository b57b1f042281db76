// Fails if the first page takes more than its share: the files that index.html needs before anything is shown, in gzip.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const LIMIT = 150 * 1024;
const folder = new URL('../../target/dashboard/', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('manifest.json', folder)));

const files = new Set(['index.html']);
// The first page is the list of alarms, which is in the entry, or the fleet.
const add = (key) => {
  const chunk = manifest[key];
  if (!chunk || files.has(chunk.file)) return;
  files.add(chunk.file);
  (chunk.css ?? []).forEach((file) => files.add(file));
  (chunk.imports ?? []).forEach(add);
};
for (const key of ['index.html', 'src/screens/FleetScreen.vue']) {
  if (!manifest[key]) throw new Error(`${key} is not in the manifest`);
  add(key);
}

const size = (file) => gzipSync(readFileSync(new URL(file, folder))).length;
const total = [...files].reduce((sum, file) => sum + size(file), 0);
const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} KB`;
for (const file of readdirSync(new URL('assets/', folder))) {
  const name = `assets/${file}`;
  console.log(`${files.has(name) ? 'first page' : '     later'}  ${kilobytes(size(name)).padStart(9)}  ${file}`);
}
console.log(`the first page takes ${kilobytes(total)} of ${kilobytes(LIMIT)} in gzip`);
if (total > LIMIT) process.exit(1);
