// A browser for the tests: the official Socket.IO client, told what to do by JSON lines on stdin.
// Everything it sees goes to stdout as one JSON line each, in the order of arrival.
//
//   {"do":"connect","url":…,"options":{…}}   options are the client's own
//   {"do":"emit","name":…,"body":…}          without an acknowledgement callback
//   {"do":"ask","id":…,"name":…,"body":…}    with one; its answer comes back as {"what":"ack","id":…}
//   {"do":"follow","device":…}               subscribes now and at every connection, each time from where it stands
//   {"do":"cutWithin","name":…,"seq":…}      loses the connection right behind this event, with what follows it
//   {"do":"disconnect"}  {"do":"reconnect"}  {"do":"cut"} (closes the transport as a lost network does)
//
// It ends when stdin ends.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

let socket;
let cutting;
let deaf = false;
const followed = new Map();

function say(what, fields = {}) {
  process.stdout.write(`${JSON.stringify({ what, ...fields })}\n`);
}

function connect(url, options) {
  socket = io(url, { forceNew: true, ...options });
  // The upgrade may be over before the connection is answered: listen from the transport's first moment on.
  socket.io.on('open', () => socket.io.engine.once('upgrade', ({ name }) => say('upgrade', { name })));
  socket.on('connect', () => {
    deaf = false;
    say('connect', { name: socket.io.engine.transport.name, body: socket.id });
    for (const device of followed.keys()) subscribe(device);
  });
  socket.on('connect_error', (error) => {
    say('connect_error', { name: error.message, body: error.context?.status ?? null });
  });
  socket.on('disconnect', (reason) => say('disconnect', { name: reason }));
  socket.onAny((name, body) => {
    if (deaf) return;
    say(isNew(name, body) ? 'event' : 'again', { name, body });
    if (name !== cutting?.name || body.seq !== cutting.seq) return;
    cutting = undefined;
    // The library still tells what came with the same piece of the network; a connection may end before that.
    deaf = true;
    socket.io.engine.close();
  });
}

// What a client that wants to miss nothing does. The events of one position come one by one, and the connection may end
// between them: only what came before the newest position is known to be whole, what was skipped before it included. It asks
// from there, gets the newest position once more, and takes of it what it has not seen.
function subscribe(device) {
  const { whole } = followed.get(device);
  const since = whole && { epoch: whole.epoch, seq: whole.seq };
  socket.emit('subscribe:device', since ? { deviceId: device, since } : device, (answer) => {
    const state = followed.get(device);
    // Everything up to the answered position came before the answer.
    if (answer.ok) Object.assign(state, { whole: answer, newest: answer, names: null });
    say('followed', { name: device, body: { ...answer, since: since ?? null } });
  });
}

function isNew(name, body) {
  const state = followed.get(body?.deviceId);
  // Shown once more at its old position: no event of its own.
  if (!state || !name.startsWith('device:') || body.stale) return true;
  const { newest } = state;
  // An answer that broke off told alarm changes up to the newest: what stood between them comes for the first time.
  if (newest?.epoch === body.epoch && body.seq < newest.seq) return true;
  const isSame = newest?.epoch === body.epoch && newest.seq === body.seq;
  const before = body.skipped ? { epoch: body.epoch, seq: body.seq - 1 } : newest;
  if (!isSame) Object.assign(state, { whole: before, newest: body, names: new Set() });
  if (isSame && !body.snapshot && (state.names === null || state.names.has(name))) return false;
  state.names?.add(name);
  return true;
}

const orders = {
  connect: ({ url, options }) => connect(url, options),
  emit: ({ name, body }) => socket.emit(name, body),
  ask: ({ id, name, body }) => socket.emit(name, body, (answer) => say('ack', { id, body: answer })),
  follow: ({ device }) => {
    followed.set(device, { whole: null, newest: null, names: null });
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
    const order = JSON.parse(line);
    orders[order.do](order);
  })
  .on('close', () => process.exit(0));
