DROP TRIGGER accounts_take_risk ON accounts;
DROP FUNCTION accounts_take_risk();
