-- The last deliveries to hooks that are not there, by size and hash: so many places, each used again and again. Refusing
-- one costs as much as refusing one at a hook that is there, so that the answer's time tells nothing.
CREATE TABLE stray_signals (
    slot smallint PRIMARY KEY CHECK (slot BETWEEN 0 AND 1023),
    received_at timestamptz NOT NULL,
    hook_id uuid,
    reason text NOT NULL CHECK (length(reason) <= 64),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    ip text CHECK (length(ip) <= 64)
) WITH (fillfactor = 50);
