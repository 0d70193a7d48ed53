CREATE TABLE leases (
    name text PRIMARY KEY,
    owner uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    acquired_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
-- Apart from the lease, because effects lock this row and must not block renewals. Never reset.
CREATE TABLE lease_fences (
    name text PRIMARY KEY,
    token bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
