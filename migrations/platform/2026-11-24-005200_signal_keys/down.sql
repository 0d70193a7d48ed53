DROP TABLE signal_keys;
