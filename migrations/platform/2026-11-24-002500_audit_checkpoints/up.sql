-- Signed statements of where every chain of the audit log stood, and of how far its beginning was deleted: they tell of
-- rows cut off at the end, and let old rows go. Each is signed together with the one before it.
CREATE TABLE audit_checkpoints (
    id bigint PRIMARY KEY CHECK (id > 0),
    at timestamptz NOT NULL,
    marks bigint NOT NULL CHECK (marks >= 0),
    mac bytea NOT NULL CHECK (octet_length(mac) = 32)
);
-- What a checkpoint says of the chains that have moved since the one before.
CREATE TABLE audit_checkpoint_marks (
    chain bigint NOT NULL CHECK (chain <> 0),
    -- head: the last row was this one; start: every row up to this one was deleted.
    kind text NOT NULL CHECK (kind IN ('head', 'start')),
    seq bigint NOT NULL CHECK (seq > 0),
    mac bytea NOT NULL CHECK (octet_length(mac) = 32),
    checkpoint bigint NOT NULL REFERENCES audit_checkpoints (id) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (chain, kind, seq)
);
CREATE UNIQUE INDEX audit_checkpoint_marks_checkpoint ON audit_checkpoint_marks (checkpoint, kind, chain);

-- One rule for everybody, the owner too: a row of the audit log goes only when it is a week old, a checkpoint says that
-- its chain now starts behind it, and an earlier checkpoint has seen the chain stand beyond it. Nothing is ever changed.
CREATE OR REPLACE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' AND TG_TABLE_NAME = 'audit_log' THEN
        IF OLD.at < now() - interval '7 days' AND EXISTS (
            SELECT FROM public.audit_checkpoint_marks s JOIN public.audit_checkpoint_marks h
                ON h.chain = s.chain AND h.kind = 'head' AND h.seq >= s.seq AND h.checkpoint < s.checkpoint
            WHERE s.chain = OLD.chain AND s.kind = 'start' AND s.seq >= OLD.seq
        ) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_checkpoints_no_change BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_checkpoints_no_truncate BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_checkpoint_marks_no_change BEFORE UPDATE OR DELETE ON audit_checkpoint_marks
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_checkpoint_marks_no_truncate BEFORE TRUNCATE ON audit_checkpoint_marks
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

-- Deletes what a checkpoint's start marks leave behind, with the owner's rights: the application's role has none to
-- delete. It adds no right beyond the trigger's rule, which holds here as well.
CREATE FUNCTION audit_log_prune(by_checkpoint bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM public.audit_log l USING public.audit_checkpoint_marks s
        WHERE s.checkpoint = by_checkpoint AND s.kind = 'start' AND l.chain = s.chain AND l.seq <= s.seq;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
REVOKE ALL ON FUNCTION audit_log_prune(bigint) FROM PUBLIC;
