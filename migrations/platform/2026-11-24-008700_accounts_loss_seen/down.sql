ALTER TABLE accounts DROP COLUMN loss_seen;
