CREATE TABLE user_2fa (
    user_id bigint PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- The TOTP secret in force, sealed for this row, column and user.
    secret bytea,
    enabled_at timestamptz,
    -- The one being set up.
    pending_secret bytea,
    pending_expires_at timestamptz,
    -- The last TOTP step that was accepted, for whatever purpose: steps only go up.
    last_step bigint NOT NULL DEFAULT 0,
    last_used_at timestamptz,
    -- Wrong codes in a row, of each method; too many disable that method until it is bound anew.
    totp_failures integer NOT NULL DEFAULT 0 CHECK (totp_failures >= 0),
    totp_disabled_at timestamptz,
    backup_failures integer NOT NULL DEFAULT 0 CHECK (backup_failures >= 0),
    backup_disabled_at timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT user_2fa_enabled CHECK ((secret IS NULL) = (enabled_at IS NULL)),
    CONSTRAINT user_2fa_pending CHECK ((pending_secret IS NULL) = (pending_expires_at IS NULL))
) WITH (fillfactor = 70);
CREATE TABLE user_2fa_backup_codes (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Codes of a setup that is not enabled yet.
    pending boolean NOT NULL,
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 9),
    -- argon2id over the code's peppered HMAC.
    hash text NOT NULL,
    created_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, pending, slot)
);
-- Codes and, for opening sensitive acts, passwords that were tried; never one of them itself. A row is written before the
-- try is looked at, and counts as failed until its outcome is `accepted`.
CREATE TABLE user_2fa_attempts (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    method text NOT NULL CHECK (method IN ('totp', 'backup_code', 'password')),
    purpose text NOT NULL CHECK (length(purpose) <= 32),
    outcome text NOT NULL CHECK (length(outcome) <= 32),
    step_offset smallint,
    ip inet,
    user_agent text CHECK (length(user_agent) <= 400),
    PRIMARY KEY (user_id, id)
);
CREATE INDEX user_2fa_attempts_user_at ON user_2fa_attempts (user_id, at);
CREATE INDEX user_2fa_attempts_at ON user_2fa_attempts (at);
-- A reset that an administrator has started; it takes effect at due_at unless the owner cancels it.
CREATE TABLE two_factor_resets (
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    requested_by bigint,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    cancelled_at timestamptz,
    done_at timestamptz,
    PRIMARY KEY (user_id, id)
);
CREATE UNIQUE INDEX two_factor_resets_open ON two_factor_resets (user_id) WHERE cancelled_at IS NULL AND done_at IS NULL;
CREATE INDEX two_factor_resets_due ON two_factor_resets (due_at) WHERE cancelled_at IS NULL AND done_at IS NULL;
