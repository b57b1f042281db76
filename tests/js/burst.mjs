// Many official clients that subscribe in the same tick as the connect answer; counts who was answered.
//
//   node burst.mjs URL CLIENTS DEVICE…
//
// Prints one JSON object and exits 0; the caller judges the numbers.
import { io } from 'socket.io-client';

const [url, clients, ...devices] = process.argv.slice(2);
const wanted = Number(clients);
const deadline = 120_000;
const seen = { clients: wanted, connected: 0, acks: 0, snapshots: 0, both: 0, errors: {} };
const started = Date.now();
const sockets = [];

function finish() {
  console.log(JSON.stringify({ ...seen, ms: Date.now() - started }));
  process.exit(0);
}

function open(device) {
  const own = { ack: false, snapshot: false };
  const socket = io(url, {
    transports: ['websocket'],
    forceNew: true,
    reconnection: false,
    timeout: deadline,
  });
  sockets.push(socket);

  const answered = () => {
    if (own.ack && own.snapshot) {
      seen.both += 1;
      if (seen.both === wanted) finish();
    }
  };
  socket.on('connect', () => {
    seen.connected += 1;
    socket.emit('subscribe:device', device, (answer) => {
      if (answer?.ok && answer.deviceId === device) {
        seen.acks += 1;
        own.ack = true;
        answered();
      }
    });
  });
  socket.on('device:data', (body) => {
    if (!own.snapshot && body.snapshot === true && body.deviceId === device) {
      seen.snapshots += 1;
      own.snapshot = true;
      answered();
    }
  });
  const failed = (reason) => {
    seen.errors[reason] = (seen.errors[reason] ?? 0) + 1;
  };
  socket.on('connect_error', (error) => failed(`connect: ${error.message}`));
  socket.on('disconnect', (reason) => failed(`disconnect: ${reason}`));
}

setTimeout(finish, deadline);
for (let index = 0; index < wanted; index += 1) open(devices[index % devices.length]);
