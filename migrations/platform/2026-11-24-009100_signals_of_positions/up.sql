-- The last signal of a hook and symbol that says where to stand.
CREATE INDEX CONCURRENTLY IF NOT EXISTS signals_of_positions ON signals (hook_id, symbol, id)
    WHERE verdict = 'accepted' AND (stated_target IS NOT NULL OR target IS NOT NULL);
