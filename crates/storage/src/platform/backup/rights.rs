//! Who may do what: a copy gets what the live database has, since neither a backup nor a migration says it.

use std::time::Duration;

use plimsoll_core_domain::StoreError;

use super::sql::{connect, lines, maintenance, quote_text, run};
use crate::db::{database_of, quote_identifier};

/// Grants of others than owners, as statements. A copy has no others, so afterwards both are the same.
const GRANTS: &str = "WITH grantees AS (SELECT 0::oid AS oid, 'PUBLIC' AS name UNION ALL SELECT oid, quote_ident(rolname) FROM pg_roles) \
     SELECT format('GRANT %s ON %s %s TO %s', a.privilege_type, \
     CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass, g.name) AS line \
     FROM pg_class c, aclexplode(c.relacl) a JOIN grantees g ON g.oid = a.grantee \
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S') AND a.grantee <> c.relowner \
     UNION ALL SELECT format('GRANT %s ON FUNCTION %s TO %s', a.privilege_type, p.oid::regprocedure, g.name) \
     FROM pg_proc p, aclexplode(p.proacl) a JOIN grantees g ON g.oid = a.grantee \
     WHERE p.pronamespace = 'public'::regnamespace AND a.grantee <> p.proowner \
     UNION ALL SELECT format('GRANT %s ON SCHEMA public TO %s', a.privilege_type, g.name) \
     FROM pg_namespace n, aclexplode(n.nspacl) a JOIN grantees g ON g.oid = a.grantee \
     WHERE n.nspname = 'public' AND a.grantee <> n.nspowner \
     UNION ALL SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s GRANT %s ON %s TO %s', d.defaclrole::regrole::text, \
     CASE WHEN d.defaclnamespace = 0 THEN '' ELSE ' IN SCHEMA public' END, a.privilege_type, \
     CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' ELSE 'FUNCTIONS' END, g.name) \
     FROM pg_default_acl d, aclexplode(d.defaclacl) a JOIN grantees g ON g.oid = a.grantee \
     WHERE d.defaclobjtype IN ('r', 'S', 'f') AND a.grantee <> d.defaclrole \
     AND d.defaclnamespace IN (0, 'public'::regnamespace) ORDER BY 1";

/// Settings whose value is a list of names that are quoted already.
const LISTS: &str =
    "('search_path', 'temp_tablespaces', 'session_preload_libraries', 'local_preload_libraries')";

/// Gives the database `copy` the grants, the settings and the owner of the live one.
pub(super) fn copy_rights(owner: &str, copy_url: &str, copy: &str) -> Result<(), StoreError> {
    let wait = Duration::from_secs(5);
    let grants = lines(&mut connect(owner, wait)?, GRANTS)?;
    if !grants.is_empty() {
        run(&mut connect(copy_url, wait)?, &grants.join(";\n"))?;
    }
    let live = quote_text(&database_of(owner).unwrap_or_default());
    let (name, quoted) = (quote_text(copy), quote_identifier(copy));
    let mut conn = maintenance(owner)?;
    let mut statements = lines(
        &mut conn,
        &format!(
            "SELECT format('ALTER DATABASE %I OWNER TO %s', {name}, datdba::regrole) AS line FROM pg_database \
             WHERE datname = {live} AND datdba <> (SELECT datdba FROM pg_database WHERE datname = {name})"
        ),
    )?;
    let acl = lines(
        &mut conn,
        &format!(
            "SELECT format('GRANT %s ON DATABASE %I TO %s', a.privilege_type, {name}, \
             CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END) AS line \
             FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = {live} AND a.grantee <> d.datdba ORDER BY 1"
        ),
    )?;
    let has_acl = lines(
        &mut conn,
        &format!("SELECT 'x' AS line FROM pg_database WHERE datname = {live} AND datacl IS NOT NULL"),
    )?;
    if !has_acl.is_empty() {
        statements.push(format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC"));
        statements.extend(acl);
    }
    statements.extend(lines(
        &mut conn,
        &format!(
            "SELECT CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', {name}) \
             ELSE format('ALTER ROLE %s IN DATABASE %I', s.setrole::regrole, {name}) END || format(' SET %I TO ', o.name) || \
             CASE WHEN o.name IN {LISTS} THEN o.value ELSE quote_literal(o.value) END AS line \
             FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, \
             LATERAL (SELECT split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value FROM unnest(s.setconfig) c) o \
             WHERE d.datname = {live} ORDER BY 1"
        ),
    )?);
    for statement in statements {
        run(&mut conn, &statement)?;
    }
    Ok(())
}
