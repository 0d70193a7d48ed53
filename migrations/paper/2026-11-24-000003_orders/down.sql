DROP TABLE executions;
DROP TABLE orders;
