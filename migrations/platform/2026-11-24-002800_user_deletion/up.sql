ALTER TABLE users
    -- The row stays for orders and audit entries to refer to; nothing in it names a person any more.
    ADD COLUMN deleted_at timestamptz,
    ADD CONSTRAINT users_deleted CHECK (deleted_at IS NULL OR (state = 'disabled' AND role = 'user'));
-- Found, and locked in this order, before one of them is demoted.
CREATE INDEX users_active_admins ON users (id) WHERE role = 'admin' AND state = 'active';
