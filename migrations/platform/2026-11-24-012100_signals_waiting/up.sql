-- Signals of which something is still to come: a later one ends them, without reading the whole log of the hook.
CREATE INDEX CONCURRENTLY IF NOT EXISTS signals_waiting ON signals (hook_id, symbol, id) WHERE pending;
