-- Copies of the owner's limits and of the halts, so that accepting an order reads them under the lock that it takes anyway.
ALTER TABLE accounts
    ADD COLUMN risk_limits jsonb CHECK (jsonb_typeof(risk_limits) = 'object'),
    ADD COLUMN halt_user text CHECK (halt_user IN ('block_entries', 'reduce_only', 'cancel_open', 'flatten')),
    ADD COLUMN halt_global text CHECK (halt_global IN ('block_entries', 'reduce_only', 'cancel_open', 'flatten')),
    -- From which loss on the daily limit counts, and the equity at the close of the session that it was set in.
    ADD COLUMN loss_baseline numeric(28, 13) NOT NULL DEFAULT 0 CHECK (loss_baseline <> 'NaN'),
    ADD COLUMN loss_session numeric(28, 13) CHECK (loss_session <> 'NaN'),
    ADD COLUMN loss_rearmed boolean NOT NULL DEFAULT false;
