-- Messages that wait to be posted: only so many of a hook and of a user may.
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbound_deliveries_pending ON outbound_deliveries (user_id, hook_id)
    WHERE state = 'pending';
