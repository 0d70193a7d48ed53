-- That a sending before the last one may have arrived: what a broker says to a later one does not settle the order.
ALTER TABLE orders ADD COLUMN submit_doubt boolean NOT NULL DEFAULT false;
