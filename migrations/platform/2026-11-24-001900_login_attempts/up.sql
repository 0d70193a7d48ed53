CREATE TABLE login_attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    user_id bigint REFERENCES users (id) ON DELETE CASCADE,
    -- Keyed digest of the folded address that was tried.
    identifier bytea NOT NULL CHECK (octet_length(identifier) = 32),
    outcome text NOT NULL CHECK (length(outcome) <= 32),
    factor text NOT NULL CHECK (factor IN ('password', 'totp', 'backup_code')),
    ip inet,
    user_agent text CHECK (length(user_agent) <= 400),
    request_id uuid
);
CREATE INDEX login_attempts_user ON login_attempts (user_id, at);
CREATE INDEX login_attempts_at ON login_attempts (at);
-- Devices (by their cookie) and networks that a user has signed in from.
CREATE TABLE login_places (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('device', 'network')),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, kind, digest)
);
CREATE INDEX login_places_last_seen_at ON login_places (last_seen_at);
