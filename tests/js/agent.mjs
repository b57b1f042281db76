// A browser for the tests: the official Socket.IO client. Each line on stdin is a command in JSON. Everything that the
// client receives is written to stdout as one line of JSON, in the order of arrival.
//
//   {"do":"connect","url":…,"options":{…}}   `options` are those of the client library
//   {"do":"emit","name":…,"body":…}          without an acknowledgement callback
//   {"do":"ask","id":…,"name":…,"body":…}    with one; the answer is written as {"what":"ack","id":…}
//   {"do":"follow","device":…}               subscribes now and after every reconnection, from the last complete position
//   {"do":"cutWithin","name":…,"seq":…}      loses the connection right after this event, and ignores everything after it
//   {"do":"disconnect"}  {"do":"reconnect"}  {"do":"cut"} (closes the transport as a lost network does)
//
// The process ends with stdin.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

let socket;
let cutting;
let deaf = false;
const followed = new Map();

function write(what, fields = {}) {
  process.stdout.write(`${JSON.stringify({ what, ...fields })}\n`);
}

function connect(url, options) {
  socket = io(url, { forceNew: true, ...options });
  // The upgrade may be complete before the connection is answered: listen as soon as the transport is open.
  socket.io.on('open', () => socket.io.engine.once('upgrade', ({ name }) => write('upgrade', { name })));
  socket.on('connect', () => {
    deaf = false;
    write('connect', { name: socket.io.engine.transport.name, body: socket.id });
    for (const device of followed.keys()) subscribe(device);
  });
  socket.on('connect_error', (error) => {
    write('connect_error', { name: error.message, body: error.context?.status ?? null });
  });
  socket.on('disconnect', (reason) => write('disconnect', { name: reason }));
  socket.onAny((name, body) => {
    if (deaf) return;
    write(isNew(name, body) ? 'event' : 'again', { name, body });
    if (name !== cutting?.name || body.seq !== cutting.seq) return;
    cutting = undefined;
    // socket.io-client may already have the next events from the same read; a lost connection would not have brought them.
    deaf = true;
    socket.io.engine.close();
  });
}

// How a client misses nothing. The events of one position arrive one by one, and the connection may be lost between them.
// So only the position before the newest one is known to be complete, including the readings skipped before it. The client
// resumes from there, receives the newest position again, and ignores the events of it that it already has.
function subscribe(device) {
  const { complete } = followed.get(device);
  const since = complete && { epoch: complete.epoch, seq: complete.seq };
  socket.emit('subscribe:device', since ? { deviceId: device, since } : device, (answer) => {
    const state = followed.get(device);
    // Every event up to the position in the answer arrived before the answer.
    if (answer.ok) Object.assign(state, { complete: answer, newest: answer, names: null });
    write('followed', { name: device, body: { ...answer, since: since ?? null } });
  });
}

function isNew(name, body) {
  const state = followed.get(body?.deviceId);
  // A stale reading is repeated at its old position: it is not a new event.
  if (!state || !name.startsWith('device:') || body.stale) return true;
  const { newest } = state;
  // A recovery that broke off sent alarm changes up to the newest: the positions between them arrive for the first time.
  if (newest?.epoch === body.epoch && body.seq < newest.seq) return true;
  const isSame = newest?.epoch === body.epoch && newest.seq === body.seq;
  const before = body.skipped ? { epoch: body.epoch, seq: body.seq - 1 } : newest;
  if (!isSame) Object.assign(state, { complete: before, newest: body, names: new Set() });
  if (isSame && !body.snapshot && (state.names === null || state.names.has(name))) return false;
  state.names?.add(name);
  return true;
}

const commands = {
  connect: ({ url, options }) => connect(url, options),
  emit: ({ name, body }) => socket.emit(name, body),
  ask: ({ id, name, body }) => socket.emit(name, body, (answer) => write('ack', { id, body: answer })),
  follow: ({ device }) => {
    followed.set(device, { complete: null, newest: null, names: null });
    if (socket.connected) subscribe(device);
  },
  cutWithin: ({ name, seq }) => {
    cutting = { name, seq };
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
