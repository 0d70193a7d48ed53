//! Where values come from: flags, environment, file, defaults, in this order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_observability::config_report::{ConfigReport, Finding, Origin, Severity};

use super::environment::Environment;
use super::names::{KNOWN, known, nearest_name};

const PREFIX: &str = "PLIMSOLL_";
const FILE_SUFFIX: &str = "_FILE";
const DEFAULT_FILE: &str = "plimsoll.toml";
/// A file with a secret holds one line; whoever names another one has made a mistake.
const LONGEST_SECRET: u64 = 64 * 1024;

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: the file instead of `plimsoll.toml` in the working folder. It must exist then.
    pub config: Option<PathBuf>,
    /// Flag (with its dashes), setting, value.
    pub values: Vec<(&'static str, &'static str, String)>,
}

/// A value as text, and where it came from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// All that was given; findings about unknown names, double values and unreadable files.
pub(super) fn gather(
    flags: &Flags,
    environment: &Environment,
    report: &mut ConfigReport,
) -> BTreeMap<&'static str, Given> {
    let file = read_file(flags.config.as_deref(), report);
    let variables = read_environment(environment, report);
    let mut all = BTreeMap::new();
    for setting in KNOWN {
        let flag = flags
            .values
            .iter()
            .find(|(_, name, _)| *name == setting.name)
            .map(|(flag, _, text)| Given { text: text.clone(), origin: Origin::Flag((*flag).to_owned()) });
        let default = || {
            let text = setting.default?.to_owned();
            Some(Given { text, origin: Origin::Default })
        };
        let layers = [flag, variables.get(setting.name).cloned(), file.get(setting.name).cloned()];
        if let Some(given) = layers.into_iter().flatten().next().or_else(default) {
            all.insert(setting.name, given);
        }
    }
    all
}

fn error(report: &mut ConfigReport, finding: Finding) {
    report.add(Severity::Error, finding);
}

fn unknown(report: &mut ConfigReport, shown: &str, name: &str, origin: Origin) {
    let finding = Finding::new(shown, origin, "there is no setting of this name");
    let finding = match nearest_name(name) {
        Some(near) => finding.mend(format!("did you mean {near}?")),
        None => finding.mend("remove it"),
    };
    error(report, finding);
}

/// Splits `NAME_FILE` of a secret from the name itself.
fn target(name: &str) -> Option<(&'static str, bool)> {
    if let Some(setting) = known(name) {
        return Some((setting.name, false));
    }
    let setting = known(name.strip_suffix(FILE_SUFFIX)?)?;
    setting.kind.is_secret().then_some((setting.name, true))
}

/// One layer: a second value for the same setting is an error, an equal one from the environment's two spellings is not.
struct Layer<'a> {
    values: BTreeMap<&'static str, Given>,
    report: &'a mut ConfigReport,
}

impl Layer<'_> {
    fn add(&mut self, name: &'static str, given: Given) {
        match self.values.get(name) {
            Some(earlier) if earlier.text != given.text || from_file(earlier) != from_file(&given) => {
                let message = format!("is also given by {}", earlier.origin);
                error(self.report, Finding::new(name, given.origin, message).mend("keep one of the two"));
            }
            Some(_) => {}
            None => drop(self.values.insert(name, given)),
        }
    }

    fn add_secret_file(&mut self, name: &'static str, variable: String, path: &Path) {
        match secret_of(path) {
            Ok(text) => self.add(name, Given { text, origin: Origin::SecretFile(variable) }),
            Err(why) => {
                let message = format!("{} cannot be used: {why}", path.display());
                error(self.report, Finding::new(name, Origin::SecretFile(variable), message));
            }
        }
    }
}

fn from_file(given: &Given) -> bool {
    matches!(given.origin, Origin::SecretFile(_))
}

fn secret_of(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|why| why.to_string())?.len();
    if size > LONGEST_SECRET {
        return Err("it is too large for a secret".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|why| why.to_string())?;
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}

fn read_environment(environment: &Environment, report: &mut ConfigReport) -> BTreeMap<&'static str, Given> {
    let mut layer = Layer { values: BTreeMap::new(), report };
    for variable in environment.names() {
        let prefixed = variable.strip_prefix(PREFIX);
        let bare = prefixed.unwrap_or(variable);
        let origin = Origin::Environment(variable.to_owned());
        match (target(bare), environment.get(variable)) {
            (Some((name, false)), Some(text)) => layer.add(name, Given { text: text.to_owned(), origin }),
            (Some((name, true)), Some(path)) => {
                layer.add_secret_file(name, variable.to_owned(), Path::new(path));
            }
            (Some(_), None) => {}
            // other programs have variables too; those with our prefix are meant for us
            (None, _) if prefixed.is_some() => unknown(layer.report, variable, bare, origin),
            (None, _) => {}
        }
    }
    layer.values
}

fn read_file(named: Option<&Path>, report: &mut ConfigReport) -> BTreeMap<&'static str, Given> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let shown = path.display().to_string();
    let origin = || Origin::ConfigFile(shown.clone());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(why) if named.is_none() && why.kind() == std::io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(why) => {
            error(report, Finding::new(DEFAULT_FILE, origin(), format!("cannot be read: {why}")));
            return BTreeMap::new();
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(why) => {
            // the parser's long form quotes the line, which may hold a secret
            let line = why.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            let message = format!("line {line} is not TOML: {}", why.message());
            error(report, Finding::new(DEFAULT_FILE, origin(), message));
            return BTreeMap::new();
        }
    };
    let mut layer = Layer { values: BTreeMap::new(), report };
    for (key, value) in &table {
        let upper = key.to_ascii_uppercase();
        let Some((name, is_file)) = target(&upper) else {
            unknown(layer.report, key, &upper, origin());
            continue;
        };
        match (scalar(value), is_file) {
            (Some(text), false) => layer.add(name, Given { text, origin: origin() }),
            (Some(text), true) => layer.add_secret_file(name, key.clone(), Path::new(&text)),
            (None, _) => {
                let message = "must be a text, a whole number, true, false or a list of texts";
                error(layer.report, Finding::new(name, origin(), message).mend("put it in quotes"));
            }
        }
    }
    layer.values
}

/// The value's text. Numbers with a fraction are refused: they would have gone through a binary float.
fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}
