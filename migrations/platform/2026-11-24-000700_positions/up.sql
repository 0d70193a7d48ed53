CREATE TABLE positions (
    account_id bigint NOT NULL REFERENCES accounts (id),
    symbol text NOT NULL,
    user_id bigint NOT NULL,
    -- Negative when short.
    qty numeric(24, 9) NOT NULL CHECK (qty <> 'NaN'),
    -- With the sign of qty.
    cost_basis numeric(28, 13) NOT NULL CHECK (cost_basis <> 'NaN'),
    realized_pl numeric(28, 13) NOT NULL CHECK (realized_pl <> 'NaN'),
    last_price numeric(24, 9) CHECK (last_price > 0 AND last_price <> 'NaN'),
    updated_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (account_id, symbol)
) WITH (fillfactor = 70);
