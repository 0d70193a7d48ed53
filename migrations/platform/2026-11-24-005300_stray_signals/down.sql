DROP TABLE stray_signals;
