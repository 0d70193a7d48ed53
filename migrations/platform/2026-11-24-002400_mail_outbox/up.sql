-- Mails waiting to be sent, and sent ones for a while. Content and address are sealed for the row.
CREATE TABLE mail_outbox (
    id uuid PRIMARY KEY,
    user_id bigint REFERENCES users (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (length(kind) <= 64),
    sealed bytea CHECK (octet_length(sealed) <= 65536),
    created_at timestamptz NOT NULL,
    sent_at timestamptz,
    given_up_at timestamptz
);
CREATE INDEX mail_outbox_created_at ON mail_outbox (created_at, id);
CREATE INDEX mail_outbox_user_id ON mail_outbox (user_id) WHERE user_id IS NOT NULL;
