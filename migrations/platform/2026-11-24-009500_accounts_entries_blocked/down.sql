ALTER TABLE accounts
    DROP COLUMN entries_blocked,
    DROP COLUMN compare_after,
    DROP COLUMN compare_for;
