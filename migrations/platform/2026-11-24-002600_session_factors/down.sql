ALTER TABLE sessions DROP COLUMN step_up_ip, DROP COLUMN transport;
