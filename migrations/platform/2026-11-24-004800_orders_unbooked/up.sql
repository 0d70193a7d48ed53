-- Final orders of which the broker filled more than is booked: they count in what an account has open.
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_unbooked ON orders (account_id, closed_at)
    WHERE closed_at IS NOT NULL AND broker_filled_qty > filled_qty;
