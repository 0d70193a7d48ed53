-- Raised by every change of any credential, also after a deletion: a version never means two keys.
CREATE SEQUENCE broker_credential_versions AS bigint;
-- The keys that users trade with, sealed under the user's own key for row (user and broker), column and user.
CREATE TABLE broker_credentials (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    broker text NOT NULL CHECK (broker IN ('alpaca')),
    environment text NOT NULL CHECK (environment IN ('paper', 'live')),
    api_key bytea NOT NULL CHECK (octet_length(api_key) <= 1024),
    api_secret bytea NOT NULL CHECK (octet_length(api_secret) <= 1024),
    key_last4 text NOT NULL CHECK (length(key_last4) <= 4),
    -- Half of a keyed digest: the same keys have the same one, and nobody outside can try keys against it.
    fingerprint text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{16}$'),
    -- The broker's word on them.
    state text NOT NULL CHECK (state IN ('unverified', 'valid', 'invalid')),
    state_reason text CHECK (length(state_reason) <= 500),
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    checked_at timestamptz,
    PRIMARY KEY (user_id, broker)
);
