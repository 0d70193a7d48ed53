DROP TABLE registrations;
DROP TABLE email_verification_tokens;
