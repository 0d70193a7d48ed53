"""An SMTP server for tests: prints its port, then each message it took as a line of JSON.

Modes: accept; refuse (550); busy (451 to the first mail, then accepts); stall (never answers DATA);
drop (closes the connection instead of confirming the first mail, then accepts). With `starttls` or `tls`
as second argument it is encrypted by server.pem and server.key beside this file.
"""
import asyncio
import json
import pathlib
import ssl
import sys
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP

mode = sys.argv[1]
security = sys.argv[2] if len(sys.argv) > 2 else "none"
here = pathlib.Path(__file__).parent
context = None
if security != "none":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(here / "server.pem", here / "server.key")


class Handler:
    seen = 0

    async def handle_DATA(self, server, session, envelope):
        Handler.seen += 1
        first = Handler.seen == 1
        message = message_from_bytes(envelope.content, policy=policy.default)
        took = {
            "mode": mode,
            "tls": session.ssl is not None or security == "tls",
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            "subject": message["subject"],
            "message_id": message["message-id"],
            "auto": message["auto-submitted"],
            "text": message.get_body(("plain",)).get_content(),
            "html": message.get_body(("html",)).get_content(),
        }
        print(json.dumps(took), flush=True)
        if mode == "refuse":
            return "550 5.7.1 not wanted"
        if mode == "busy" and first:
            return "451 4.3.0 try again later"
        if mode == "stall":
            await asyncio.sleep(3600)
        if mode == "drop" and first:
            server.transport.abort()
            return None
        return "250 OK"


async def main():
    loop = asyncio.get_running_loop()

    def factory():
        starttls = context if security == "starttls" else None
        return SMTP(Handler(), hostname="localhost", tls_context=starttls, require_starttls=security == "starttls")

    wrapper = context if security == "tls" else None
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=wrapper)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever holds the other end of the standard input.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
