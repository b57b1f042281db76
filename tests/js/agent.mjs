// A browser for the tests: the official Socket.IO client, told what to do by JSON lines on stdin.
// Everything it sees goes to stdout as one JSON line each, in the order of arrival.
//
//   {"do":"connect","url":…,"options":{…}}   options are the client's own
//   {"do":"emit","name":…,"body":…}          without an acknowledgement callback
//   {"do":"ask","id":…,"name":…,"body":…}    with one; its answer comes back as {"what":"ack","id":…}
//   {"do":"disconnect"}  {"do":"reconnect"}  {"do":"cut"} (closes the transport as a lost network does)
//
// It ends when stdin ends.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

let socket;

function say(what, fields = {}) {
  process.stdout.write(`${JSON.stringify({ what, ...fields })}\n`);
}

function connect(url, options) {
  socket = io(url, { forceNew: true, ...options });
  // The upgrade may be over before the connection is answered: listen from the transport's first moment on.
  socket.io.on('open', () => socket.io.engine.once('upgrade', ({ name }) => say('upgrade', { name })));
  socket.on('connect', () => {
    say('connect', { name: socket.io.engine.transport.name, body: socket.id });
  });
  socket.on('connect_error', (error) => {
    say('connect_error', { name: error.message, body: error.context?.status ?? null });
  });
  socket.on('disconnect', (reason) => say('disconnect', { name: reason }));
  socket.onAny((name, body) => say('event', { name, body }));
}

const orders = {
  connect: ({ url, options }) => connect(url, options),
  emit: ({ name, body }) => socket.emit(name, body),
  ask: ({ id, name, body }) => socket.emit(name, body, (answer) => say('ack', { id, body: answer })),
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
