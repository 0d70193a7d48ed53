-- What is halted, for each user and, in the row without one, for everybody. A level of NULL is no halt.
CREATE TABLE risk_halts (
    user_id bigint REFERENCES users (id) ON DELETE CASCADE,
    level text CHECK (level IN ('block_entries', 'reduce_only', 'cancel_open', 'flatten')),
    cause text NOT NULL CHECK (cause IN ('manual', 'daily_loss')),
    reason text NOT NULL CHECK (length(reason) <= 500),
    -- Who set it; none when the platform did, or its operator at the command line.
    by_user bigint,
    since timestamptz NOT NULL,
    CONSTRAINT risk_halts_user_id_key UNIQUE NULLS NOT DISTINCT (user_id)
);
INSERT INTO risk_halts (user_id, level, cause, reason, since) VALUES (NULL, NULL, 'manual', '', now());
