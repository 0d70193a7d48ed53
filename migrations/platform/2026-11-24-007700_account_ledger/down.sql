DROP TABLE account_ledger;
