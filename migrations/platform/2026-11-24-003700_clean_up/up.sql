-- What the clean-up and the sweeps look for, where no index led to it yet.
CREATE INDEX users_unverified ON users (created_at) WHERE email_verified_at IS NULL AND deleted_at IS NULL;
CREATE INDEX user_2fa_pending_until ON user_2fa (pending_expires_at) WHERE pending_expires_at IS NOT NULL;
CREATE INDEX setup_tokens_expires_at ON setup_tokens (expires_at);
CREATE INDEX login_challenges_untold ON login_challenges (created_at)
    WHERE used_at IS NULL AND voided_at IS NULL AND notified_at IS NULL;
