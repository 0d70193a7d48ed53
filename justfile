# Short names for what is done often; `just` is not needed to run or test Plimsoll: see ./run and ./test.

# List these.
default:
    @just --list

# Build and start the demo: private PostgreSQL, paper broker, two accounts.
run *args:
    ./run {{ args }}

# The same as run.
demo *args:
    ./run {{ args }}

# Everything CI's test step runs.
test *args:
    ./test {{ args }}

# Unit tests of the libraries only: no database, no programs from outside.
test-fast:
    cargo test --workspace --locked --lib

# The real-time hub under shuttle: thousands of orders in which its threads may take turns.
schedules:
    cargo test -p plimsoll-realtime --features shuttle --test shuttle --locked

# Faults of server, database, broker and jobs alone; --real-time: durations as in production.
faults *args:
    FAULTS_REAL_TIME={{ if args == "--real-time" { "1" } else { "" } }} ./test -p plimsoll-server --test it faults::

# Two simulated hours of trading with random faults and two servers, of which CI runs a part.
hours minutes="120":
    RECONCILE_MINUTES={{ minutes }} ./test -p plimsoll-server --test it faults::hours

# What CI checks beside the tests.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo fetch --locked
    cargo deny --offline --locked --log-level error check bans licenses sources
    shellcheck --external-sources run test scripts/*.sh deploy/*.sh .ci/run

# Known vulnerabilities in the lockfile, by today's advisory database (needs the network).
advisories:
    cargo deny --locked check advisories

# Benchmarks against their peers, built for speed; docs/performance.md says what each means.
bench *args:
    cargo bench --workspace --locked --profile bench-run {{ args }}

# API documentation of all crates.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
