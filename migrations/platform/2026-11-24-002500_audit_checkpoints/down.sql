DROP FUNCTION audit_log_prune(bigint);
DROP TABLE audit_checkpoint_marks;
DROP TABLE audit_checkpoints;
CREATE OR REPLACE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
