-- Master keys that were in a key ring over this database, by id: an id tells nothing of its key.
CREATE TABLE encryption_keys (
    id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{16}$'),
    created_at timestamptz NOT NULL,
    -- When a rotation found nothing left that needs it.
    retired_at timestamptz
);
INSERT INTO encryption_keys (id, created_at)
    SELECT key_id, min(created_at) FROM installation_keys WHERE key_id ~ '^[0-9a-f]{16}$' GROUP BY key_id;
-- How a pass phrase becomes a key: PBKDF2's salt and iterations, the same for every instance. Not secret, but a pass phrase
-- is worth nothing without them.
CREATE TABLE encryption_stretching (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt bytea NOT NULL CHECK (octet_length(salt) BETWEEN 16 AND 64),
    iterations integer NOT NULL CHECK (iterations BETWEEN 600000 AND 20000000),
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Bytes 2 to 9 of a sealed value name its key: which keys are needed is read off an index.
CREATE INDEX user_2fa_secret_key ON user_2fa (encode(substring(secret FROM 2 FOR 8), 'hex'), user_id)
    WHERE secret IS NOT NULL;
CREATE INDEX user_2fa_pending_secret_key ON user_2fa (encode(substring(pending_secret FROM 2 FOR 8), 'hex'), user_id)
    WHERE pending_secret IS NOT NULL;
CREATE INDEX mail_outbox_sealed_key ON mail_outbox (encode(substring(sealed FROM 2 FOR 8), 'hex'), id)
    WHERE sealed IS NOT NULL;
