-- What each user has limited; without a row nothing is.
CREATE TABLE risk_limits (
    user_id bigint PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    limits jsonb NOT NULL CHECK (jsonb_typeof(limits) = 'object'),
    updated_at timestamptz NOT NULL
);
