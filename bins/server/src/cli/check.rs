//! `config check` and `config show`.

use plimsoll_observability::config_report::Verdict;

use super::{ConfigCommand, WRONG};
use crate::config::{Environment, Flags, Purpose, load, show};

/// Prints and gives the exit code.
pub(super) fn run(command: &ConfigCommand, flags: &Flags, environment: &Environment) -> u8 {
    let loaded = load(flags, environment, Purpose::Serve);
    match command {
        ConfigCommand::Check { json: true } => {
            println!("{}", serde_json::to_string_pretty(&loaded.report).expect("texts serialise"));
        }
        ConfigCommand::Check { json: false } => {
            let text = loaded.report.to_string();
            if !text.is_empty() {
                println!("{text}");
            }
            if loaded.report.verdict() != Verdict::Invalid {
                println!("the configuration is valid");
            }
        }
        ConfigCommand::Show { json: true } => {
            println!("{}", serde_json::to_string_pretty(&show(&loaded)).expect("texts serialise"));
        }
        ConfigCommand::Show { json: false } => {
            for shown in show(&loaded) {
                let value = shown.value.unwrap_or_else(|| "(not set)".to_owned());
                println!("{} = {value}  ({})", shown.name, shown.origin);
            }
        }
    }
    if loaded.report.verdict() == Verdict::Invalid { WRONG } else { 0 }
}
