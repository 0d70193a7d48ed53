DROP TABLE risk_halts;
