//! What `config show` prints.

use plimsoll_observability::config_report::Origin;
use serde::Serialize;

use super::names::KNOWN;
use super::parse::show_duration;
use super::read::Loaded;

/// One setting, fit to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its name; a duration of the reliable parts has its name in small letters.
    pub name: String,
    /// Its value; `***` for a secret, `null` when it is unset.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
}

/// All settings, then the durations that follow from them.
#[must_use]
pub fn show(loaded: &Loaded) -> Vec<Shown> {
    let settings = KNOWN.iter().map(|known| {
        let given = loaded.given.get(known.name);
        let value =
            given.map(|given| if known.kind.is_secret() { "***".to_owned() } else { given.text.clone() });
        let value = match (&loaded.settings, known.name) {
            (Some(settings), "PROFILE") => Some(settings.profile.as_str().to_owned()),
            _ => value,
        };
        let origin = given.map_or(Origin::Default, |given| given.origin.clone());
        Shown { name: known.name.to_owned(), value, origin }
    });
    let timings =
        loaded.settings.iter().flat_map(|settings| settings.timings.entries()).map(|(name, value)| Shown {
            name: name.to_owned(),
            value: Some(show_duration(value)),
            origin: Origin::Default,
        });
    settings.chain(timings).collect()
}
