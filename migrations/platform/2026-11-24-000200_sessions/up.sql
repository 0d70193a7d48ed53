CREATE TABLE sessions (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    -- SHA-256 of the token; the token itself is nowhere.
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    idle_expires_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    step_up_until timestamptz,
    revoked_at timestamptz,
    ip inet,
    user_agent text CHECK (length(user_agent) <= 400),
    PRIMARY KEY (user_id, id),
    CONSTRAINT sessions_token_digest_key UNIQUE (token_digest)
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
