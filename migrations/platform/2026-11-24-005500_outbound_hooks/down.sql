DROP TABLE outbound_hooks;
