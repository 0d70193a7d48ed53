-- Doors for signals from outside. A deleted hook keeps its row, without secrets, as long as its signals are kept.
CREATE TABLE inbound_hooks (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    broker text NOT NULL CHECK (broker IN ('alpaca')),
    environment text NOT NULL CHECK (environment IN ('paper', 'live')),
    enabled boolean NOT NULL,
    -- The hook of POST /webhook, whose secret is a setting of the server.
    builtin boolean NOT NULL DEFAULT false,
    -- NULL: any.
    symbols text[],
    actions text[],
    sizing_mode text NOT NULL CHECK (sizing_mode IN ('fixed_qty', 'fixed_notional', 'percent_equity', 'from_signal')),
    sizing_value numeric(24, 9) CHECK (sizing_value > 0 AND sizing_value <> 'NaN'),
    max_age_s integer CHECK (max_age_s > 0),
    allowed_ips text[] NOT NULL DEFAULT '{}',
    auth text NOT NULL CHECK (auth IN ('any', 'body_secret', 'hmac')),
    silent_alert_after_s integer CHECK (silent_alert_after_s > 0),
    -- The last alert that it is silent.
    silent_alert_at timestamptz,
    -- Silence counts from here where no signal came since.
    armed_at timestamptz NOT NULL,
    -- Sealed under the user's own key for row (id), column and user; beside it the SHA-256 of the text.
    secret bytea CHECK (octet_length(secret) <= 1024),
    secret_sha256 bytea CHECK (octet_length(secret_sha256) = 32),
    -- The one before, until then.
    old_secret bytea CHECK (octet_length(old_secret) <= 1024),
    old_secret_sha256 bytea CHECK (octet_length(old_secret_sha256) = 32),
    old_secret_until timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (user_id, id),
    CONSTRAINT inbound_hooks_sizing CHECK ((sizing_mode = 'from_signal') = (sizing_value IS NULL)),
    CONSTRAINT inbound_hooks_has_secret
        CHECK (builtin OR deleted_at IS NOT NULL OR (secret IS NOT NULL AND secret_sha256 IS NOT NULL)),
    CONSTRAINT inbound_hooks_old_secret
        CHECK ((old_secret IS NULL) = (old_secret_until IS NULL) AND (old_secret IS NULL) = (old_secret_sha256 IS NULL))
);
CREATE UNIQUE INDEX inbound_hooks_id ON inbound_hooks (id);
CREATE UNIQUE INDEX inbound_hooks_builtin ON inbound_hooks (user_id) WHERE builtin;
CREATE INDEX inbound_hooks_watched ON inbound_hooks (id)
    WHERE silent_alert_after_s IS NOT NULL AND enabled AND deleted_at IS NULL;
