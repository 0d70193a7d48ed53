-- A right password that waits for its second factor. It opens nothing but the second step of the login.
CREATE TABLE login_challenges (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    transport text NOT NULL CHECK (transport IN ('bearer', 'cookie')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- Wrong passwords came before the right one.
    after_failures boolean NOT NULL DEFAULT false,
    -- Codes tried, the one under way among them.
    wrong_codes smallint NOT NULL DEFAULT 0,
    used_at timestamptz,
    voided_at timestamptz,
    -- When the owner was told that the password was right and the code did not come.
    notified_at timestamptz,
    ip inet,
    user_agent text CHECK (length(user_agent) <= 400),
    PRIMARY KEY (user_id, id),
    CONSTRAINT login_challenges_digest_key UNIQUE (token_digest)
);
CREATE INDEX login_challenges_expires_at ON login_challenges (expires_at);
