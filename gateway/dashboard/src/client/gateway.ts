// The connection to the gateway, and everything that is subscribed over it. It knows nothing of Vue.
//
// The client library connects again without end. After each connection everything is subscribed again: devices with their last whole
// position, so that nothing is missed, the fleet and the alarms as whole lists.
import { AlarmStore } from './alarmStore';
import { ServerClock } from './clock';
import { DeviceLedger, type DeviceEvent } from './deviceLedger';
import type { AlarmFilter, Answer, FleetFilter, Refusal } from './events';
import { FleetStore } from './fleetStore';
import type { LinkPhase, LinkState } from './linkState';
import type { Link } from './link';

/** Nothing arrived for so long: ask for a sign of life. */
const PROBE_AFTER_MS = 2000;
/** That was not answered for so long: what is shown is not current. */
const SILENT_AFTER_MS = 2000;
/** And for so long: give the connection up, and make another. */
const GIVE_UP_AFTER_MS = 9500;
const TICK_MS = 500;
/** A tick that is late by so much, without anything that arrived meanwhile: the tab or the machine slept. */
const SLEPT_MS = 5000;
/** When to try again after a refusal that is not for good, and how much later at random. */
const RETRY_MS = 3000;
const RETRY_JITTER_MS = 7000;

/** Rows that arrive within this time are shown at once: a change of all rows comes in parts of a hundred. */
const TOGETHER_MS = 50;

/** Nobody has to sign in again for these. */
const PASSING = /too many connections|try again later/;

const UNANSWERED: Answer<'auth:refresh'> = { ok: false, error: { code: 'unavailable', message: 'the connection was lost before the answer' } };

interface WatchedDevice {
  ledger: DeviceLedger;
  /** How often it was subscribed to. */
  turn: number;
  /** What was asked for anew has not arrived yet. */
  isBehind: boolean;
  refusal: Refusal | null;
  watchers: Set<() => void>;
}

interface WatchedList<Store, Filter> {
  store: Store;
  filter: Filter;
  /** How often it was subscribed to over this connection. */
  turn: number;
  /** What was asked for anew has not arrived yet. */
  isBehind: boolean;
  /** What arrives may be the rest of the list before. */
  isReplaced: boolean;
  refusal: Refusal | null;
  watchers: Set<() => void>;
}

export interface GatewayOptions {
  link: Link;
  /** A clock that nobody sets. */
  elapsed?: () => number;
  /** The clock of this machine. */
  now?: () => number;
  random?: () => number;
}

export class Gateway {
  readonly clock: ServerClock;
  readonly #link: Link;
  readonly #elapsed: () => number;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #devices = new Map<string, WatchedDevice>();
  readonly #stateWatchers = new Set<() => void>();
  readonly #expiryWatchers = new Set<(closesInMs: number | null) => void>();
  /** Whoever waits for the answer to a new token. */
  readonly #refreshing = new Set<(answer: Answer<'auth:refresh'>) => void>();
  /** The announced end of the token of this connection, by the clock of `#elapsed`. It is announced once: whoever watches later must know it, too. */
  #closesAt: number | null = null;
  #fleet: WatchedList<FleetStore, FleetFilter> | undefined;
  #alarms: WatchedList<AlarmStore, AlarmFilter> | undefined;
  #state: LinkState;
  #heard: number;
  #lastTick: number;
  #lastTickAt: number;
  /** When the sign of life was asked for that has not come yet. */
  #probedAt: number | null = null;
  /** The probe must be answered before anything counts as current. */
  #isWaking = false;
  #isClosed = false;
  #ticking: ReturnType<typeof setInterval> | undefined;
  #retrying: ReturnType<typeof setTimeout> | undefined;
  /** Rows have changed that are about to be shown. */
  #showing: ReturnType<typeof setTimeout> | undefined;

