// Many clients made of src/client in one process, without a browser. `tests/src/kits.rs` starts it. Each line on stdin is a command in JSON, and
// each is answered by one line on stdout.
//
//   {"do":"open","seed":…,"kits":[{"url":…,"devices":[…],"transports":[…]}]}   connects one client for each; each watches its devices, the fleet and
//                                 all open alarms
//   {"do":"drop","within":…}      from now on each client gives its connection up after at most so many events, again and again; 0: no longer
//   {"do":"counts"}               how often connections were lost, and the phase of each client
//   {"do":"state"}                what each client has, and every change of an alarm that it took, in order
//   {"do":"acknowledge","kit":…,"device":…,"alarm":…,"seen":…}
//
// The process ends with stdin.
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { runnerImport } from 'vite';

const folder = fileURLToPath(new URL('..', import.meta.url));
const { module: client } = await runnerImport(`${folder}src/client/index.ts`, { configFile: false, root: folder, logLevel: 'error' });
const { module: random } = await runnerImport(`${folder}test/random.ts`, { configFile: false, root: folder, logLevel: 'error' });
const { Gateway, Rest, SocketLink } = client;

const kits = [];
let within = 0;
// Paths of REST are relative to the page. There is none here.
let origin = '';
const fetchOfNode = globalThis.fetch;
globalThis.fetch = (path, init) => fetchOfNode(new URL(path, origin), init);

class Kit {
  constructor({ url, devices, transports }, dice) {
    this.url = url;
    this.dice = dice;
    this.disconnects = 0;
    this.eventsLeft = 0;
    this.link = new SocketLink(() => null, url, { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 60 });
    this.gateway = new Gateway({ link: this.link });
    this.link.onConnect(() => (this.eventsLeft = Math.ceil(this.dice() * within)));
    this.link.onDisconnect(() => (this.disconnects += 1));
    this.link.onHeard(() => this.heard());
    this.devices = devices.map((id) => new Watched(this.gateway, id));
    this.fleet = this.gateway.watchFleet({}, () => {});
    this.alarms = this.gateway.watchAlarms({}, () => {});
    this.gateway.connect();
  }

  // Before whoever listens to the event: what came with it may be on its way, and is lost or not.
  heard() {
    if (within === 0) return;
    this.eventsLeft -= 1;
    if (this.eventsLeft > 0) return;
    this.eventsLeft = Number.POSITIVE_INFINITY;
    if (this.dice() < 0.5) this.link.drop();
    else setImmediate(() => this.link.drop());
  }

  get counts() {
    const { phase, status } = this.gateway.state;
    return { url: this.url, phase, disconnects: this.disconnects, isDegraded: status !== null };
  }

  get state() {
    const devices = Object.fromEntries(this.devices.map((device) => [device.id, device.state]));
    return { ...this.counts, devices, fleet: this.fleet.store.rows, alarms: this.alarms.store.open };
  }
}

class Watched {
  constructor(gateway, id) {
    this.id = id;
    this.log = [];
    this.newest = undefined;
    const { ledger } = gateway.watchDevice(id, () => this.take());
    this.ledger = ledger;
  }

  // The view has the newest changes first.
  take() {
    const { changes } = this.ledger.view;
    const known = this.newest ? changes.indexOf(this.newest) : changes.length;
    if (known < 0) throw new Error(`${this.id}: more changes at once than a view has`);
    this.log.push(...changes.slice(0, known).reverse().map(({ alert }) => `${alert.change} ${alert.id}`));
    this.newest = changes[0];
  }

  get state() {
    const { reading, alarms, seen, stale, known } = this.ledger.view;
    return { log: this.log, reading, alarms, seen, stale, known };
  }
}

const commands = {
  open: ({ seed, kits: wanted }) => {
    wanted.forEach((kit, number) => kits.push(new Kit(kit, random.seeded(seed + number))));
    return {};
  },
  drop: (command) => {
    within = command.within;
    for (const kit of kits) kit.eventsLeft = Math.ceil(kit.dice() * within);
    return {};
  },
  counts: () => kits.map((kit) => kit.counts),
  state: () => kits.map((kit) => kit.state),
  acknowledge: async ({ kit, device, alarm, seen }) => {
    origin = kits[kit].url;
    return new Rest(() => ({ token: null, csrfToken: null })).acknowledge(device, alarm, seen);
  },
};

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
for await (const line of lines) {
  const command = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await commands[command.do](command))}\n`);
}
