CREATE TABLE order_history (
    account_id bigint NOT NULL,
    order_id uuid NOT NULL,
    -- The order's version that the change made.
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    from_status text,
    to_status text NOT NULL,
    cause text NOT NULL CHECK (length(cause) <= 64),
    detail text CHECK (length(detail) <= 500),
    PRIMARY KEY (account_id, order_id, version),
    FOREIGN KEY (account_id, order_id) REFERENCES orders (account_id, id) DEFERRABLE INITIALLY DEFERRED
);
