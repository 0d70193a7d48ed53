-- One message to one hook. Its id follows from hook, epoch and offset, and so does the id that the receiver sees: what is
-- sent again is the same message.
CREATE TABLE outbound_deliveries (
    user_id bigint NOT NULL,
    id uuid NOT NULL,
    hook_id uuid NOT NULL,
    event text NOT NULL CHECK (length(event) <= 64),
    -- Of the event in its stream; a test has none.
    epoch uuid,
    off bigint,
    -- What is posted, byte by byte.
    body text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'canceled')),
    attempts integer NOT NULL DEFAULT 0,
    -- Of the last attempt.
    status integer,
    error text CHECK (length(error) <= 64),
    response text CHECK (length(response) <= 200),
    duration_ms integer,
    attempted_at timestamptz,
    -- The last ten attempts.
    log jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (user_id, id),
    FOREIGN KEY (user_id, hook_id) REFERENCES outbound_hooks (user_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX outbound_deliveries_of_hook ON outbound_deliveries (user_id, hook_id, created_at, id);
CREATE INDEX outbound_deliveries_finished ON outbound_deliveries (finished_at) WHERE finished_at IS NOT NULL;
