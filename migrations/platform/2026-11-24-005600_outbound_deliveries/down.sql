DROP TABLE outbound_deliveries;
