-- `record` is what the engine reads back; the columns beside it are for people, and for what must never be broken.
CREATE TABLE orders (
    account_id uuid NOT NULL REFERENCES accounts,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    client_order_id text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL,
    status text NOT NULL,
    qty numeric(28, 9) CHECK (qty <> 'NaN'),
    filled_qty numeric(28, 9) NOT NULL CHECK (filled_qty <> 'NaN' AND filled_qty >= 0),
    submitted_at timestamptz NOT NULL,
    record jsonb NOT NULL,
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, client_order_id),
    CHECK (filled_qty <= qty)
) WITH (fillfactor = 80);

CREATE TABLE executions (
    account_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL UNIQUE,
    order_id uuid NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL,
    qty numeric(28, 9) NOT NULL CHECK (qty <> 'NaN' AND qty > 0),
    price numeric(28, 9) NOT NULL CHECK (price <> 'NaN' AND price > 0),
    cum_qty numeric(28, 9) NOT NULL CHECK (cum_qty <> 'NaN' AND cum_qty > 0),
    at timestamptz NOT NULL,
    record jsonb NOT NULL,
    PRIMARY KEY (account_id, seq),
    UNIQUE (account_id, order_id, cum_qty),
    FOREIGN KEY (account_id, order_id) REFERENCES orders (account_id, id)
);
