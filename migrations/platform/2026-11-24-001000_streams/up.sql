-- Stream 0 is the broadcast; a user's stream has the user's id. Offsets are dense: the head's row is updated in the
-- business transaction, so that commit order is offset order.
CREATE TABLE stream_head (
    stream_id bigint PRIMARY KEY CHECK (stream_id >= 0),
    epoch uuid NOT NULL,
    head bigint NOT NULL DEFAULT 0 CHECK (head >= 0)
) WITH (fillfactor = 50);
CREATE TABLE stream_event (
    stream_id bigint NOT NULL,
    off bigint NOT NULL CHECK (off > 0),
    epoch uuid NOT NULL,
    kind text NOT NULL,
    -- JSON text, encoded once and sent as it is.
    payload text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (stream_id, off)
);
CREATE INDEX stream_event_at ON stream_event USING brin (at);
INSERT INTO stream_head (stream_id, epoch) VALUES (0, gen_random_uuid());
