import { createPinia, setActivePinia } from 'pinia';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { useSession } from '../src/stores/session';

beforeEach(() => {
  vi.useFakeTimers();
  setActivePinia(createPinia());
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe('who uses the page', () => {
  it('is asked until the server answers, and meanwhile the page knows that it does not know', async () => {
    let asked = 0;
    vi.stubGlobal('fetch', async () => {
      asked += 1;
      if (asked < 4) throw new TypeError('no connection');
      return new Response(JSON.stringify({ subject: 's', name: 'Asha', verbs: ['read', 'ack'], devices: ['*'] }));
    });
    const session = useSession();
    const identified = session.identify();
    await vi.advanceTimersByTimeAsync(0);
    expect(session.isUnsure).toBe(true);
    expect(session.may('ack', 'a')).toBe(false);
    // Asking twice at the same time would ask the server twice as often.
    await session.identify();
    expect(asked).toBe(1);
    await vi.advanceTimersByTimeAsync(60_000);
    await identified;
    expect(asked).toBe(4);
    expect(session.isUnsure).toBe(false);
    expect(session.may('ack', 'a')).toBe(true);
  });

  it('is what the last question was answered: an earlier one that is answered late signs nobody out', async () => {
    const answers: ((response: Response) => void)[] = [];
    vi.stubGlobal('fetch', () => new Promise<Response>((resolve) => answers.push(resolve)));
    const session = useSession();
    const first = session.load().catch(() => undefined);
    const signedIn = session.useToken('new');
    answers[1]?.(new Response(JSON.stringify({ subject: 's', name: 'Asha', verbs: ['read'], devices: ['*'] })));
    await signedIn;
    expect(session.who).toBe('holder');
    answers[0]?.(new Response(JSON.stringify({ error: 'unauthorized', error_message: 'expired' }), { status: 401 }));
    await first;
    expect(session.who).toBe('holder');
    expect(session.token).toBe('new');
    expect(session.refusal).toBe('');
  });

  it('may do what a new token allows, and nothing until the server says what that is', async () => {
    let verbs: string[] | null = ['read', 'ack'];
    vi.stubGlobal('fetch', async () => {
      if (!verbs) throw new TypeError('no connection');
      return new Response(JSON.stringify({ subject: 's', name: 'Asha', verbs, devices: ['*'] }));
    });
    const session = useSession();
    await session.useToken('old');
    expect(session.may('ack', 'a')).toBe(true);
    verbs = ['read'];
    await session.renewed('new');
    expect([session.token, session.may('ack', 'a')]).toEqual(['new', false]);
    // The connection goes on.
    expect(session.logins).toBe(1);
    verbs = null;
    const renewed = session.renewed('newest');
    await vi.advanceTimersByTimeAsync(0);
    expect([session.may('read', 'a'), session.isUnsure]).toEqual([false, true]);
    verbs = ['read'];
    await vi.advanceTimersByTimeAsync(60_000);
    await renewed;
    expect(session.may('read', 'a')).toBe(true);
  });

  it('is still signed in, and is told so, if the server does not learn of the end', async () => {
    let isThere = true;
    vi.stubGlobal('fetch', async (path: string) => {
      if (!isThere) throw new TypeError('no connection');
      if (path.endsWith('/auth/logout')) return new Response(JSON.stringify({}));
      return new Response(JSON.stringify({ subject: 's', name: 'Asha', verbs: ['read'], devices: ['*'], csrf_token: 'c' }));
    });
    const session = useSession();
    await session.load();
    isThere = false;
    expect(await session.signOut()).toBe(false);
    expect([session.who, session.signOutFailure]).toEqual(['holder', expect.stringMatching(/./)]);
    isThere = true;
    expect(await session.signOut()).toBe(true);
    expect([session.who, session.signOutFailure]).toEqual(['nobody', '']);
  });
});
