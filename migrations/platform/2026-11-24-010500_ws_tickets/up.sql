-- One-use tickets for WebSockets: a page that cannot send a header puts one into the address, where a token must not stand.
CREATE TABLE ws_tickets (
    -- SHA-256 of the ticket; the ticket itself is nowhere.
    ticket_digest bytea PRIMARY KEY CHECK (octet_length(ticket_digest) = 32),
    user_id bigint NOT NULL,
    session_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, id) ON DELETE CASCADE
);
CREATE INDEX ws_tickets_session ON ws_tickets (user_id, session_id);
CREATE INDEX ws_tickets_expires_at ON ws_tickets (expires_at);
