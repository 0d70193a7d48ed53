CREATE TABLE email_changes (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    new_email text NOT NULL,
    new_email_folded text NOT NULL,
    old_email text NOT NULL,
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    confirmed_at timestamptz,
    cancelled_at timestamptz,
    PRIMARY KEY (user_id, id),
    CONSTRAINT email_changes_digest_key UNIQUE (token_digest)
);
CREATE INDEX email_changes_expires_at ON email_changes (expires_at);
