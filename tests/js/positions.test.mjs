// Tests of the recovery rules without a server: `node --test positions.test.mjs`. The client in gateway/README.md has its own
// copy of the rule, which must pass the same tests.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BeforeNewest, WholePositions } from './positions.mjs';

const data = 'device:data';
const alerts = 'device:alerts';
const changed = 'device:alerts:changed';

// Feeds events of one epoch, each as [name, seq, fields], and returns which of them were new.
const feed = (positions, events) =>
  events.map(([name, seq, fields]) => positions.isNew(name, { epoch: 'e', seq, ...fields }));

const more = { more: true };

// The functions of follow.mjs, which follow its part that connects.
const text = readFileSync(new URL('follow.mjs', import.meta.url), 'utf8');
const functions = text.slice(text.indexOf('// Everything up to this position'));
const documented = new Function(`${functions} return { isNew, isWhole };`)();

class Documented {
  since = undefined;
  shown = new Set();

  answered(answer) {
    documented.isWhole(this, answer);
  }

  isNew(name, body) {
    return Boolean(documented.isNew(name, body, this));
  }
}

function check(Rule, events, since, news) {
  const positions = new Rule();
  const found = feed(positions, events);
  assert.deepEqual(positions.since, since && { epoch: 'e', seq: since });
  if (news) assert.deepEqual(found, news);
  return positions;
}

for (const Rule of [WholePositions, Documented]) {
  test(`${Rule.name}: a position is whole with its event without more`, () => {
    check(Rule, [[data, 1]], 1);
    check(Rule, [[data, 1], [data, 2, more]], 1);
    check(Rule, [[data, 1], [data, 2, more], [alerts, 2, more]], 1);
    check(Rule, [[data, 1], [data, 2, more], [alerts, 2, more], [changed, 2]], 2);
    check(Rule, [[data, 1, more]], undefined);
  });

  test(`${Rule.name}: the events of a position that was not whole are new once`, () => {
    const cut = [[data, 1], [data, 2, more]];
    const again = [[data, 2, more], [alerts, 2, more], [changed, 2]];
    check(Rule, [...cut, ...again], 2, [true, true, false, true, true]);
  });

  test(`${Rule.name}: a stale reading repeats a position and changes nothing`, () => {
    check(Rule, [[data, 1], [data, 2], [data, 1, { stale: true }]], 2, [true, true, true]);
    // It is shown even if its position comes again.
    check(Rule, [[data, 1, more], [data, 1, { stale: true }]], undefined, [true, true]);
  });

  test(`${Rule.name}: a gap is over with the last event of the snapshot`, () => {
    const broken = [[data, 1], [changed, 3, more], [changed, 5, more]];
    check(Rule, broken, 1);
    const data6 = [data, 6, { snapshot: true, more: true }];
    check(Rule, [...broken, data6], 1);
    const alerts6 = [alerts, 6, { snapshot: true }];
    check(Rule, [...broken, ...broken.slice(1), data6, data6, alerts6], 6, [
      true, true, true, false, false, true, true, true,
    ]);
  });

  test(`${Rule.name}: readings left out for a slow client do not come behind the newer one`, () => {
    const slow = { skipped: 3, more: true };
    const positions = check(Rule, [[data, 4], [data, 8, slow]], 7);
    assert.deepEqual(feed(positions, [[data, 8, more], [alerts, 8, more], [changed, 8]]), [false, true, true]);
    assert.equal(positions.since.seq, 8);
    // The alarms of a snapshot are still to come, so the position before it is not enough.
    check(Rule, [[data, 4], [data, 8, { snapshot: true, ...slow }]], 4);
  });

  test(`${Rule.name}: an answer has a whole position`, () => {
    const positions = new Rule();
    positions.answered({ ok: true, epoch: 'e', seq: 0 });
    assert.deepEqual(positions.since, { epoch: 'e', seq: 0 });
  });
}

test('a client that ignores `more` continues before its newest position', () => {
  check(BeforeNewest, [[data, 1], [data, 2, more]], 1);
  check(BeforeNewest, [[data, 1], [data, 2, more], [data, 2, more], [alerts, 2, more]], 1, [true, true, false, true]);
  check(BeforeNewest, [[data, 4], [data, 8, { skipped: 3, more: true }]], 7);
});
