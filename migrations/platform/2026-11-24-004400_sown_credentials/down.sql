DROP TABLE sown_credentials;
