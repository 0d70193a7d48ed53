DROP INDEX mail_outbox_sealed_key;
DROP INDEX user_2fa_pending_secret_key;
DROP INDEX user_2fa_secret_key;
DROP TABLE encryption_stretching;
DROP TABLE encryption_keys;
