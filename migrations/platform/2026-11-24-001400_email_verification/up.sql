CREATE TABLE email_verification_tokens (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    -- SHA-256 of the token; the token itself is nowhere.
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    voided_at timestamptz,
    ip inet,
    user_agent text CHECK (length(user_agent) <= 400),
    PRIMARY KEY (user_id, id),
    CONSTRAINT email_verification_tokens_digest_key UNIQUE (token_digest)
);
CREATE INDEX email_verification_tokens_expires_at ON email_verification_tokens (expires_at);
-- What a registration is asked about by. Without a user it belongs to an address that was taken already, which nobody
-- may learn.
CREATE TABLE registrations (
    id uuid PRIMARY KEY,
    user_id bigint REFERENCES users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX registrations_user_id ON registrations (user_id, id);
CREATE INDEX registrations_expires_at ON registrations (expires_at);
