// The sound of a new alarm. A browser plays nothing before somebody has clicked, so it is turned on with a click. A mute ends by itself.
import { useStorage } from '@vueuse/core';
import { defineStore } from 'pinia';
import { computed, ref } from 'vue';

import type { Severity } from '../client';

/** What is told by sound: an alarm, or that none would be seen. */
export type Tune = Severity | 'notLive';

const NOTES: Record<Tune, number[]> = { notLive: [330, 262, 330, 262], critical: [988, 740, 988, 740, 988, 740], high: [880, 660, 880], warning: [660, 660] };
const NOTE_S = 0.16;

export const useSound = defineStore('sound', () => {
  const wanted = useStorage('sound', false);
  const isUnlocked = ref(false);
  const mutedUntil = ref(0);
  const now = ref(Date.now());
  let context: AudioContext | undefined;

  const isMuted = computed(() => mutedUntil.value > now.value);
  const mutedForMs = computed(() => Math.max(0, mutedUntil.value - now.value));
  const isOn = computed(() => wanted.value && isUnlocked.value);
  /** Somebody wants it, but the browser plays nothing before a click. */
  const isLocked = computed(() => wanted.value && !isUnlocked.value);

  // A mute is over when its time is over, whoever looks.
  setInterval(() => (now.value = Date.now()), 1000);

  /** Must be called from a click or a key. */
  async function turnOn(): Promise<void> {
    wanted.value = true;
    await opened().resume();
  }

  function opened(): AudioContext {
    if (context) return context;
    const created = new AudioContext();
    // A browser may stop it again, or allow it without a click.
    created.onstatechange = () => (isUnlocked.value = created.state === 'running');
    isUnlocked.value = created.state === 'running';
    context = created;
    return created;
  }

  // Some browsers allow it at once on a page that somebody used before.
  if (wanted.value) opened();

  /** Whoever wanted the sound before need not ask again: the first click anywhere unlocks it. */
  function unlock(): void {
    if (wanted.value && !isUnlocked.value) void turnOn();
  }

  function turnOff(): void {
    wanted.value = false;
  }

  function mute(minutes: number): void {
    now.value = Date.now();
    mutedUntil.value = now.value + minutes * 60_000;
  }

  function unmute(): void {
    mutedUntil.value = 0;
  }

  function play(tune: Tune): void {
    if (!isOn.value || isMuted.value || !context) return;
    NOTES[tune].forEach((frequency, index) => note(context as AudioContext, frequency, index * NOTE_S));
  }

  return { wanted, isOn, isLocked, isMuted, mutedForMs, turnOn, turnOff, unlock, mute, unmute, play };
});

function note(context: AudioContext, frequency: number, after: number): void {
  const begin = context.currentTime + after;
  const [tone, volume] = [context.createOscillator(), context.createGain()];
  tone.frequency.value = frequency;
  tone.type = 'triangle';
  volume.gain.setValueAtTime(0, begin);
  volume.gain.linearRampToValueAtTime(0.35, begin + 0.01);
  volume.gain.linearRampToValueAtTime(0, begin + NOTE_S);
  tone.connect(volume).connect(context.destination);
  tone.start(begin);
  tone.stop(begin + NOTE_S);
}
