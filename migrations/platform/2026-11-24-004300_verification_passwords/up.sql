-- Several registrations may wait for one address. Each link carries what its own registration chose, and the account gets
-- that when the link is used. A link without a registration confirms the address and changes nothing else.
ALTER TABLE email_verification_tokens
    ADD COLUMN registration_id uuid,
    ADD COLUMN registered_at timestamptz,
    -- Emptied once the address is confirmed.
    ADD COLUMN password_hash text,
    ADD COLUMN display_name text,
    ADD CONSTRAINT email_verification_tokens_registration
        CHECK ((registration_id IS NULL) = (registered_at IS NULL) AND (password_hash IS NULL OR registration_id IS NOT NULL));
CREATE INDEX email_verification_tokens_registration_id ON email_verification_tokens (registration_id)
    WHERE registration_id IS NOT NULL;
