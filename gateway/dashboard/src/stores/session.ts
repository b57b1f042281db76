// Who uses this page, and what they may do. A token that was pasted stays in this tab; a session is a cookie that no script can read.
import { useSessionStorage } from '@vueuse/core';
import { defineStore } from 'pinia';
import { computed, markRaw, ref, shallowRef } from 'vue';

import { Rest, RestError, type Session } from '../client';

export type Who = 'unknown' | 'nobody' | 'anonymous' | 'holder';
export type Verb = Session['verbs'][number];

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

export const useSession = defineStore('session', () => {
  const token = useSessionStorage<string | null>('token', null);
  /** What somebody without a token is called in acknowledgements. */
  const ownName = useSessionStorage('name', '');
  const session = shallowRef<Session | null>(null);
  const who = ref<Who>('unknown');
  /** How often somebody signed in on this page. */
  const logins = ref(0);
  /** The server was asked, and has not answered yet. */
  const isUnsure = ref(false);
  let questions = 0;
  let isAsking = false;
  /** Why the token was refused. */
  const refusal = ref('');
  /** Why somebody who wanted to be signed out is not. */
  const signOutFailure = ref('');
  // An anonymous client learns what it may not do when it is refused.
  const anonymousMay = ref(new Set<Verb>(['read', 'ack']));

  // Not reactive: a proxy cannot reach private fields.
  const rest = markRaw(new Rest(() => ({ token: token.value, csrfToken: session.value?.csrf_token ?? null })));

  const name = computed(() => session.value?.name || session.value?.subject || '');
  const verbs = computed<readonly Verb[]>(() => session.value?.verbs ?? [...anonymousMay.value]);
  /** Whether the page may be signed out: of a token it forgets, or of a session that it ends. */
  const isSignedIn = computed(() => who.value === 'holder');

  /** Whoever uses this page must sign in. */
  const isRefused = computed(() => who.value === 'nobody');

  function may(verb: Verb, deviceId?: string): boolean {
    if (who.value === 'nobody' || who.value === 'unknown') return false;
    if (!session.value) return anonymousMay.value.has(verb);
    const { verbs: allowed, devices } = session.value;
    return allowed.includes(verb) && (deviceId === undefined || devices.some((pattern) => matches(pattern, deviceId)));
  }

  /** Whether to offer to change what operators say of a device. Somebody without a token learns from the server where it is changed. */
  const mayEdit = (deviceId: string): boolean => may('operate', deviceId) || who.value === 'anonymous';

  const readsAll = computed(() => !session.value || (session.value.verbs.includes('read') && session.value.devices.includes('*')));

  /** Asks the server who sends the requests of this page. An answer counts only until it is asked again: somebody may have signed in meanwhile. */
  async function load(): Promise<void> {
    questions += 1;
    const mine = questions;
    refusal.value = '';
    try {
      const found = await rest.session();
      if (mine !== questions) return;
      session.value = found;
      who.value = 'holder';
    } catch (error) {
      if (mine !== questions) return;
      if (!(error instanceof RestError) || error.status !== 401) throw error;
      session.value = null;
      if (token.value) {
        refusal.value = error.message;
        token.value = null;
        who.value = 'nobody';
        return;
      }
      const found = (await isAdmitted()) ? 'anonymous' : 'nobody';
      if (mine === questions) who.value = found;
    }
  }

  /** Asks until the server answers. */
  async function identify(): Promise<void> {
    if (isAsking) return;
    isAsking = true;
    for (let pause = FIRST_PAUSE_MS; who.value === 'unknown'; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      await load().catch(() => undefined);
      isUnsure.value = who.value === 'unknown';
      if (isUnsure.value) await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
    }
    isUnsure.value = false;
    isAsking = false;
  }

  async function isAdmitted(): Promise<boolean> {
    try {
      await rest.get('/config');
      return true;
    } catch (error) {
      if (error instanceof RestError && (error.status === 401 || error.status === 403)) return false;
      throw error;
    }
  }

  async function useToken(text: string): Promise<void> {
    token.value = text.trim();
    signOutFailure.value = '';
    await load();
    logins.value += 1;
  }

  /** The connection goes on with this token. It may allow more, or less: until the server says what, nothing is offered. */
  async function renewed(text: string): Promise<void> {
    token.value = text;
    try {
      await load();
    } catch {
      who.value = 'unknown';
      await identify();
    }
  }

  /** Returns whether nobody is signed in any more. If the server was not reached, somebody is: `signOutFailure` says why. */
  async function signOut(): Promise<boolean> {
    signOutFailure.value = '';
    if (token.value) token.value = null;
    else {
      try {
        await rest.signOut();
      } catch (error) {
        if (!(error instanceof RestError)) throw error;
        // The session has ended already.
        if (error.status !== 401) {
          signOutFailure.value = error.message;
          return false;
        }
      }
    }
    questions += 1;
    session.value = null;
    who.value = 'nobody';
    return true;
  }

  /** The server refused an anonymous client. */
  function mayNot(verb: Verb): void {
    if (session.value) return;
    anonymousMay.value = new Set([...anonymousMay.value].filter((other) => other !== verb));
  }

  return { token, ownName, session, who, logins, isUnsure, refusal, signOutFailure, name, verbs, isSignedIn, isRefused, readsAll, rest, may, mayEdit, mayNot, load, identify, useToken, renewed, signOut };
});

/** Whether an id matches a pattern in which `*` stands for any characters. */
export function matches(pattern: string, id: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's').test(id);
}
