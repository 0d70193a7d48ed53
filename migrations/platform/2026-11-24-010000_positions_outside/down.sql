ALTER TABLE positions DROP COLUMN outside_qty;
