// Whether what is shown can be trusted, and since when it cannot.
import type { SystemStatus } from './events';

/**
 * - `connecting`: not connected yet.
 * - `catching`: connected, but not everything that is watched has arrived over this connection.
 * - `live`: connected, the server answers, and everything that is watched is there.
 * - `silent`: connected, but nothing arrives any more.
 * - `lost`: the connection broke, and the client tries again by itself.
 * - `refused`: the server admits nobody with this token, or without one.
 */
export type LinkPhase = 'connecting' | 'catching' | 'live' | 'silent' | 'lost' | 'refused';

export interface LinkState {
  phase: LinkPhase;
  /** When this phase began, by the clock of this machine. */
  since: number;
  /** When something last arrived, by the clock of this machine. */
  heard: number | null;
  /** Why, in the words of the server or the client library. */
  reason: string;
  /** What the server says of its data path. `null`: nothing to say. */
  status: SystemStatus | null;
  /** The server closes this connection soon. */
  drains: boolean;
}

export type Dependency = keyof SystemStatus['dependencies'];

export interface Fault {
  what: Dependency;
  reason: string;
  /** By the server's clock. */
  since: number | null;
}

/** The parts of the data path that do not work. */
export function faultsOf(status: SystemStatus | null): Fault[] {
  return parts(status)
    .filter(([, part]) => !part.ok)
    .map(([what, part]) => ({
      what,
      reason: part.reason ?? '',
      since: part.age_ms === null || !status ? null : Date.parse(status.timestamp) - part.age_ms,
    }));
}

/** What works, but with a warning. */
export function warningsOf(status: SystemStatus | null): string[] {
  return parts(status).flatMap(([, part]) => (part.ok && part.reason ? [part.reason] : []));
}

/** Without these nothing new arrives. */
const DATA_PATH: readonly Dependency[] = ['redis', 'broker', 'ingest'];

/** Whether values are current: if not, everything that is shown is frozen. */
export function isCurrent({ phase, status }: LinkState): boolean {
  return phase === 'live' && !faultsOf(status).some(({ what }) => DATA_PATH.includes(what));
}

function parts(status: SystemStatus | null) {
  return status ? (Object.entries(status.dependencies) as [Dependency, SystemStatus['dependencies']['redis']][]) : [];
}
