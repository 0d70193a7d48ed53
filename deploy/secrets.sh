#!/bin/sh
# Makes the secrets that compose.yaml mounts, each random and readable by its owner only. What is there stays: a lost
# encryption_key makes every stored broker key unreadable, so keep a copy elsewhere.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

# random BYTES: so many random bytes in hexadecimal.
random() { od -An -v -N "$1" -t x1 /dev/urandom | tr -d ' \n'; }

# keep NAME TEXT: writes the file unless it is there.
keep() {
    [ -s "secrets/$1" ] && return 0
    printf '%s' "$2" >"secrets/$1.new"
    mv "secrets/$1.new" "secrets/$1"
    echo "made deploy/secrets/$1"
}

keep postgres_password "$(random 24)"
keep database_url "postgresql://plimsoll:$(cat secrets/postgres_password)@postgres/plimsoll"
keep encryption_key "$(random 32)"
keep webhook_secret "$(random 32)"
