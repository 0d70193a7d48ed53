-- One random key per user, wrapped by the key ring. What belongs to a user is sealed under it, so the secrets of a user
-- whose row is gone open nowhere any more, not in copies of the database either.
CREATE TABLE user_keys (
    user_id bigint PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- The key of the ring that wrapped it.
    key_id text NOT NULL CHECK (key_id ~ '^[0-9a-f]{16}$'),
    wrapped bytea NOT NULL CHECK (octet_length(wrapped) <= 1024),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX user_keys_key_id ON user_keys (key_id, user_id);
