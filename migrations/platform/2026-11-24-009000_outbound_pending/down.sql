DROP INDEX CONCURRENTLY IF EXISTS outbound_deliveries_pending;
