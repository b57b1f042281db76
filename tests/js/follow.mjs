// node follow.mjs URL DEVICE…   shows every event of these devices once, in order, across lost connections
import { io } from 'socket.io-client';

const [url, ...ids] = process.argv.slice(2);
const names = ['device:data', 'device:alerts', 'device:alerts:changed'];
const devices = new Map(ids.map((id) => [id, {}]));
const show = (name, body) => console.log(body.deviceId, body.seq, name, JSON.stringify(body.data ?? body.alerts));

const socket = io(url);
socket.on('connect', () => devices.forEach((device, deviceId) => {
  socket.emit('subscribe:device', { deviceId, since: device.since }, (answer) => {
    if (!answer.ok) return console.error(deviceId, answer.error);
    // Everything up to this position has arrived.
    const { epoch, seq } = answer;
    Object.assign(device, { since: { epoch, seq }, newest: { epoch, seq }, seen: new Set(names) });
  });
}));
for (const name of names) {
  socket.on(name, (body) => isNew(name, body, devices.get(body.deviceId)) && show(name, body));
}

// The newest position may have arrived incompletely. So the next subscription continues after the position before it.
// This function filters out the events of the newest position that were already shown.
function isNew(name, { epoch, seq, skipped, snapshot, stale }, device) {
  const newest = device.newest ?? {};
  if (stale || (newest.epoch === epoch && seq < newest.seq)) return true;
  if (newest.epoch !== epoch || newest.seq !== seq) {
    device.since = skipped ? { epoch, seq: seq - 1 } : device.newest;
    device.newest = { epoch, seq };
    device.seen = new Set();
  }
  const isKnown = device.seen.has(name) && !snapshot;
  device.seen.add(name);
  return !isKnown;
}
