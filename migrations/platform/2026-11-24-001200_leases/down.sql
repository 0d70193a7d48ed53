DROP TABLE lease_fences;
DROP TABLE leases;
