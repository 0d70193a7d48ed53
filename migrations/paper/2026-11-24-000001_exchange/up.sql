-- The exchange's own row: the counter behind all ids, its seed, its calendar's first day and its newest time.
CREATE TABLE exchange (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq bigint NOT NULL CHECK (seq >= 0),
    simulator_time timestamptz NOT NULL,
    record jsonb NOT NULL
) WITH (fillfactor = 50);

-- How simulator time follows from real time.
CREATE TABLE exchange_clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    state jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Who may write. A process that starts takes the next number; one that holds an older number writes nothing more.
CREATE TABLE exchange_writer (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    token bigint NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO exchange_writer (token) VALUES (0);
