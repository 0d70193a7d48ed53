ALTER TABLE inbound_hooks DROP COLUMN symbol_map;
