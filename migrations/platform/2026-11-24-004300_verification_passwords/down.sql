DROP INDEX email_verification_tokens_registration_id;
ALTER TABLE email_verification_tokens
    DROP CONSTRAINT email_verification_tokens_registration,
    DROP COLUMN display_name,
    DROP COLUMN password_hash,
    DROP COLUMN registered_at,
    DROP COLUMN registration_id;
