ALTER TABLE users
    -- How the password was prepared for its hash: 1 is NFC and nothing else.
    ADD COLUMN password_scheme smallint NOT NULL DEFAULT 1,
    ADD COLUMN password_changed_at timestamptz,
    ADD COLUMN password_failures integer NOT NULL DEFAULT 0 CHECK (password_failures >= 0),
    -- After too many failures in a row; until a reset by mail.
    ADD COLUMN password_disabled_at timestamptz;
