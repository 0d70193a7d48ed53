-- A chain per user (its id), and 16 system chains (-1 to -16) for events without a known user.
CREATE TABLE audit_head (
    chain bigint PRIMARY KEY CHECK (chain <> 0),
    seq bigint NOT NULL DEFAULT 0,
    mac bytea NOT NULL CHECK (octet_length(mac) = 32)
) WITH (fillfactor = 50);
CREATE TABLE audit_log (
    chain bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    at timestamptz NOT NULL,
    action text NOT NULL CHECK (length(action) <= 64),
    outcome text NOT NULL CHECK (outcome IN ('success', 'failure', 'denied')),
    actor_id bigint,
    subject_id bigint,
    ip text CHECK (length(ip) <= 64),
    user_agent text CHECK (length(user_agent) <= 400),
    request_id uuid,
    -- Canonical JSON text: sorted keys, decimals as strings.
    detail text NOT NULL CHECK (length(detail) <= 8192),
    mac bytea NOT NULL CHECK (octet_length(mac) = 32),
    PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_log_at ON audit_log USING brin (at);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
INSERT INTO audit_head (chain, mac) SELECT -n, decode(repeat('00', 32), 'hex') FROM generate_series(1, 16) AS n;
