CREATE TABLE fills (
    account_id bigint NOT NULL,
    order_id uuid NOT NULL,
    -- The order's filled quantity after it: with the order it identifies the fill, whatever told of it.
    cum_qty numeric(24, 9) NOT NULL CHECK (cum_qty > 0 AND cum_qty <> 'NaN'),
    id uuid NOT NULL,
    user_id bigint NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    qty numeric(24, 9) NOT NULL CHECK (qty > 0 AND qty <> 'NaN'),
    price numeric(24, 9) NOT NULL CHECK (price > 0 AND price <> 'NaN'),
    fee numeric(28, 13) NOT NULL DEFAULT 0 CHECK (fee <> 'NaN'),
    realized_pl numeric(28, 13) NOT NULL CHECK (realized_pl <> 'NaN'),
    source text NOT NULL CHECK (source IN ('stream', 'rest', 'inferred')),
    broker_execution_id text,
    executed_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, order_id, cum_qty),
    CONSTRAINT fills_id_key UNIQUE (account_id, id),
    CONSTRAINT fills_within_cumulative CHECK (cum_qty >= qty),
    FOREIGN KEY (account_id, order_id) REFERENCES orders (account_id, id)
);
CREATE INDEX fills_created_at ON fills (account_id, created_at, id);
