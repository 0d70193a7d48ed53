-- The whole log newest first, page by page, and its oldest rows for the retention.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_by_time ON audit_log (at, chain, seq);
