// node follow.mjs URL DEVICE…   shows every event of these devices once, in order, across lost connections
import { io } from 'socket.io-client';

const [url, ...ids] = process.argv.slice(2);
const devices = new Map(ids.map((id) => [id, { since: undefined, shown: new Set() }]));
const show = (name, body) => console.log(body.deviceId, body.seq, name, JSON.stringify(body.data ?? body.alerts));

const socket = io(url, { auth: { token: process.env.TOKEN } });
// The library tries again by itself only while the socket is active: not if the gateway refuses the token.
socket.on('connect_error', (error) => {
  console.error(error.message);
  if (!socket.active) process.exitCode = 1;
});
socket.on('connect', () => devices.forEach((device, deviceId) => {
  socket.emit('subscribe:device', { deviceId, since: device.since }, (answer) => {
    if (answer.ok) isWhole(device, answer);
    else console.error(deviceId, answer.error);
  });
}));
for (const name of ['device:data', 'device:alerts', 'device:alerts:changed']) {
  socket.on(name, (body) => isNew(name, body, devices.get(body.deviceId)) && show(name, body));
}

// Everything up to this position has arrived. The next subscription continues after it.
function isWhole(device, { epoch, seq }) {
  device.since = { epoch, seq };
  device.shown.clear();
}

// Returns whether the event was not shown yet: after a lost connection, the events of a position that was not whole come again.
// The readings left out before one with `skipped` are no longer needed.
function isNew(name, { epoch, seq, more, skipped, snapshot, stale }, device) {
  if (stale) return true;
  if (skipped && !snapshot) isWhole(device, { epoch, seq: seq - 1 });
  const event = `${epoch} ${seq} ${name}`;
  const isKnown = device.shown.has(event);
  if (!more) isWhole(device, { epoch, seq });
  else if (!snapshot) device.shown.add(event);
  return snapshot || !isKnown;
}
