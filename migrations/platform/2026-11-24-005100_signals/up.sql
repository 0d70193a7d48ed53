-- Every delivery to a hook, with what was made of it. Of what could not be read or was not from the sender it knows the
-- size and the hash alone.
CREATE TABLE signals (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    hook_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('accepted', 'duplicate', 'refused')),
    reason text CHECK (length(reason) <= 64),
    detail text CHECK (length(detail) <= 500),
    -- What follows from it is not decided yet, or an order of it is still to come.
    pending boolean NOT NULL DEFAULT false,
    -- It came from the sender that the hook is for.
    genuine boolean NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    -- The JSON text without its secrets.
    body text CHECK (octet_length(body) <= 65536),
    ip text CHECK (length(ip) <= 64),
    symbol text CHECK (length(symbol) <= 64),
    action text CHECK (length(action) <= 16),
    sent_at timestamptz,
    -- The position after it and before it as the sender states them; negative when short.
    stated_target numeric(24, 9) CHECK (stated_target <> 'NaN'),
    stated_previous numeric(24, 9) CHECK (stated_previous <> 'NaN'),
    -- The position that it is to lead to, once that is decided.
    target numeric(24, 9) CHECK (target <> 'NaN'),
    order_id uuid,
    -- The second order of a reversal.
    next_order_id uuid,
    duplicate_of uuid,
    decided_at timestamptz,
    PRIMARY KEY (user_id, id)
) WITH (fillfactor = 80);
CREATE INDEX signals_of_hook ON signals (hook_id, id);
CREATE INDEX signals_received_at ON signals (received_at);
