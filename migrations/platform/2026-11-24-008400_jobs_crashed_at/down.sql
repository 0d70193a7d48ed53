ALTER TABLE jobs DROP COLUMN crashed_at;
