DROP TABLE cancel_tokens;
