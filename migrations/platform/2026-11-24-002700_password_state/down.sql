ALTER TABLE users
    DROP COLUMN password_disabled_at,
    DROP COLUMN password_failures,
    DROP COLUMN password_changed_at,
    DROP COLUMN password_scheme;
