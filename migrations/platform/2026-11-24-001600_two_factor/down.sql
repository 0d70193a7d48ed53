DROP TABLE two_factor_resets;
DROP TABLE user_2fa_attempts;
DROP TABLE user_2fa_backup_codes;
DROP TABLE user_2fa;
