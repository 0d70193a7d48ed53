-- One account per environment, so that the histories of paper and live never mix. Where a user trades is the account
-- that is not inactive; the other keeps its orders, fills and positions.
ALTER TABLE accounts
    DROP CONSTRAINT accounts_user_id_broker_key,
    ADD CONSTRAINT accounts_user_id_broker_environment_key UNIQUE (user_id, broker, environment),
    DROP CONSTRAINT accounts_state_check,
    ADD CONSTRAINT accounts_state_check CHECK (state IN ('active', 'inactive', 'disabled')),
    -- Whether its owner has allowed orders with real money; asked for live accounts only.
    ADD COLUMN live_enabled boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX accounts_active ON accounts (user_id, broker) WHERE state = 'active';
