-- Links of mails that stop something: the purpose is with the token, so that one page serves them all.
CREATE TABLE cancel_tokens (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    purpose text NOT NULL CHECK (purpose IN (
        'password_reset', 'two_factor_reset', 'email_change', 'logout_everywhere')),
    -- The reset, change or session that it stops.
    target uuid,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, id),
    CONSTRAINT cancel_tokens_digest_key UNIQUE (token_digest)
);
CREATE INDEX cancel_tokens_expires_at ON cancel_tokens (expires_at);
