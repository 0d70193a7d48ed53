-- Signed statements of where every chain stood: they tell of rows cut off at the end, and let old rows be deleted.
CREATE TABLE audit_checkpoints (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    -- Canonical JSON text: chain, sequence number and MAC of each head; oldest kept row of each pruned chain.
    heads text NOT NULL,
    mac bytea NOT NULL CHECK (octet_length(mac) = 32)
);
