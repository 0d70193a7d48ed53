CREATE TABLE accounts (
    account_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    number text NOT NULL UNIQUE,
    deposit numeric(28, 9) NOT NULL CHECK (deposit <> 'NaN'),
    created_at timestamptz NOT NULL,
    record jsonb NOT NULL
);

-- The secret itself is shown once and kept nowhere here.
CREATE TABLE api_keys (
    account_id uuid NOT NULL REFERENCES accounts,
    key_id text NOT NULL UNIQUE,
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key_id)
);

CREATE TABLE watchlists (
    account_id uuid NOT NULL REFERENCES accounts,
    id uuid NOT NULL,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
    symbols text[] NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, id)
);
