CREATE TABLE idempotency_keys (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    route text NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    order_id uuid,
    -- The reply, byte for byte; while provisional, what a retry gets once in_flight_until has passed.
    status smallint,
    body bytea CHECK (octet_length(body) <= 4194304),
    provisional boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    in_flight_until timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
) WITH (fillfactor = 70);
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);
