ALTER TABLE accounts
    DROP COLUMN risk_limits,
    DROP COLUMN halt_user,
    DROP COLUMN halt_global,
    DROP COLUMN loss_baseline,
    DROP COLUMN loss_session,
    DROP COLUMN loss_rearmed;
