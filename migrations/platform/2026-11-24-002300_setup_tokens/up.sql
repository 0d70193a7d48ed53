-- Makes the first administrator, once.
CREATE TABLE setup_tokens (
    id uuid PRIMARY KEY,
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT setup_tokens_digest_key UNIQUE (token_digest)
);
