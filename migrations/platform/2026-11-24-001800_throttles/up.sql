-- Counters of attempts, here so that neither a restart nor another instance resets them.
CREATE TABLE throttles (
    kind text NOT NULL CHECK (length(kind) <= 32),
    -- A keyed digest of the account, address, device or network; for a user's own budget the user's id.
    key bytea NOT NULL CHECK (octet_length(key) <= 32),
    -- Failures within the window, for those that count failures.
    count integer NOT NULL DEFAULT 0,
    window_start timestamptz NOT NULL,
    blocked_until timestamptz,
    -- The theoretical arrival time of the next attempt, for those that are buckets (generic cell rate algorithm).
    arrival timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (kind, key)
) WITH (fillfactor = 70);
CREATE INDEX throttles_updated_at ON throttles (updated_at);
-- Distinct pairs of account and password that failed from one network: password spraying.
CREATE TABLE failed_pairs (
    network bytea NOT NULL CHECK (octet_length(network) = 32),
    pair bytea NOT NULL CHECK (octet_length(pair) = 32),
    at timestamptz NOT NULL,
    PRIMARY KEY (network, pair)
);
CREATE INDEX failed_pairs_at ON failed_pairs (at);
