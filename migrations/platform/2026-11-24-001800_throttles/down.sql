DROP TABLE failed_pairs;
DROP TABLE throttles;
