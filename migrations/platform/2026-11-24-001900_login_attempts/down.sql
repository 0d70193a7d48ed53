DROP TABLE login_places;
DROP TABLE login_attempts;
