DROP VIEW dead_letter_queue;
DROP VIEW retry_queue;
DROP TABLE jobs;
