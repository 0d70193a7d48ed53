-- When an account last agreed with its broker, and with which cash: what fills and the ledger brought since is added.
ALTER TABLE accounts
    ADD COLUMN reconciled_at timestamptz,
    ADD COLUMN cash_base numeric(28, 13) CHECK (cash_base <> 'NaN'),
    ADD COLUMN cash_flow numeric(28, 13) NOT NULL DEFAULT 0 CHECK (cash_flow <> 'NaN'),
    ADD COLUMN cash_ledger bigint NOT NULL DEFAULT 0;
