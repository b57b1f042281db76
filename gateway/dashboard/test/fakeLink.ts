import type { Answer, Command, Commands } from '../src/client/events';
import type { Link } from '../src/client/link';

/** A connection that the test makes, breaks and answers. */
export class FakeLink implements Link {
  connected = false;
  active = true;
  drops = 0;
  connects = 0;
  sent: { name: string; body: unknown; answer: ((body: unknown) => void) | undefined }[] = [];
  readonly #listeners = new Map<string, ((body: never) => void)[]>();

  connect() {
    this.connects += 1;
  }
  disconnect() {
    this.active = false;
    if (this.connected) this.lose('io client disconnect');
  }
  drop() {
    this.drops += 1;
    this.lose('transport close');
  }
  emit<Name extends Command>(name: Name, body: Commands[Name], answer?: (body: Answer<Name>) => void) {
    this.sent.push({ name, body, answer: answer as ((body: unknown) => void) | undefined });
  }
  on(name: string, listener: (body: never) => void) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }
  onConnect(listener: () => void) {
    this.on('connect', listener);
  }
  onDisconnect(listener: (reason: string) => void) {
    this.on('disconnect', listener as never);
  }
  onRefused(listener: (reason: string) => void) {
    this.on('connect_error', listener as never);
  }
  onHeard(listener: () => void) {
    this.on('heard', listener);
  }

  /** Answers what was asked last. */
  answer(name: string, body: unknown = { ok: true, seq: 0 }) {
    this.take(name).at(-1)?.answer?.(body);
  }
  fire(name: string, body?: unknown) {
    if (!['connect', 'disconnect', 'connect_error'].includes(name)) this.#call('heard', undefined);
    this.#call(name, body);
  }
  #call(name: string, body: unknown) {
    (this.#listeners.get(name) ?? []).forEach((listener) => listener(body as never));
  }
  join() {
    this.connected = true;
    this.fire('connect');
  }
  lose(reason: string) {
    this.connected = false;
    this.fire('disconnect', reason);
  }
  take(name: string) {
    return this.sent.filter((message) => message.name === name);
  }
}
