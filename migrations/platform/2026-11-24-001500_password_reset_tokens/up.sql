CREATE TABLE password_reset_tokens (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    voided_at timestamptz,
    requested_ip inet,
    requested_agent text CHECK (length(requested_agent) <= 400),
    used_ip inet,
    used_agent text CHECK (length(used_agent) <= 400),
    PRIMARY KEY (user_id, id),
    CONSTRAINT password_reset_tokens_digest_key UNIQUE (token_digest)
);
CREATE INDEX password_reset_tokens_expires_at ON password_reset_tokens (expires_at);
