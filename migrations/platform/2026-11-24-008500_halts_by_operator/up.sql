-- What the operator halted for a user stands beside what that user, or the daily loss, did: neither lifts the other.
ALTER TABLE risk_halts
    ADD COLUMN operator_level text CHECK (operator_level IN ('block_entries', 'reduce_only', 'cancel_open', 'flatten')),
    ADD COLUMN operator_reason text CHECK (length(operator_reason) <= 500),
    ADD COLUMN operator_since timestamptz,
    ADD CONSTRAINT risk_halts_operator
        CHECK (operator_level IS NULL OR (operator_reason IS NOT NULL AND operator_since IS NOT NULL)),
    -- The higher of the two, which accounts have copies of.
    ADD COLUMN in_force text GENERATED ALWAYS AS (
        CASE WHEN coalesce(array_position(ARRAY['block_entries', 'reduce_only', 'cancel_open', 'flatten'], operator_level), 0)
                > coalesce(array_position(ARRAY['block_entries', 'reduce_only', 'cancel_open', 'flatten'], level), 0)
            THEN operator_level ELSE level END) STORED;
