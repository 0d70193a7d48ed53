-- The loss of the last look, while it has reached its limit: what a halt that is lifted no longer counts. It takes the place
-- of loss_rearmed, which the previous release still writes.
ALTER TABLE accounts ADD COLUMN loss_seen numeric(28, 13) CHECK (loss_seen <> 'NaN');
