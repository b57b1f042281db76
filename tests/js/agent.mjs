// A browser for the tests: the official Socket.IO client. Each line on stdin is a command in JSON. Everything that the
// client receives is written to stdout as one line of JSON, in the order of arrival.
//
//   {"do":"connect","url":…,"options":{…}}   `options` are those of the client library
//   {"do":"emit","name":…,"body":…}          without an acknowledgement callback
//   {"do":"ask","id":…,"name":…,"body":…}    with one; the answer is written as {"what":"ack","id":…,"name":…}
//   {"do":"follow","device":…,"rule":…}      subscribes now and after every reconnection, from the position that this rule in
//                                            positions.mjs yields: `whole` or `before_newest`
//   {"do":"keep","name":…,"body":…}          emits now and after every reconnection; each answer is written as {"what":"kept","name":…}
//   {"do":"cutWithin","name":…,"seq":…}      loses the connection right after this event, and ignores everything after it. Several
//                                            cuts happen one after the other
//   {"do":"disconnect"}  {"do":"reconnect"}  {"do":"cut"} (closes the transport as a lost network does)
//
// The process ends with stdin.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';
import { BeforeNewest, WholePositions } from './positions.mjs';

const rules = { whole: WholePositions, before_newest: BeforeNewest };
let socket;
const cuts = [];
let deaf = false;
const followed = new Map();
const kept = new Map();

function write(what, fields = {}) {
  process.stdout.write(`${JSON.stringify({ what, ...fields })}\n`);
}

// What client and server agreed on for a WebSocket, such as compression.
function writeExtensions(ws) {
  if (ws?.extensions) write('extensions', { name: ws.extensions });
}

function connect(url, options) {
  socket = io(url, { forceNew: true, ...options });
  // The upgrade may be complete before the connection is answered: listen as soon as the transport is open.
  socket.io.on('open', () => socket.io.engine.once('upgrade', ({ name, ws }) => {
    writeExtensions(ws);
    write('upgrade', { name });
  }));
  socket.on('connect', () => {
    deaf = false;
    writeExtensions(socket.io.engine.transport.ws);
    write('connect', { name: socket.io.engine.transport.name, body: socket.id });
    for (const device of followed.keys()) subscribe(device);
    for (const name of kept.keys()) emitKept(name);
  });
  socket.on('connect_error', (error) => {
    write('connect_error', { name: error.message, body: error.context?.status ?? null });
  });
  socket.on('disconnect', (reason) => write('disconnect', { name: reason }));
  socket.onAny((name, body) => {
    if (deaf) return;
    write(isNew(name, body) ? 'event' : 'again', { name, body });
    if (name !== cuts[0]?.name || body.seq !== cuts[0].seq) return;
    cuts.shift();
    // socket.io-client may already have the next events from the same read; a lost connection would not have brought them.
    deaf = true;
    socket.io.engine.close();
  });
}

function subscribe(device) {
  const { since } = followed.get(device);
  socket.emit('subscribe:device', since ? { deviceId: device, since } : device, (answer) => {
    // Every event up to the position in the answer arrived before the answer.
    if (answer.ok) followed.get(device).answered(answer);
    write('followed', { name: device, body: { ...answer, since: since ?? null } });
  });
}

function emitKept(name) {
  socket.emit(name, kept.get(name), (answer) => write('kept', { name, body: answer }));
}

function isNew(name, body) {
  const positions = followed.get(body?.deviceId);
  return !positions || !name.startsWith('device:') || positions.isNew(name, body);
}

const commands = {
  connect: ({ url, options }) => connect(url, options),
  emit: ({ name, body }) => socket.emit(name, body),
  ask: ({ id, name, body }) => socket.emit(name, body, (answer) => write('ack', { id, name, body: answer })),
  follow: ({ device, rule }) => {
    followed.set(device, new rules[rule]());
    if (socket.connected) subscribe(device);
  },
  keep: ({ name, body }) => {
    kept.set(name, body);
    if (socket.connected) emitKept(name);
  },
  cutWithin: ({ name, seq }) => {
    cuts.push({ name, seq });
  },
  disconnect: () => socket.disconnect(),
  reconnect: () => socket.connect(),
  cut: () => socket.io.engine.close(),
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on('close', () => process.exit(0));
