// A Socket.IO server as the replaced system was one: it reads the detectors' messages from MQTT at QoS 0, and emits each to the
// room of its device. It stores nothing and knows no alarms.
//
//   node server.mjs KIND PORT MQTT_PORT [REDIS_PORT]
//
// KIND is `plain` (ws), `uws` (uWebSockets.js), or, for two processes with the Redis adapter between them, `scaled-ingest`
// (reads MQTT) and `scaled-gateway` (has the clients). It listens once everything else is connected.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createAdapter } from '@socket.io/redis-adapter';
import mqtt from 'mqtt';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [kind, port, mqttPort, redisPort] = process.argv.slice(2);
const host = '127.0.0.1';

// The same fields in the same order as `device:data` of ours.
function event(payload) {
  const serial = payload['OTSM-2 Serial Number'];
  const values = payload.Parameters;
  const now = new Date().toISOString();
  const reading = values['Live Sensor Readings '];
  const [a1, a2, a3] = [1, 2, 3].map((level) => values[`Alarm Level A${level}`]);
  const status = values['Sensor Fault'] || reading >= a1 ? 'ALARM' : 'NORMAL';
  return {
    deviceId: serial,
    data: {
      device_name: payload['Device Alise Name'], serial_number: serial, gas_type: 'Unknown',
      timestamp: payload['Date Time At Reading'], unit: 'ppm', message_type: payload['Message Type'], sender: 'Device',
      sensor_reading: reading, offset: reading, alarm_status: status, span_high: 2000, span_low: 0,
      a1_level: a1, a2_level: a2, a3_level: a3, decimal_point: values['Decimal Point'], a1_type: 'High', a1_hysteresis: 0,
      a1_latching: 0, a1_siren: 0, a1_buzzer: 0, alarm1_led: values['Alarm 1 LED Status'],
      alarm2_led: values['Alarm 2 LED Status'], alarm3_led: values['Alarm 3 LED Status'], sensor_fault: values['Sensor Fault'],
      latitude: payload.lat, longitude: payload.long, processed_at: now, data_quality: 'good',
    },
    timestamp: now,
  };
}

async function readMqtt(io) {
  const client = await mqtt.connectAsync(`mqtt://${host}:${mqttPort}`, { protocolVersion: 4, clean: true });
  await client.subscribeAsync('SubTronics/data', { qos: 0 });
  client.on('message', (_, bytes) => {
    const body = event(JSON.parse(bytes.toString()));
    io.to(`device:${body.deviceId}`).emit('device:data', body);
  });
}

const io = new Server();
if (kind.startsWith('scaled')) {
  const publisher = createClient({ url: `redis://${host}:${redisPort}` });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}
io.on('connection', (socket) => {
  socket.on('subscribe:device', (request, answer) => {
    socket.join(`device:${request.deviceId}`);
    answer({ ok: true, deviceId: request.deviceId });
  });
});
if (kind !== 'scaled-gateway') await readMqtt(io);
if (kind === 'uws') {
  // Without the file for this platform the package falls back to JavaScript, silently.
  const { App, DISABLED } = createRequire(import.meta.url)('@trufflesuite/uws-js-unofficial');
  if (DISABLED === undefined) throw new Error('uWebSockets.js has no binary for this platform');
  const app = App();
  io.attachApp(app);
  app.listen(host, Number(port), (listening) => {
    if (!listening) throw new Error(`cannot listen at ${port}`);
  });
} else {
  const server = createServer();
  io.attach(server);
  server.listen(Number(port), host);
}
