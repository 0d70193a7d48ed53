ALTER TABLE risk_halts
    DROP COLUMN in_force,
    DROP CONSTRAINT risk_halts_operator,
    DROP COLUMN operator_since,
    DROP COLUMN operator_reason,
    DROP COLUMN operator_level;
