-- Random keys made once per installation (order ids, audit, pepper, device cookie), sealed by the key ring.
CREATE TABLE installation_keys (
    name text PRIMARY KEY,
    key_id text NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
