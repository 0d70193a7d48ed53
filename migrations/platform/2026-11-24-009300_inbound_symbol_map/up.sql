-- What the sender calls symbols, by ticker.
ALTER TABLE inbound_hooks ADD COLUMN symbol_map jsonb NOT NULL DEFAULT '{}'
    CONSTRAINT inbound_hooks_symbol_map CHECK (jsonb_typeof(symbol_map) = 'object');
