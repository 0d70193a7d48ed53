ALTER TABLE accounts
    DROP COLUMN reconciled_at,
    DROP COLUMN cash_base,
    DROP COLUMN cash_flow,
    DROP COLUMN cash_ledger;
