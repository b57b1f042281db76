// Many official clients in one process. Each line on stdin is a command in JSON, and gets one line as its answer.
//
//   {"do":"open","url":…,"options":{…},"clients":[[DEVICE…]…]}   one list of devices per client
//   {"do":"stall"}  {"do":"resume"}           all stop reading from the socket, and continue
//   {"do":"disconnect"}  {"do":"reconnect"}   all disconnect, and connect again
//   {"do":"counts"}      sums over all clients
//   {"do":"closings"}    every `reconnectInMs` that `server:drain` announced since this was last asked
//   {"do":"changes"}     per device the sequences of alarm changes, and how many clients received each
//
// A client remembers its newest whole position per device and sends it when it connects again. The process ends with stdin.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';
import { WholePositions } from './positions.mjs';

const crowd = [];
let closings = [];

class Client {
  constructor(url, options, devices) {
    Object.assign(this, { isAnswered: false, connections: 0, readings: 0, skipped: 0, backwards: 0, fresh: 0 });
    this.devices = new Map(devices.map((device) => [device, { positions: new WholePositions(), last: null, changes: [] }]));
    this.socket = io(url, { transports: ['websocket'], forceNew: true, ...options });
    this.socket.on('connect', () => {
      this.connections += 1;
      this.subscribe();
    });
    this.socket.on('disconnect', () => { this.isAnswered = false; });
    this.socket.on('device:data', (body) => this.data(body));
    this.socket.on('device:alerts', (body) => this.isNew('device:alerts', body));
    this.socket.on('device:alerts:changed', (body) => this.changed(body));
    this.socket.on('server:drain', ({ reconnectInMs }) => closings.push(reconnectInMs));
  }

  subscribe() {
    let open = this.devices.size;
    for (const [deviceId, device] of this.devices) {
      device.last = null;
      const { positions } = device;
      const { since } = positions;
      this.socket.emit('subscribe:device', { deviceId, since }, (answer) => {
        if (!answer.ok) throw new Error(JSON.stringify(answer));
        if (since && !answer.recovered) this.fresh += 1;
        positions.answered(answer);
        open -= 1;
        this.isAnswered = open === 0;
      });
    }
  }

  isNew(name, body) {
    const device = this.devices.get(body.deviceId);
    const { last } = device;
    if (last && last.epoch === body.epoch && last.seq > body.seq) this.backwards += 1;
    device.last = { epoch: body.epoch, seq: body.seq };
    return device.positions.isNew(name, body);
  }

  data(body) {
    this.isNew('device:data', body);
    this.skipped += body.skipped ?? 0;
    this.readings += Number(!body.snapshot && !body.stale);
  }

  changed(body) {
    if (!this.isNew('device:alerts:changed', body)) return;
    const device = this.devices.get(body.deviceId);
    device.changes.push(...body.alerts.map(({ id, change }) => `${change} ${id}`));
  }
}

const sum = (pick) => crowd.reduce((total, client) => total + pick(client), 0);

// The TCP connections of those who have one.
const streams = () => crowd.map(({ socket }) => socket.io.engine?.transport?.ws?._socket).filter(Boolean);

const commands = {
  open({ url, options, clients }) {
    crowd.push(...clients.map((devices) => new Client(url, options, devices)));
    return {};
  },
  stall() {
    streams().forEach((stream) => stream.pause());
    return {};
  },
  resume() {
    streams().forEach((stream) => stream.resume());
    return {};
  },
  disconnect() {
    crowd.forEach(({ socket }) => socket.disconnect());
    return {};
  },
  reconnect() {
    crowd.forEach(({ socket }) => socket.connect());
    return {};
  },
  counts: () => ({
    connected: sum(({ socket }) => Number(socket.connected)),
    answered: sum(({ isAnswered }) => Number(isAnswered)),
    skipped: sum(({ skipped }) => skipped),
    skipping: sum(({ skipped }) => Number(skipped > 0)),
    backwards: sum(({ backwards }) => backwards),
    connections: sum(({ connections }) => connections),
    readings: sum(({ readings }) => readings),
    fresh: sum(({ fresh }) => fresh),
  }),
  closings: () => closings.splice(0),
  changes() {
    const seen = {};
    for (const client of crowd) {
      for (const [name, { changes }] of client.devices) {
        const sequences = (seen[name] ??= new Map());
        const text = JSON.stringify(changes);
        sequences.set(text, (sequences.get(text) ?? 0) + 1);
      }
    }
    const listed = (sequences) => [...sequences].map(([text, clients]) => ({ clients, changes: JSON.parse(text) }));
    return Object.fromEntries(Object.entries(seen).map(([name, sequences]) => [name, listed(sequences)]));
  },
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line);
    process.stdout.write(`${JSON.stringify(commands[command.do](command))}\n`);
  })
  .on('close', () => process.exit(0));
