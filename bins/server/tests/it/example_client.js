// Runs the example client against a server, for the test beside it: a line of JSON for each thing that happens.
// node example_client.js <plimsoll-ws.js> <server> <token>
'use strict';
const { createHash, randomBytes } = require('node:crypto');
const http = require('node:http');

const [, , client, server, token] = process.argv;
const { PlimsollStream } = require(client);
const say = (line) => console.log(JSON.stringify(line));

// As much of a WebSocket as the client uses: Node has its own from version 22 on.
class SmallWebSocket {
  constructor(url) {
    this.readyState = 0;
    const key = randomBytes(16).toString('base64');
    const request = http.request(String(url).replace(/^ws/, 'http'), {
      headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key },
    });
    request.on('upgrade', (response, socket, head) => {
      const accept = createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
      if (response.headers['sec-websocket-accept'] !== accept) return socket.destroy();
      this.socket = socket;
      this.readyState = 1;
      this.waiting = head;
      this.onopen?.();
      socket.on('data', (data) => {
        this.waiting = Buffer.concat([this.waiting, data]);
        this.read();
      });
      socket.on('error', () => {});
      socket.on('close', () => this.ended(1006));
      this.read();
    });
    request.on('response', (response) => {
      response.resume();
      this.ended(1006);
    });
    request.on('error', () => this.ended(1006));
    request.end();
  }

  read() {
    for (;;) {
      const bytes = this.waiting;
      if (bytes.length < 2) return;
      let [header, length] = [2, bytes[1] & 0x7f];
      if (length === 126) {
        if (bytes.length < 4) return;
        [header, length] = [4, bytes.readUInt16BE(2)];
      } else if (length === 127) {
        if (bytes.length < 10) return;
        [header, length] = [10, Number(bytes.readBigUInt64BE(2))];
      }
      if (bytes.length < header + length) return;
      const payload = bytes.subarray(header, header + length);
      this.waiting = bytes.subarray(header + length);
      const kind = bytes[0] & 0x0f;
      if (kind === 1) this.onmessage?.({ data: payload.toString() });
      if (kind === 9) this.write(10, payload);
      if (kind === 8) {
        this.socket.end();
        this.ended(length >= 2 ? payload.readUInt16BE(0) : 1005);
      }
    }
  }

  write(kind, payload) {
    const mask = randomBytes(4);
    const header = payload.length < 126 ? Buffer.from([0x80 | kind, 0x80 | payload.length]) : Buffer.alloc(4);
    if (payload.length >= 126) {
      header[0] = 0x80 | kind;
      header[1] = 0x80 | 126;
      header.writeUInt16BE(payload.length, 2);
    }
    const masked = Buffer.from(payload.map((byte, at) => byte ^ mask[at % 4]));
    this.socket?.write(Buffer.concat([header, mask, masked]));
  }

  send(text) {
    this.write(1, Buffer.from(text));
  }

  close() {
    this.socket?.end();
    this.ended(1000);
  }

  ended(code) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    setImmediate(() => this.onclose?.({ code }));
  }
}

const call = async (path, init) => {
  const answer = await fetch(server + path, { ...init, headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
};

const stream = new PlimsollStream({
  url: `${server.replace(/^http/, 'ws')}/ws`,
  WebSocket: SmallWebSocket,
  authenticate: async () => ({ ticket: (await (await call('/ws/ticket', { method: 'POST' })).json()).ticket }),
  snapshot: async () => (await call('/orders')).headers.get('plimsoll-cursor'),
  onEvent: (event) => say({ event: event.type, stream: event.stream, offset: event.offset }),
  onState: (state, detail) => {
    say({ state, code: detail?.code ?? detail?.reason?.code ?? detail?.reason ?? null });
    if (state === 'ended') process.exit(0);
  },
});
process.stdin.on('end', () => process.exit(0)).resume();
stream.start();
