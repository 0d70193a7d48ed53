-- What became of a dead letter: it stays on record, as it died, beside the job that replays it.
ALTER TABLE jobs
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN resolution text CHECK (resolution IN ('replayed', 'discarded')),
    -- The administrator; null: an operator at the command line.
    ADD COLUMN resolved_by bigint,
    ADD COLUMN resolution_reason text CHECK (length(resolution_reason) <= 500),
    ADD COLUMN replay_id bigint,
    -- When administrators were told of it.
    ADD COLUMN told_at timestamptz,
    ADD CONSTRAINT jobs_resolved CHECK (
        (resolved_at IS NULL) = (resolution IS NULL)
        AND (resolution IS NULL OR state = 'dead')
        AND (replay_id IS NOT NULL) = (resolution IS NOT DISTINCT FROM 'replayed'));
-- Open letters by id, for lists and replays.
CREATE INDEX jobs_letters ON jobs (id) WHERE state = 'dead' AND resolved_at IS NULL;
-- Replays that wait, so that the next ones queue up behind them.
CREATE INDEX jobs_replays ON jobs (run_at) WHERE state = 'ready' AND parent_id IS NOT NULL AND attempt = 0;

CREATE OR REPLACE VIEW dead_letter_queue AS
    SELECT id, queue, kind, attempt, max_attempts, crash_count, last_error, errors, parent_id, created_at, finished_at,
        resolved_at, resolution, resolution_reason, replay_id
    FROM jobs WHERE state = 'dead';
