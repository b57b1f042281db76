// Proves the live path with the official client: a reading and an alarm arrive, an acknowledgement comes back.
//
//   node demo.mjs URL
//
// Prints what it received and exits 0, or prints what did not happen and exits 1.
import { io } from 'socket.io-client';

const url = process.argv[2];
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

async function firstDevices() {
  waitingFor = 'a detector in /api/devices';
  for (;;) {
    const answer = await fetch(`${url}/api/devices`).catch(() => null);
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

const devices = new Set(await firstDevices());
console.log(`demo: ${devices.size} detectors are listed in /api/devices`);

waitingFor = 'a Socket.IO connection';
const socket = io(url);
const reading = first(socket, 'device:data', (body) => !body.snapshot && body);
const raised = first(socket, 'device:alerts', (body) => {
  const alert = body.alerts.find(({ type, state }) => type.startsWith('alarm_level') && state === 'unacknowledged');
  return alert && { deviceId: body.deviceId, alert };
});
const refused = (answer) => answer.ok || stop(1, `a subscription was refused: ${JSON.stringify(answer.error)}`);
const subscribe = (device) => socket.emit('subscribe:device', device, refused);
socket.on('connect', () => devices.forEach(subscribe));

// Also subscribe to detectors that report for the first time later.
setInterval(async () => {
  for (const device of await firstDevices()) {
    if (!devices.has(device)) {
      devices.add(device);
      subscribe(device);
    }
  }
}, 1000);

waitingFor = 'a reading as device:data';
const { deviceId, data } = await reading;
console.log(`demo: a reading arrived: ${deviceId} ${data.sensor_reading} ${data.unit} (${data.alarm_status})`);

waitingFor = 'a gas alarm as device:alerts';
const alarm = await raised;
console.log(`demo: an alarm arrived: ${alarm.deviceId} ${alarm.alert.message}, value ${alarm.alert.current_value}`);

waitingFor = 'the acknowledgement as device:alerts:changed';
const changed = first(socket, 'device:alerts:changed', (body) =>
  body.alerts.find(({ id, change }) => id === alarm.alert.id && change === 'acknowledged'));
const device = encodeURIComponent(alarm.deviceId);
const answer = await fetch(`${url}/devices/${device}/subtronics/alerts/${alarm.alert.id}/acknowledge`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ acknowledged_by: 'demo' }),
});
if (!answer.ok) stop(1, `acknowledging answered ${answer.status}: ${await answer.text()}`);
const acknowledged = await changed;
console.log(`demo: the acknowledgement came back: ${acknowledged.id} by ${acknowledged.acknowledged_by}`);
stop(0, 'a reading, an alarm and its acknowledgement have arrived');