  constructor({ link, elapsed, now, random }: GatewayOptions) {
    this.#link = link;
    this.#elapsed = elapsed ?? (() => performance.now());
    this.#now = now ?? Date.now;
    this.#random = random ?? Math.random;
    this.clock = new ServerClock(this.#elapsed);
    this.#heard = this.#elapsed();
    this.#lastTick = this.#heard;
    this.#lastTickAt = this.#now();
    this.#state = { phase: 'connecting', since: this.#now(), heard: null, reason: '', status: null, drains: false };
    this.#listen();
  }

  get state(): LinkState {
    return this.#state;
  }

  connect(): void {
    this.#isClosed = false;
    clearTimeout(this.#retrying);
    this.#ticking ??= setInterval(() => this.tick(), TICK_MS);
    this.#set('connecting', '');
    this.#link.connect();
  }

  close(): void {
    // The client library tells of the end before it returns.
    this.#isClosed = true;
    clearInterval(this.#ticking);
    clearTimeout(this.#retrying);
    clearTimeout(this.#showing);
    this.#ticking = undefined;
    this.#showing = undefined;
    this.#link.disconnect();
  }

  /** Calls back after each change of `state`. Returns how to end that, as everything below does. */
  onState(watcher: () => void): () => void {
    this.#stateWatchers.add(watcher);
    return () => this.#stateWatchers.delete(watcher);
  }

  /** The token or the session ends in so many milliseconds. `null`: not any more, or the server must say it again over the next connection. */
  onExpiring(watcher: (closesInMs: number | null) => void): () => void {
    this.#expiryWatchers.add(watcher);
    if (this.#closesAt !== null) watcher(Math.max(0, this.#closesAt - this.#elapsed()));
    return () => this.#expiryWatchers.delete(watcher);
  }

  /** Goes on with a new token of the same subject. Without a connection, or if it is lost before the answer, nobody knows whether it was taken. */
  refresh(token: string): Promise<Answer<'auth:refresh'>> {
    if (!this.#link.connected) return Promise.resolve(UNANSWERED);
    return new Promise((resolve) => {
      this.#refreshing.add(resolve);
      this.#link.emit('auth:refresh', { token }, (answer) => {
        // One that was given up has its answer.
        if (!this.#refreshing.delete(resolve)) return;
        if (answer.ok) this.#expiresNot();
        resolve(answer);
      });
    });
  }

  /** Watches a device. Whoever watches the same one shares the subscription. */
  watchDevice(deviceId: string, watcher: () => void): { ledger: DeviceLedger; refusal: () => Refusal | null; stop: () => void } {
    let device = this.#devices.get(deviceId);
    if (!device) {
      device = { ledger: new DeviceLedger(), turn: 0, isBehind: false, refusal: null, watchers: new Set() };
      this.#devices.set(deviceId, device);
      if (this.#link.connected) this.#subscribeDevice(deviceId, device);
    }
    const watched = device;
    watched.watchers.add(watcher);
    const stop = () => {
      if (!watched.watchers.delete(watcher) || watched.watchers.size > 0) return;
      this.#devices.delete(deviceId);
      this.#unwatched();
      if (this.#link.connected) this.#link.emit('unsubscribe:device', deviceId);
    };
    return { ledger: watched.ledger, refusal: () => watched.refusal, stop };
  }

  /** Watches the fleet. A connection has one filter: that of whoever watched last. */
  watchFleet(filter: FleetFilter, watcher: () => void): { store: FleetStore; refusal: () => Refusal | null; stop: () => void } {
    const isNew = !this.#fleet || !isSame(this.#fleet.filter, filter);
    const fleet = (this.#fleet ??= { store: new FleetStore(), filter, turn: 0, isBehind: false, isReplaced: false, refusal: null, watchers: new Set() });
    fleet.filter = filter;
    fleet.watchers.add(watcher);
    if (isNew && this.#link.connected) this.#subscribeList('fleet', fleet);
    const stop = () => {
      if (!fleet.watchers.delete(watcher) || fleet.watchers.size > 0) return;
      this.#fleet = undefined;
      this.#unwatched();
      if (this.#link.connected) this.#link.emit('unsubscribe:fleet', null);
    };
    return { store: fleet.store, refusal: () => fleet.refusal, stop };
  }

  /** Watches the open alarms. A connection has one filter: that of whoever watched last. */
  watchAlarms(filter: AlarmFilter, watcher: () => void): { store: AlarmStore; refusal: () => Refusal | null; stop: () => void } {
    const isNew = !this.#alarms || !isSame(this.#alarms.filter, filter);
    const alarms = (this.#alarms ??= { store: new AlarmStore(), filter, turn: 0, isBehind: false, isReplaced: false, refusal: null, watchers: new Set() });
    alarms.filter = filter;
    alarms.watchers.add(watcher);
    if (isNew && this.#link.connected) this.#subscribeList('alarms', alarms);
    const stop = () => {
      if (!alarms.watchers.delete(watcher) || alarms.watchers.size > 0) return;
      this.#alarms = undefined;
      this.#unwatched();
      if (this.#link.connected) this.#link.emit('unsubscribe:alarms', null);
    };
    return { store: alarms.store, refusal: () => alarms.refusal, stop };
  }

  /** The tab was hidden or the machine slept: everything is asked for again, over a new connection if this one is dead. */
  wake(): void {
    if (!this.#link.connected) return;
    this.#isWaking = true;
    this.#probe();
    this.#subscribeAll();
    if (this.#state.phase === 'live') this.#set('catching', '');
  }

  /** Called twice a second: notices that nothing arrives any more. */
  tick(): void {
    const now = this.#elapsed();
    const pause = now - this.#lastTick;
    // While a machine sleeps, a clock that nobody sets may stand still.
    const stoodStill = this.#now() - this.#lastTickAt - pause > SLEPT_MS;
    // A browser calls a hidden tab once a minute, but hands over what arrives.
    const slept = stoodStill || (pause > SLEPT_MS && this.#heard <= this.#lastTick);
    this.#lastTick = now;
    this.#lastTickAt = this.#now();
    if (!this.#link.connected) return;
    if (slept) this.wake();
    else if (now - this.#heard > PROBE_AFTER_MS) this.#probe();
    const unanswered = this.#probedAt === null ? 0 : now - this.#probedAt;
    if (unanswered >= GIVE_UP_AFTER_MS) this.#link.drop();
    else if (unanswered >= SILENT_AFTER_MS) this.#set('silent', '');
  }

  #listen(): void {
    const link = this.#link;
    link.onConnect(() => {
      this.#probedAt = null;
      this.#isWaking = false;
      for (const list of [this.#fleet, this.#alarms]) if (list) list.turn = 0;
      // A client that connects while something fails is sent the status.
      this.#state = { ...this.#state, status: null, drains: false };
      this.#subscribeAll();
      this.#hear();
    });
    link.onDisconnect((reason) => {
      this.#expiresNot();
      this.#refreshing.forEach((resolve) => resolve(UNANSWERED));
      this.#refreshing.clear();
      this.#set('lost', reason);
      if (!link.active && !this.#isClosed) this.#retry();
    });
    link.onRefused((reason) => {
      if (link.active) {
        if (this.#state.phase !== 'connecting') this.#set('lost', reason);
        else this.#set('connecting', reason);
      } else if (PASSING.test(reason)) {
        this.#set('lost', reason);
        this.#retry();
      } else this.#set('refused', reason);
    });
    link.onHeard(() => this.#hear());
    const device = (event: DeviceEvent) => this.#deviceEvent(event);
    link.on('device:data', (body) => device({ name: 'device:data', body }));
    link.on('device:alerts', (body) => device({ name: 'device:alerts', body }));
    link.on('device:alerts:changed', (body) => device({ name: 'device:alerts:changed', body }));
    link.on('fleet:snapshot', (body) => {
      this.clock.observe(body.timestamp);
      if (this.#fleet?.store.snapshot(body)) this.#arrivedWhole(this.#fleet);
    });
    link.on('fleet:changed', (body) => {
      this.clock.observe(body.timestamp);
      this.#fleet?.store.changed(body);
      this.#showing ??= setTimeout(() => this.#showRows(), TOGETHER_MS);
    });
    link.on('alarms:snapshot', (body) => {
      this.clock.observe(body.timestamp);
      if (this.#alarms?.store.snapshot(body)) this.#arrivedWhole(this.#alarms);
    });
    link.on('alarms:changed', (body) => {
      this.clock.observe(body.timestamp);
      this.#alarms?.store.changed(body);
      if (this.#alarms) notify(this.#alarms.watchers);
    });
    link.on('system:status', (status) => {
      this.clock.observe(status.timestamp);
      this.#update({ status: status.status === 'ok' ? null : status });
    });
    link.on('auth:expiring', ({ closesInMs }) => {
      this.#closesAt = this.#elapsed() + closesInMs;
      this.#expiryWatchers.forEach((watcher) => watcher(closesInMs));
    });
    link.on('server:drain', () => this.#update({ drains: true }));
  }

  #expiresNot(): void {
    if (this.#closesAt === null) return;
    this.#closesAt = null;
    this.#expiryWatchers.forEach((watcher) => watcher(null));
  }

  #showRows(): void {
    this.#showing = undefined;
    if (this.#fleet) notify(this.#fleet.watchers);
  }

  #deviceEvent(event: DeviceEvent): void {
    if (event.name !== 'device:alerts') this.clock.observe(event.body.timestamp);
    const device = this.#devices.get(event.body.deviceId);
    if (device?.ledger.take(event)) notify(device.watchers);
  }

  #subscribeAll(): void {
    this.#devices.forEach((device, deviceId) => this.#subscribeDevice(deviceId, device));
    this.#subscribeList('fleet', this.#fleet);
    this.#subscribeList('alarms', this.#alarms);
  }

  #subscribeDevice(deviceId: string, device: WatchedDevice): void {
    const since = device.ledger.since;
    device.turn += 1;
    device.isBehind = true;
    const { turn } = device;
    this.#link.emit('subscribe:device', { deviceId, since }, (answer) => {
      if (turn === device.turn) device.isBehind = false;
      device.refusal = answer.ok ? null : answer.error;
      if (answer.ok) device.ledger.answered(answer);
      notify(device.watchers);
      this.#settle();
    });
  }

  /** Asks for a whole list. What is left of a list before that was asked for over the same connection must not get into it. */
  #subscribeList(name: 'fleet' | 'alarms', list: WatchedList<FleetStore | AlarmStore, object> | undefined): void {
    if (!list) return;
    list.turn += 1;
    const { turn } = list;
    list.isBehind = true;
    list.isReplaced = turn > 1;
    if (turn > 1) {
      this.#link.emit(`unsubscribe:${name}`, null, () => {
        list.store.restart();
        if (turn === list.turn) list.isReplaced = false;
      });
    }
    list.store.restart();
    this.#link.emit(`subscribe:${name}`, { filter: list.filter }, (answer) => {
      // One that was replaced is answered as refused.
      if (turn !== list.turn) return;
      list.refusal = answer.ok ? null : answer.error;
      if (!answer.ok) list.isBehind = false;
      notify(list.watchers);
      this.#settle();
    });
  }

  #arrivedWhole(list: WatchedList<FleetStore | AlarmStore, object>): void {
    if (!list.isReplaced) list.isBehind = false;
    notify(list.watchers);
    this.#settle();
  }

  /** Asks for an answer that costs the server nothing. */
  #probe(): void {
    if (this.#probedAt !== null) return;
    const asked = this.#elapsed();
    this.#probedAt = asked;
    this.#link.emit('unsubscribe:device', 'dashboard-probe', () => {
      // The answer to one over a connection before is none.
      if (this.#probedAt !== asked) return;
      this.#probedAt = null;
      this.#isWaking = false;
      this.#hear();
    });
  }

  #hear(): void {
    this.#heard = this.#elapsed();
    // `heard` alone is no change that anybody has to be told of.
    this.#state.heard = this.#now();
    this.#settle();
  }

  /** What is no longer watched is not waited for. It is no sign of life. */
  #unwatched(): void {
    if (this.#state.phase === 'catching') this.#settle();
  }

  /** Whatever arrives, what is shown counts as current only when everything that was asked for anew is there. */
  #settle(): void {
    if (!this.#link.connected) return;
    const all = [...this.#devices.values(), this.#fleet, this.#alarms];
    const isBehind = this.#isWaking || all.some((watched) => watched?.isBehind);
    // What is watched from now on says itself that it is loading.
    if (this.#state.phase !== 'live') this.#set(isBehind ? 'catching' : 'live', '');
  }

  #retry(): void {
    clearTimeout(this.#retrying);
    this.#retrying = setTimeout(() => this.#link.connect(), RETRY_MS + this.#random() * RETRY_JITTER_MS);
  }

  #set(phase: LinkPhase, reason: string): void {
    if (phase === this.#state.phase) return this.#update({ reason });
    // A link that is silent and then breaks has been away since it became silent.
    const wasAway = this.#state.phase !== 'live' && this.#state.phase !== 'refused';
    const isAway = phase === 'silent' || phase === 'lost' || phase === 'catching';
    const began = phase === 'silent' || phase === 'catching' ? (this.#state.heard ?? this.#now()) : this.#now();
    this.#update({ phase, reason, since: wasAway && isAway ? this.#state.since : began });
  }

  #update(change: Partial<LinkState>): void {
    this.#state = { ...this.#state, ...change };
    notify(this.#stateWatchers);
  }
}

function notify(watchers: Set<() => void>): void {
  [...watchers].forEach((watcher) => watcher());
}

const isSame = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
