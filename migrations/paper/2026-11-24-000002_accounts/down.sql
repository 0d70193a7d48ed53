DROP TABLE watchlists;
DROP TABLE api_keys;
DROP TABLE accounts;
