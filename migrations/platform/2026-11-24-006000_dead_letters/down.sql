DROP VIEW dead_letter_queue;
CREATE VIEW dead_letter_queue AS
    SELECT id, queue, kind, attempt, max_attempts, crash_count, last_error, errors, parent_id, created_at, finished_at
    FROM jobs WHERE state = 'dead';
DROP INDEX jobs_replays;
DROP INDEX jobs_letters;
ALTER TABLE jobs
    DROP CONSTRAINT jobs_resolved,
    DROP COLUMN told_at,
    DROP COLUMN replay_id,
    DROP COLUMN resolution_reason,
    DROP COLUMN resolved_by,
    DROP COLUMN resolution,
    DROP COLUMN resolved_at;
