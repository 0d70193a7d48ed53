-- What a signal is known again by: a hash of its id, of its content, or of its bytes.
CREATE TABLE signal_keys (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hook_id uuid NOT NULL,
    key bytea NOT NULL CHECK (octet_length(key) = 32),
    signal_id uuid NOT NULL,
    -- NULL: for ever.
    expires_at timestamptz,
    PRIMARY KEY (user_id, hook_id, key)
);
CREATE INDEX signal_keys_expires_at ON signal_keys (expires_at) WHERE expires_at IS NOT NULL;
