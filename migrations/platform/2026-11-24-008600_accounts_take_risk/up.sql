-- A new account has its owner's limits and the halts from the first moment on, whichever release adds it.
CREATE FUNCTION accounts_take_risk() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.risk_limits := coalesce(NEW.risk_limits,
        (SELECT l.limits FROM public.risk_limits l WHERE l.user_id = NEW.user_id));
    NEW.halt_user := coalesce(NEW.halt_user,
        (SELECT h.in_force FROM public.risk_halts h WHERE h.user_id = NEW.user_id));
    NEW.halt_global := coalesce(NEW.halt_global,
        (SELECT h.in_force FROM public.risk_halts h WHERE h.user_id IS NULL));
    RETURN NEW;
END $$;
CREATE TRIGGER accounts_take_risk BEFORE INSERT ON accounts
    FOR EACH ROW EXECUTE FUNCTION accounts_take_risk();
