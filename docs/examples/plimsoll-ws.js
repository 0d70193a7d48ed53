// A client for Plimsoll's WebSocket: each event once and in order, over reconnects, restarts and restores.
// No build step: <script src="plimsoll-ws.js"></script> in a page, or require('./plimsoll-ws.js') in Node (22 and later
// have WebSocket; before, pass one, or start node with --experimental-websocket).
//
//   const stream = new PlimsollStream({
//     url: 'wss://trade.example.com/ws',
//     // Before each connection: {ticket} from POST /ws/ticket, {token} for a first message, or {} (the session's cookie).
//     authenticate: async () => ({ ticket: await freshTicket() }),
//     // Load what you show, with GET /orders and the like; answer the `Plimsoll-Cursor` header of the first answer.
//     snapshot: async () => loadEverything(),
//     onEvent: (event) => console.log(event.type, event.data),
//     onTick: (tick) => console.log('price', tick.data),          // without id and offset: only the latest counts
//     onState: (state, detail) => console.log(state, detail),     // connecting, live, waiting, gap, ended
//   });
//   stream.start();
'use strict';

(function (root) {
  const FIRST_PAUSE_MS = 500;
  const LONGEST_PAUSE_MS = 30_000;
  // A connection that lasted so long was a good one: the next pause is the first again.
  const GOOD_AFTER_MS = 10_000;
  // With these codes coming back changes nothing: mend the client, or log in first.
  const TERMINAL = new Set([1003, 1007, 1009, 4400, 4401, 4403]);

  class PlimsollStream {
    constructor(options) {
      this.options = { WebSocket: root.WebSocket, random: Math.random, ...options };
      this.cursor = options.cursor ?? null; // after the last event that was handed out
      this.offsets = new Map(); // stream → its last offset, of this connection
      this.attempt = 0;
      this.socket = null;
      this.timer = null;
      this.running = false;
    }

    start() {
      if (this.running) return;
      this.running = true;
      this.connect();
    }

    stop() {
      this.running = false;
      clearTimeout(this.timer);
      clearInterval(this.pings);
      this.socket?.close(1000);
      this.socket = null;
    }

    state(name, detail) {
      this.options.onState?.(name, detail);
    }

    async connect() {
      this.state('connecting');
      try {
        // A start without a cursor begins with what there is.
        if (this.cursor === null && this.options.snapshot) this.cursor = await this.options.snapshot();
        const credentials = (await this.options.authenticate?.()) ?? {};
        if (!this.running) return;
        const url = new URL(this.options.url);
        if (this.cursor !== null) url.searchParams.set('cursor', this.cursor);
        if (credentials.ticket) url.searchParams.set('ticket', credentials.ticket);
        this.open(new this.options.WebSocket(url), credentials);
      } catch (error) {
        this.later(error);
      }
    }

    open(socket, credentials) {
      this.socket = socket;
      this.opened = Date.now();
      this.retryMs = null;
      this.offsets.clear();
      // Events count only once it is known from where on: after `hello` without a cursor, else after `recovered`.
      this.listening = false;
      socket.onopen = () => {
        if (credentials.token) this.say({ type: 'auth', token: credentials.token });
      };
      socket.onmessage = (message) => {
        if (socket !== this.socket) return;
        this.heard = Date.now();
        this.take(JSON.parse(message.data));
      };
      socket.onerror = () => {}; // `close` follows
      socket.onclose = (event) => {
        if (socket !== this.socket) return;
        this.socket = null;
        clearInterval(this.pings);
        if (!this.running) return;
        if (TERMINAL.has(event.code)) {
          this.running = false;
          this.state('ended', event);
        } else {
          this.later(event);
        }
      };
    }

    say(message) {
      if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
    }

    take(message) {
      switch (message.type) {
        case 'hello':
          this.keepAlive(message.ping_interval * 1000);
          if (this.cursor === null) {
            this.cursor = message.cursor;
            for (const [stream, { head }] of Object.entries(message.streams)) this.offsets.set(stream, head);
            this.listening = true;
            this.state('live');
          }
          return;
        case 'recovered':
          this.offsets.set(message.stream, message.from - 1);
          if (!this.listening) this.state('live');
          this.listening = true;
          return;
        case 'snapshot_required':
          this.reload(message);
          return;
        case 'server_closing':
          this.retryMs = message.retry_ms;
          return;
        case 'error':
          if (message.code === 'invalid_cursor') this.reload(message);
          else this.state('error', message);
          return;
        case 'pong':
          return;
        default:
          this.event(message);
      }
    }

    event(event) {
      if (event.offset === undefined) {
        if (this.listening) this.options.onTick?.(event);
        return;
      }
      if (!this.listening) return; // it comes again after `recovered`
      const last = this.offsets.get(event.stream);
      if (last !== undefined && event.offset <= last) return;
      if (last !== undefined && event.offset > last + 1) {
        // The server promises that this does not happen; the cursor makes it good.
        this.abandon('a hole');
        return;
      }
      this.offsets.set(event.stream, event.offset);
      this.cursor = event.id;
      this.options.onEvent?.(event);
    }

    // What was missed cannot be sent: a new connection begins with a new snapshot.
    reload(reason) {
      this.cursor = null;
      this.state('gap', reason);
      this.abandon(reason);
    }

    abandon(reason) {
      const socket = this.socket;
      this.socket = null;
      clearInterval(this.pings);
      socket?.close(1000);
      if (this.running) this.later(reason);
    }

    // A page cannot see the protocol's own pings: it asks by itself.
    keepAlive(interval) {
      clearInterval(this.pings);
      this.pings = setInterval(() => {
        if (Date.now() - this.heard > interval + 10_000) this.abandon('nothing was heard');
        else this.say({ type: 'ping' });
      }, interval);
    }

    later(reason) {
      if (this.opened && Date.now() - this.opened > GOOD_AFTER_MS) this.attempt = 0;
      this.opened = null;
      const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.attempt);
      this.attempt = Math.min(this.attempt + 1, 16);
      const pause = this.retryMs ?? longest / 2 + (this.options.random() * longest) / 2;
      this.retryMs = null;
      this.state('waiting', { pause, reason });
      this.timer = setTimeout(() => this.running && this.connect(), pause);
    }
  }

  root.PlimsollStream = PlimsollStream;
  if (typeof module === 'object' && module.exports) module.exports = { PlimsollStream };
})(globalThis);
