-- The last slot of each schedule whose job was asked for. Slots only go on, so that each has one job, however many
-- instances ask, and however late.
CREATE TABLE job_slots (
    queue text NOT NULL,
    kind text NOT NULL,
    period_ms bigint NOT NULL CHECK (period_ms > 0),
    begins_at timestamptz NOT NULL,
    PRIMARY KEY (queue, kind)
);
