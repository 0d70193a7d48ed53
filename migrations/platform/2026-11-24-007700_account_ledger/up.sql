-- What changed an account and was no fill of ours: positions from before the first comparison, the broker's movements,
-- adjustments that somebody decided.
CREATE TABLE account_ledger (
    account_id bigint NOT NULL REFERENCES accounts (id),
    -- Follows from what the row is about, so that the same one is never booked twice.
    id uuid NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('opening', 'movement', 'adjustment')),
    -- The broker's word and id, of a movement.
    word text CHECK (length(word) <= 32),
    broker_id text CHECK (length(broker_id) <= 128),
    symbol text CHECK (length(symbol) <= 20),
    -- Units that came in, and what they cost.
    qty numeric(24, 9) NOT NULL DEFAULT 0 CHECK (qty <> 'NaN'),
    cost numeric(28, 13) NOT NULL DEFAULT 0 CHECK (cost <> 'NaN'),
    -- Cash that came in.
    amount numeric(28, 13) NOT NULL DEFAULT 0 CHECK (amount <> 'NaN'),
    at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX account_ledger_seq ON account_ledger (account_id, seq);
CREATE UNIQUE INDEX account_ledger_broker_id ON account_ledger (account_id, broker_id) WHERE broker_id IS NOT NULL;
