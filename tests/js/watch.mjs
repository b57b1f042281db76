// Prints every event of the named detectors as it arrives, as a browser sees it.
//
//   TOKEN=… node watch.mjs URL DEVICE…
//
// TOKEN may be missing if the gateway serves clients without one.
import { io } from 'socket.io-client';

const [url, ...devices] = process.argv.slice(2);
const socket = io(url, { auth: { token: process.env.TOKEN } });
const subscribe = (device) => socket.emit('subscribe:device', device, (answer) => console.log('subscribed', answer));
socket.on('connect', () => devices.forEach(subscribe));
socket.on('connect_error', (error) => console.log('no connection:', error.message));
socket.on('disconnect', (reason) => console.log('connection lost:', reason));
socket.onAny((event, body) => console.log(event, JSON.stringify(body)));
