-- What was not from the sender that a hook is for is kept for a shorter time.
CREATE INDEX CONCURRENTLY IF NOT EXISTS signals_unproven ON signals (received_at) WHERE NOT genuine;
