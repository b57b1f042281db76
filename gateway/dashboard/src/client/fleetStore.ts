// Every device as the fleet shows it.
import { ChunkedList, type Part } from './chunks';
import type { FleetChanged, FleetRow, FleetSnapshot } from './events';

export class FleetStore {
  readonly #rows = new ChunkedList<FleetRow>((row) => row.deviceId);

  get isComplete(): boolean {
    return this.#rows.isComplete;
  }

  get rows(): FleetRow[] {
    return this.#rows.values();
  }

  get(deviceId: string): FleetRow | undefined {
    return this.#rows.get(deviceId);
  }

  restart(): void {
    this.#rows.restart();
  }

  snapshot({ devices, first, more }: Part<FleetSnapshot>): boolean {
    return this.#rows.chunk(devices, more, first);
  }

  changed({ devices, removed }: FleetChanged): void {
    this.#rows.change(devices);
    removed.forEach((deviceId) => this.#rows.remove(deviceId));
  }
}
