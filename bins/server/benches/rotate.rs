//! `plimsoll key rotate` over a million users' data keys: the whole command, beside a private PostgreSQL with fsync on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_crypto::{DataKey, KeyRing, MasterKey, OsRandom, SecretKey};
use plimsoll_storage::private_postgres::{Options, PrivatePostgres};
use plimsoll_storage::testing::RawConnection;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Unless the first argument says another number.
const USERS: i64 = 1_000_000;
/// Rows of one INSERT when the table is filled.
const CHUNK: i64 = 2_000;

fn main() -> Result<()> {
    let users = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(USERS);
    let folder = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir()?;
    // As root the database runs under an account that must be able to go in.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    let mut options = Options::new(folder.path().join("database"));
    options.path_var = "/usr/local/bin:/usr/bin:/bin".to_owned();
    let mut postgres = PrivatePostgres::start(options)?;
    postgres.ensure_database("plimsoll")?;
    let url = postgres.url("plimsoll");

    let keys: Vec<SecretKey> = (0..2).map(|_| SecretKey::generate(&mut OsRandom)).collect();
    let texts: Vec<String> = keys.iter().map(|key| data_encoding::HEXLOWER.encode(key.expose())).collect();
    let first = KeyRing::new(&MasterKey::from_key(keys[0].clone())?);
    // makes schema and installation keys
    command(folder.path(), &url, &texts[0], None, &["user", "list"]).status()?;
    fill(&url, &first, users)?;

    for (words, what) in
        [(&["key", "rotate", "--dry-run", "--json"][..], "tried"), (&["key", "rotate", "--json"], "moved")]
    {
        let began = Instant::now();
        let output = command(folder.path(), &url, &texts[1], Some(&texts[0]), words)
            .stderr(Stdio::inherit())
            .output()?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        if !output.status.success() {
            return Err(format!("{report}").into());
        }
        println!(
            "{what} {} rows: {} rows/s, {:.1} s with start and counts",
            report["moved"],
            report["rows_per_second"],
            began.elapsed().as_secs_f64()
        );
    }
    let began = Instant::now();
    let checking = &["user", "setup-token"];
    command(folder.path(), &url, &texts[1], None, checking).stdout(Stdio::null()).status()?;
    println!("a command that checks the keys at its start: {:.3} s", began.elapsed().as_secs_f64());
    postgres.stop(Duration::from_secs(60));
    Ok(())
}

fn command(folder: &Path, url: &str, key: &str, old: Option<&str>, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_clear().current_dir(folder).args(words).stdin(Stdio::null());
    command
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("PROFILE", "development")
        .env("DATABASE_URL", url);
    command.env("DATA_DIR", folder.join("data")).env("ENCRYPTION_KEY", key);
    if let Some(old) = old {
        command.env("ENCRYPTION_KEYS_OLD", old);
    }
    command
}

fn fill(url: &str, ring: &KeyRing, users: i64) -> Result<()> {
    let mut conn = RawConnection::open(url)?;
    conn.execute(&format!(
        "INSERT INTO users (email, email_folded, password_hash) SELECT e, e, '!' \
         FROM (SELECT 'u' || n || '@example.com' AS e FROM generate_series(1, {users}) n) t"
    ))?;
    let first: i64 = conn.rows("SELECT min(id) AS id FROM users")?[0]["id"].as_i64().ok_or("no users")?;
    for from in (first..first + users).step_by(usize::try_from(CHUNK)?) {
        let rows: Vec<String> = (from..(from + CHUNK).min(first + users))
            .map(|user| {
                let wrapped = DataKey::generate(&mut OsRandom).wrap(ring, user, &mut OsRandom);
                let hex = data_encoding::HEXLOWER.encode(&wrapped);
                format!("({user},'{}','\\x{hex}',now(),now())", ring.active())
            })
            .collect();
        conn.execute(&format!(
            "INSERT INTO user_keys (user_id, key_id, wrapped, created_at, updated_at) VALUES {}",
            rows.join(",")
        ))?;
    }
    Ok(conn.execute("VACUUM ANALYZE user_keys")?)
}
