-- What keeps new entries of an account out, read under the lock that accepting an order takes anyway: symbols, written
-- without slashes, of which a comparison with the broker found what nobody has decided about; and, until a comparison that
-- began later is complete, everything, with the reason for that comparison.
ALTER TABLE accounts
    ADD COLUMN entries_blocked text[],
    ADD COLUMN compare_after timestamptz,
    ADD COLUMN compare_for text CHECK (length(compare_for) <= 32);
