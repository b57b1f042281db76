// An identity provider for the tests. Each line on stdin is JSON: the claims that ID tokens have from then on, in addition to those of
// every token; `null` leaves one out. It answers each line, and first of all, with its port.
//
// The process ends with stdin.
import { createInterface } from 'node:readline';
import { OAuth2Server } from 'oauth2-mock-server';

const server = new OAuth2Server();
let claims = {};

server.service.on('beforeTokenSigning', ({ payload }) => {
  for (const [name, value] of Object.entries(claims)) {
    if (value === null) delete payload[name];
    else payload[name] = value;
  }
});

await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');
const { port } = server.address();
server.issuer.url = `http://127.0.0.1:${port}`;

const answer = () => process.stdout.write(`${JSON.stringify({ port })}\n`);
answer();
for await (const line of createInterface({ input: process.stdin })) {
  claims = JSON.parse(line);
  answer();
}
await server.stop();
