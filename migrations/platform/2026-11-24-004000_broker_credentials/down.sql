DROP TABLE broker_credentials;
DROP SEQUENCE broker_credential_versions;
