ALTER TABLE sessions
    ADD COLUMN transport text NOT NULL DEFAULT 'bearer' CHECK (transport IN ('bearer', 'cookie')),
    -- Where the last factor was proven: step-up does not follow a session to another address.
    ADD COLUMN step_up_ip inet;
