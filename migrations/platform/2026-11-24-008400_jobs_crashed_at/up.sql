-- When a worker last vanished with a job: crashes make a loop by following each other soon, whatever is in between.
ALTER TABLE jobs ADD COLUMN crashed_at timestamptz;
