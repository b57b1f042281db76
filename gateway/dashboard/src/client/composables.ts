// The client for the components of Vue: each subscribes when it is set up, and unsubscribes when its component goes.
import {
  inject,
  onScopeDispose,
  readonly,
  ref,
  shallowRef,
  toValue,
  triggerRef,
  watch,
  type App,
  type InjectionKey,
  type MaybeRefOrGetter,
  type Ref,
  type ShallowRef,
} from 'vue';

import type { PastAlarm } from './alarmStore';
import { EMPTY_VIEW, type DeviceView } from './deviceLedger';
import type { AlarmFilter, FleetFilter, FleetRow, OpenAlarm, Refusal } from './events';
import type { Gateway } from './gateway';
import type { LinkState } from './linkState';

const GATEWAY: InjectionKey<Gateway> = Symbol('gateway');

/** `app.use(gatewayPlugin(gateway))`: gives the components below `app` the connection. */
export const gatewayPlugin = (gateway: Gateway) => ({ install: (app: App) => app.provide(GATEWAY, gateway) });

export function useGateway(): Gateway {
  const gateway = inject(GATEWAY);
  if (!gateway) throw new Error('app.use(gatewayPlugin(gateway)) is missing');
  return gateway;
}

/** Everything of one device, always current. */
export function useDevice(deviceId: MaybeRefOrGetter<string>): {
  view: Readonly<ShallowRef<DeviceView>>;
  refusal: Readonly<Ref<Refusal | null>>;
} {
  const gateway = useGateway();
  const view = shallowRef<DeviceView>(EMPTY_VIEW);
  const refusal = shallowRef<Refusal | null>(null);
  let stop = () => {};
  const start = (id: string) => {
    stop();
    view.value = EMPTY_VIEW;
    const watched = gateway.watchDevice(id, () => update());
    const update = () => {
      view.value = watched.ledger.view;
      refusal.value = watched.refusal();
    };
    stop = watched.stop;
    update();
  };
  watch(() => toValue(deviceId), start, { immediate: true });
  onScopeDispose(() => stop());
  return { view, refusal };
}

/** Every device. The filter is the server's: what does not match is not sent. */
export function useFleet(filter: FleetFilter = {}): {
  rows: Readonly<ShallowRef<readonly FleetRow[]>>;
  isComplete: Readonly<Ref<boolean>>;
  refusal: Readonly<Ref<Refusal | null>>;
} {
  const gateway = useGateway();
  const rows = shallowRef<readonly FleetRow[]>([]);
  const isComplete = ref(false);
  const refusal = shallowRef<Refusal | null>(null);
  const watched = gateway.watchFleet(filter, () => update());
  const update = () => {
    rows.value = watched.store.rows;
    isComplete.value = watched.store.isComplete;
    refusal.value = watched.refusal();
  };
  update();
  onScopeDispose(watched.stop);
  return { rows, isComplete, refusal };
}

/** Every open alarm, most urgent first. */
export function useAlarms(filter: AlarmFilter = {}): {
  open: Readonly<ShallowRef<readonly OpenAlarm[]>>;
  past: Readonly<ShallowRef<readonly PastAlarm[]>>;
  isComplete: Readonly<Ref<boolean>>;
  refusal: Readonly<Ref<Refusal | null>>;
} {
  const gateway = useGateway();
  const open = shallowRef<readonly OpenAlarm[]>([]);
  const past = shallowRef<readonly PastAlarm[]>([]);
  const isComplete = ref(false);
  const refusal = shallowRef<Refusal | null>(null);
  const watched = gateway.watchAlarms(filter, () => update());
  const update = () => {
    open.value = watched.store.open;
    past.value = watched.store.past;
    isComplete.value = watched.store.isComplete;
    refusal.value = watched.refusal();
  };
  update();
  onScopeDispose(watched.stop);
  return { open, past, isComplete, refusal };
}

/** Whether what is shown is current, and since when it is not. */
export function useLinkState(): Readonly<ShallowRef<LinkState>> {
  const gateway = useGateway();
  const state = shallowRef(gateway.state);
  onScopeDispose(
    gateway.onState(() => {
      state.value = gateway.state;
      triggerRef(state);
    }),
  );
  return state;
}

/** Tells the time at the server in milliseconds since 1970. Before anything came from there it is that of this machine, which may be wrong. */
export function useServerClock(): () => number {
  const gateway = useGateway();
  return () => gateway.clock.now() ?? Date.now();
}

/** The time at the server in milliseconds since 1970, once a second. */
export function useServerTime(): Readonly<Ref<number>> {
  const read = useServerClock();
  const time = ref(read());
  const ticking = setInterval(() => (time.value = read()), 1000);
  onScopeDispose(() => clearInterval(ticking));
  return readonly(time);
}

/** Asks for everything again when the tab is shown after it was hidden. */
export function useWake(): void {
  const gateway = useGateway();
  let hiddenAt: number | null = null;
  const changed = () => {
    if (document.visibilityState === 'hidden') hiddenAt = Date.now();
    else if (hiddenAt !== null && Date.now() - hiddenAt > HIDDEN_MS) gateway.wake();
  };
  const online = () => gateway.wake();
  document.addEventListener('visibilitychange', changed);
  window.addEventListener('online', online);
  onScopeDispose(() => {
    document.removeEventListener('visibilitychange', changed);
    window.removeEventListener('online', online);
  });
}

/** A tab that was hidden for less has missed nothing. */
const HIDDEN_MS = 10_000;
