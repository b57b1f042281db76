import { describe, expect, it } from 'vitest';

import { AckRun } from '../src/ackRun';
import type { Acknowledgement } from '../src/client';

/** Requests that the test answers. */
function requests() {
  const sent: { target: number; answer: (result: Acknowledgement) => void; fail: (error: Error) => void }[] = [];
  const send = (target: number) =>
    new Promise<Acknowledgement>((answer, fail) => {
      sent.push({ target, answer, fail });
    });
  return { sent, send };
}
const settled = () => new Promise((resolve) => setTimeout(resolve));

describe('acknowledging several alarms', () => {
  it('sends a few at the same time, and tells each result', async () => {
    const { sent, send } = requests();
    const told: [number, string][] = [];
    const running = new AckRun([1, 2, 3, 4, 5, 6], send).run((target, { result }) => told.push([target, result]));
    expect(sent).toHaveLength(4);
    for (let i = 0; i < 6; i += 1) {
      sent[i]?.answer({ result: 'done' });
      await settled();
    }
    expect(await running).toBe(true);
    expect(told).toHaveLength(6);
  });

  it('sends and tells nothing more after it was stopped', async () => {
    const { sent, send } = requests();
    const told: number[] = [];
    const run = new AckRun([1, 2, 3, 4, 5, 6], send);
    const running = run.run((target) => told.push(target));
    run.stop();
    sent.forEach(({ answer }) => answer({ result: 'done' }));
    expect(await running).toBe(false);
    expect(sent).toHaveLength(4);
    expect(told).toEqual([]);
  });

  it('comes to its end whatever goes wrong', async () => {
    const { sent, send } = requests();
    const told: Acknowledgement[] = [];
    const running = new AckRun([1], send).run((_, result) => told.push(result));
    sent[0]?.fail(new TypeError('broken'));
    expect(await running).toBe(true);
    expect(told).toEqual([{ result: 'failed', message: 'broken' }]);
  });
});
