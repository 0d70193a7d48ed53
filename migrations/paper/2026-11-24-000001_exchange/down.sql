DROP TABLE exchange_writer;
DROP TABLE exchange_clock;
DROP TABLE exchange;
