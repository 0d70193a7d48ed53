DROP TABLE discrepancies;
