"""Writes an export as an earlier platform would: broker keys as Fernet tokens, made by the `cryptography` package.

    export.py csv|sqlite PATH key|password

Rows come as JSON lists on standard input (api_key and api_secret in the clear); the key or the password is printed.
"""

import base64
import csv
import json
import sqlite3
import sys

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

COLUMNS = ["email", "broker", "environment", "api_key", "api_secret"]
PASSWORD, SALT, ITERATIONS = "an old password of nobody", b"salt of the old days", 210_000

kind, path, form = sys.argv[1:]
if form == "password":
    derived = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=SALT, iterations=ITERATIONS).derive(PASSWORD.encode())
    key, shown = base64.urlsafe_b64encode(derived), PASSWORD
else:
    key = Fernet.generate_key()
    shown = key.decode()
fernet = Fernet(key)


def sealed(row):
    return row[:3] + [fernet.encrypt(cell.encode()).decode() for cell in row[3:]]


rows = [sealed(row) for row in json.load(sys.stdin)]
if kind == "csv":
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id"] + COLUMNS)
        writer.writerows([n] + row for n, row in enumerate(rows))
else:
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE credentials (id integer PRIMARY KEY, %s)" % ", ".join(COLUMNS))
        base.executemany("INSERT INTO credentials (%s) VALUES (?, ?, ?, ?, ?)" % ", ".join(COLUMNS), rows)
print(shown)
