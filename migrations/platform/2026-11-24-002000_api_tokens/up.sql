CREATE TABLE api_tokens (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    scopes text[] NOT NULL CHECK (
        cardinality(scopes) BETWEEN 1 AND 4 AND scopes <@ ARRAY['read', 'trade_paper', 'trade_live', 'admin']),
    allowed_ips text[] NOT NULL DEFAULT '{}' CHECK (cardinality(allowed_ips) <= 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    last_used_ip inet,
    revoked_at timestamptz,
    -- When the owner was told that it will expire.
    warned_at timestamptz,
    PRIMARY KEY (user_id, id),
    CONSTRAINT api_tokens_digest_key UNIQUE (token_digest)
);
CREATE INDEX api_tokens_expires_at ON api_tokens (expires_at);
