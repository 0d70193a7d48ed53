-- Where a user's events are posted to. The secrets are sealed under the user's own key for row, column and user.
CREATE TABLE outbound_hooks (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    url text NOT NULL CHECK (length(url) <= 2048),
    -- Of these kinds; empty: of every kind.
    events text[] NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'paused', 'disabled')),
    -- Why it was disabled.
    state_reason text CHECK (length(state_reason) <= 64),
    secret bytea NOT NULL CHECK (octet_length(secret) <= 256),
    -- The one before, which still signs until then.
    old_secret bytea CHECK (octet_length(old_secret) <= 256),
    old_secret_until timestamptz,
    -- How far the user's stream was read: deliveries of everything up to here are there.
    epoch uuid NOT NULL,
    off bigint NOT NULL CHECK (off >= 0),
    -- Since when nothing was delivered, and how many attempts have failed since.
    failing_since timestamptz,
    failures integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, id),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL))
);
CREATE INDEX outbound_hooks_of_user ON outbound_hooks (user_id, created_at, id);
CREATE INDEX outbound_hooks_active ON outbound_hooks (user_id, id) WHERE state = 'active';
