"""Says what pyotp makes of what it is given: one JSON object on standard input, one on standard output."""

import json
import sys

import pyotp

asked = json.load(sys.stdin)
codes = [pyotp.TOTP(secret).at(time) for secret, time in asked["pairs"]]
uris = []
for uri in asked["uris"]:
    read = pyotp.parse_uri(uri)
    uris.append(
        {
            "secret": read.secret,
            "issuer": read.issuer,
            "name": read.name,
            "digits": read.digits,
            "interval": read.interval,
            "digest": read.digest().name,
        }
    )
json.dump({"codes": codes, "uris": uris}, sys.stdout)
