-- Of two accounts of a user only the one traded with can stay under the old rule. While the other has orders, this fails
-- and leaves everything as it is.
DELETE FROM accounts WHERE state = 'inactive';
DROP INDEX accounts_active;
ALTER TABLE accounts
    DROP COLUMN live_enabled,
    DROP CONSTRAINT accounts_state_check,
    ADD CONSTRAINT accounts_state_check CHECK (state IN ('active', 'disabled')),
    DROP CONSTRAINT accounts_user_id_broker_environment_key,
    ADD CONSTRAINT accounts_user_id_broker_key UNIQUE (user_id, broker);
