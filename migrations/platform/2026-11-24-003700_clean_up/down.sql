DROP INDEX login_challenges_untold;
DROP INDEX setup_tokens_expires_at;
DROP INDEX user_2fa_pending_until;
DROP INDEX users_unverified;
