//! The program `plimsoll`.

use std::process::ExitCode;

use clap::Parser;
use plimsoll_server::cli::{self, Cli};
use plimsoll_server::config::Environment;

fn main() -> ExitCode {
    ExitCode::from(cli::run(Cli::parse(), &Environment::of_process()))
}
