-- Comparisons of accounts with their brokers: asked for, under way, ended.
CREATE TABLE reconciliation_runs (
    account_id bigint NOT NULL REFERENCES accounts (id),
    id uuid NOT NULL,
    user_id bigint NOT NULL,
    trigger text NOT NULL CHECK (length(trigger) <= 32),
    status text NOT NULL CHECK (status IN ('queued', 'running', 'ok', 'attention', 'partial', 'failed')),
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    scanned integer NOT NULL DEFAULT 0,
    fixed integer NOT NULL DEFAULT 0,
    -- What it found, as it told it: JSON.
    found text NOT NULL DEFAULT '[]',
    error text CHECK (length(error) <= 500),
    PRIMARY KEY (account_id, id)
);
CREATE INDEX reconciliation_runs_started_at ON reconciliation_runs (account_id, started_at, id);
CREATE INDEX reconciliation_runs_by_user ON reconciliation_runs (user_id, started_at, id);
