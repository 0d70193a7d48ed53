-- An account may be traded by every instance once the one that has it has compared it with the broker.
ALTER TABLE leases ADD COLUMN ready boolean NOT NULL DEFAULT false;
