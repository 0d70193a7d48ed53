-- Of what is held, the units that came from outside the platform and that nobody has claimed: never more than is held, and
-- with its sign. A halt does not close them.
ALTER TABLE positions ADD COLUMN outside_qty numeric(24, 9) NOT NULL DEFAULT 0 CHECK (outside_qty <> 'NaN');
