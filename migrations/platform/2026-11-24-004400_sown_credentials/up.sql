-- Keys that the server was given and saved for a user: each once, so that what the owner saves or deletes afterwards stays.
CREATE TABLE sown_credentials (
    broker text NOT NULL CHECK (broker IN ('alpaca')),
    -- As of the credential: a keyed digest of the key pair.
    fingerprint text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{16}$'),
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The version that the credential got.
    version bigint NOT NULL,
    sown_at timestamptz NOT NULL,
    PRIMARY KEY (broker, fingerprint)
);
CREATE INDEX sown_credentials_user ON sown_credentials (user_id);
