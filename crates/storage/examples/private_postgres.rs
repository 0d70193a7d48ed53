//! A private PostgreSQL from the command line: `private_postgres DATA_DIR [PG_BIN]`. Prints one line of JSON when it
//! answers, runs until its input ends, then stops the server. Exit code 2 when it cannot start.

#[cfg(feature = "private-postgres")]
fn main() -> std::process::ExitCode {
    use plimsoll_storage::private_postgres::{Options, PrivatePostgres};
    use std::process::ExitCode;
    use std::time::Duration;

    let mut arguments = std::env::args_os().skip(1);
    let Some(data_dir) = arguments.next() else {
        eprintln!("usage: private_postgres DATA_DIR [PG_BIN]");
        return ExitCode::from(2);
    };
    let mut options = Options::new(data_dir);
    options.bin = arguments.next().map(Into::into);
    let mut server = match PrivatePostgres::start(options) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    println!(
        "{}",
        serde_json::json!({
            "url": server.url("postgres"),
            "account": server.account(),
            "folder": server.cluster().folder(),
        })
    );
    let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let clean = server.stop(Duration::from_secs(10));
    if ended.is_ok() && clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "private-postgres"))]
fn main() {
    eprintln!("this example needs the feature private-postgres");
}
