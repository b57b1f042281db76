// socket.io-client, with the settings for a screen that nobody attends.
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';

import type { Answer, Command, Commands, ServerEvents } from './events';

/** What the gateway needs of a connection. */
export interface Link {
  readonly connected: boolean;
  /** Whether it connects, or tries again by itself. */
  readonly active: boolean;
  connect(): void;
  disconnect(): void;
  /** Gives this connection up. Another one is made. */
  drop(): void;
  /** `null`: without an argument. */
  emit<Name extends Command>(name: Name, body: Commands[Name], answer?: (body: Answer<Name>) => void): void;
  on<Name extends keyof ServerEvents>(name: Name, listener: ServerEvents[Name]): void;
  onConnect(listener: () => void): void;
  onDisconnect(listener: (reason: string) => void): void;
  /** Could not connect, or was not admitted. */
  onRefused(listener: (reason: string) => void): void;
  /** Anything arrived. */
  onHeard(listener: () => void): void;
}

export class SocketLink implements Link {
  // The names of events are checked by `on`.
  readonly #socket: Socket;

  /**
   * `token` is asked at each connection. Without one, the cookie of a session or anonymity counts. `settings` of socket.io-client replace those
   * of here.
   */
  constructor(token: () => string | null, url?: string, settings: Partial<ManagerOptions & SocketOptions> = {}) {
    const options = {
      autoConnect: false,
      auth: (send: (auth: object) => void) => {
        const current = token();
        send(current ? { token: current } : {});
      },
      // Long polling only where WebSockets do not get through: it needs a proxy that keeps a client at one replica.
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 500,
      reconnectionDelayMax: 4000,
      randomizationFactor: 0.5,
      timeout: 8000,
      ...settings,
    };
    this.#socket = url ? io(url, options) : io(options);
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  get active(): boolean {
    return this.#socket.active;
  }

  connect(): void {
    this.#socket.connect();
  }

  disconnect(): void {
    this.#socket.disconnect();
  }

  drop(): void {
    this.#socket.io.engine.close();
  }

  emit<Name extends Command>(name: Name, body: Commands[Name], answer?: (body: Answer<Name>) => void): void {
    const args: unknown[] = body === null ? [] : [body];
    this.#socket.emit(name, ...args, ...(answer ? [answer] : []));
  }

  on<Name extends keyof ServerEvents>(name: Name, listener: ServerEvents[Name]): void {
    this.#socket.on(name as string, listener as (...args: unknown[]) => void);
  }

  onConnect(listener: () => void): void {
    this.#socket.on('connect', listener);
  }

  onDisconnect(listener: (reason: string) => void): void {
    this.#socket.on('disconnect', listener);
  }

  onRefused(listener: (reason: string) => void): void {
    this.#socket.on('connect_error', (error) => listener(error.message));
  }

  onHeard(listener: () => void): void {
    this.#socket.onAny(listener);
    this.#socket.io.on('ping', listener);
  }
}
