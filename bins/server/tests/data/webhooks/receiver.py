"""A receiver of webhooks for tests: prints its port, then each message it got as a line of JSON.

Messages are verified by the package standardwebhooks, with each of the secrets that came by lines of the standard input;
`verified` lists those that a message was signed with, `wrong` why others refuse. What is answered stands in the path:
/ok 200, /fail 500, /gone 410, /busy 429 with Retry-After at first, /flaky 503 to the first two attempts of each message.
With `tls` as argument it is encrypted by server.pem and server.key of the SMTP server's folder.
"""
import json
import pathlib
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

SECRETS = []
ATTEMPTS = {}
LOCK = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with LOCK:
            message = self.headers.get("webhook-id")
            attempt = ATTEMPTS[message] = ATTEMPTS.get(message, 0) + 1
            verified, wrong = [], []
            for number, secret in enumerate(SECRETS):
                try:
                    Webhook(secret).verify(body, dict(self.headers))
                    verified.append(number)
                except WebhookVerificationError as why:
                    wrong.append(str(why))
            seen = {
                "path": self.path,
                "id": message,
                "attempt": attempt,
                "verified": verified,
                "wrong": wrong,
                "agent": self.headers.get("user-agent"),
                "content_type": self.headers.get("content-type"),
                "body": json.loads(body),
            }
            print(json.dumps(seen), flush=True)
        status = {"/ok": 200, "/fail": 500, "/gone": 410, "/busy": 429, "/flaky": 503}[self.path]
        if (self.path == "/flaky" and attempt > 2) or (self.path == "/busy" and attempt > 1):
            status = 200
        answer = b'{"received": true}'
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "1")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
if "tls" in sys.argv:
    keys = pathlib.Path(__file__).parent.parent / "smtp"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
for line in sys.stdin:
    with LOCK:
        SECRETS.append(line.strip())
    print(json.dumps({"secrets": len(SECRETS)}), flush=True)
