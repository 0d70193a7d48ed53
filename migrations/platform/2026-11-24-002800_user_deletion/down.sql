DROP INDEX users_active_admins;
ALTER TABLE users DROP CONSTRAINT users_deleted, DROP COLUMN deleted_at;
