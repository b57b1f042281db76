// Proves the live path with the official client, for two users: a reading and an alarm reach one who may only read, only the other
// can acknowledge it, and the acknowledgement comes back to both. Without a token nobody sees anything.
//
//   READER_TOKEN=… OPERATOR_TOKEN=… node demo.mjs URL
//
// Prints what happened and exits 0, or prints what did not happen and exits 1.
import { io } from 'socket.io-client';

const url = process.argv[2];
const { READER_TOKEN: reader, OPERATOR_TOKEN: operator } = process.env;
const deadline = Date.now() + 90_000;
let waitingFor = 'the gateway to answer';

const watch = setInterval(() => {
  if (Date.now() > deadline) stop(1, `did not happen within 90 s: ${waitingFor}`);
}, 250);

function stop(code, text) {
  clearInterval(watch);
  console.log(`demo: ${text}`);
  process.exit(code);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const withToken = (token) => (token ? { authorization: `Bearer ${token}` } : {});

async function firstDevices() {
  waitingFor = 'a detector in /api/devices';
  for (;;) {
    const answer = await fetch(`${url}/api/devices`, { headers: withToken(reader) }).catch(() => null);
    const body = answer?.ok ? await answer.json() : null;
    if (body?.count > 0) return body.devices.map((device) => device.device_id);
    await pause(200);
  }
}

// Resolves with the first body of this event for which `pick` returns something.
function first(socket, event, pick) {
  return new Promise((resolve) => {
    const listen = (body) => {
      const found = pick(body);
      if (found) {
        socket.off(event, listen);
        resolve(found);
      }
    };
    socket.on(event, listen);
  });
}

function signIn(who, token) {
  const socket = io(url, { auth: { token } });
  socket.on('connect_error', (error) => stop(1, `the ${who} was not let in: ${error.message}`));
  return socket;
}

// Resolves with the sentence of a refusal.
async function refused(what, status, answer) {
  const body = await answer.json();
  if (answer.status !== status) stop(1, `${what} answered ${answer.status} instead of ${status}: ${JSON.stringify(body)}`);
  return body.error_message;
}

waitingFor = 'the refusal of a client without a token';
const stranger = io(url, { reconnection: false });
stranger.on('connect', () => stop(1, 'a client without a token was let in'));
const [{ message }, sentence] = await Promise.all([
  new Promise((resolve) => stranger.on('connect_error', resolve)),
  fetch(`${url}/api/devices`).then((answer) => refused('/api/devices without a token', 401, answer)),
]);
if (message !== sentence) stop(1, `refused with different sentences: ${message} and ${sentence}`);
console.log(`demo: a client without a token was refused by Socket.IO and REST: ${message}`);

const devices = new Set(await firstDevices());
console.log(`demo: ${devices.size} detectors are listed in /api/devices for the reader`);

waitingFor = 'a Socket.IO connection of both users';
const screens = { reader: signIn('reader', reader), operator: signIn('operator', operator) };
const reading = first(screens.reader, 'device:data', (body) => !body.snapshot && body);
const raised = first(screens.reader, 'device:alerts', (body) => {
  const alert = body.alerts.find(({ type, state }) => type.startsWith('alarm_level') && state === 'unacknowledged');
  return alert && { deviceId: body.deviceId, alert };
});
const subscribed = (answer) => answer.ok || stop(1, `a subscription was refused: ${JSON.stringify(answer.error)}`);
const subscribe = (socket, device) => socket.emit('subscribe:device', device, subscribed);
for (const socket of Object.values(screens)) {
  socket.on('connect', () => devices.forEach((device) => subscribe(socket, device)));
}

// Also subscribe to detectors that report for the first time later.
setInterval(async () => {
  for (const device of await firstDevices()) {
    if (!devices.has(device)) {
      devices.add(device);
      Object.values(screens).forEach((socket) => subscribe(socket, device));
    }
  }
}, 1000);

waitingFor = 'a reading as device:data';
const { deviceId, data } = await reading;
console.log(`demo: a reading arrived at the reader: ${deviceId} ${data.sensor_reading} ${data.unit} (${data.alarm_status})`);

waitingFor = 'a gas alarm as device:alerts';
const alarm = await raised;
console.log(`demo: an alarm arrived at the reader: ${alarm.deviceId} ${alarm.alert.message}, value ${alarm.alert.current_value}`);

const acknowledge = (token) => {
  const device = encodeURIComponent(alarm.deviceId);
  return fetch(`${url}/devices/${device}/subtronics/alerts/${alarm.alert.id}/acknowledge`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...withToken(token) },
    // The name of the token counts, not this word.
    body: JSON.stringify({ acknowledged_by: 'somebody else' }),
  });
};

waitingFor = 'the acknowledgement as device:alerts:changed';
const acknowledged = (body) =>
  body.alerts.find(({ id, change }) => id === alarm.alert.id && change === 'acknowledged');
const changed = Promise.all(
  Object.values(screens).map((socket) => first(socket, 'device:alerts:changed', acknowledged)),
);
const no = await refused("the reader's acknowledgement", 403, await acknowledge(reader));
console.log(`demo: the reader could not acknowledge it: ${no}`);
const answer = await acknowledge(operator);
if (!answer.ok) stop(1, `the operator's acknowledgement answered ${answer.status}: ${await answer.text()}`);
const [seenByReader] = await changed;
if (seenByReader.acknowledged_by !== 'The operator') stop(1, `acknowledged by ${seenByReader.acknowledged_by}`);
console.log(`demo: the operator acknowledged it, and both see that: ${seenByReader.id} by ${seenByReader.acknowledged_by}`);
stop(
  0,
  'a reading, an alarm and its acknowledgement have arrived; the reader could not acknowledge, and nobody without a token saw anything',
);
