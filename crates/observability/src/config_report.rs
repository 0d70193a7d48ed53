//! What a check of the configuration found: everything at once, each finding with the way to mend it.

use std::fmt;

use serde::Serialize;

mod nearest;

pub use nearest::nearest;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag, with its dashes.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// A file named by an environment variable such as `ENCRYPTION_KEY_FILE`.
    SecretFile(String),
    /// The configuration file, by its path.
    ConfigFile(String),
    /// Nobody set it.
    Default,
    /// Made at the first start and kept.
    Generated,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::SecretFile(name) => write!(f, "the file named by {name}"),
            Self::ConfigFile(path) => write!(f, "configuration file {path}"),
            Self::Default => f.write_str("default"),
            Self::Generated => f.write_str("generated"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Information,
    /// It starts, but somebody should look.
    Warning,
    /// It must not start.
    Error,
}

/// One finding. None of its texts holds the value of a secret setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The setting's name, such as `ENCRYPTION_KEY`.
    pub setting: String,
    /// Where its value came from.
    pub origin: Origin,
    /// What is so.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// A finding about a setting.
    pub fn new(setting: impl Into<String>, origin: Origin, message: impl Into<String>) -> Self {
        Self { setting: setting.into(), origin, message: message.into(), mend: None }
    }

    /// Adds what to do about it, as an instruction: `set PUBLIC_URL to …`.
    #[must_use]
    pub fn mend(mut self, instruction: impl Into<String>) -> Self {
        self.mend = Some(instruction.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.setting, self.origin, self.message)?;
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

/// Whether the configuration is good to start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Valid,
    /// Yes, with something to look at.
    Warnings,
    /// No: exit code 2, before any port opens.
    Invalid,
}

/// All findings, in the order they were made.
///
/// JSON form: `{"verdict":…,"errors":[…],"warnings":[…],"information":[…]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigReport {
    findings: Vec<(Severity, Finding)>,
}

impl ConfigReport {
    /// A report without findings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn add(&mut self, severity: Severity, finding: Finding) {
        self.findings.push((severity, finding));
    }

    /// Adds what another check found.
    pub fn extend(&mut self, other: Self) {
        self.findings.extend(other.findings);
    }

    /// The findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |(of, _)| *of == severity).map(|(_, finding)| finding)
    }

    /// The worst finding decides.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().map(|(severity, _)| *severity).max() {
            Some(Severity::Error) => Verdict::Invalid,
            Some(Severity::Warning) => Verdict::Warnings,
            Some(Severity::Information) | None => Verdict::Valid,
        }
    }
}

/// One line a finding, errors first, without a newline at the end.
impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severities =
            [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Information, "info")];
        let lines =
            severities.iter().flat_map(|(severity, word)| self.of(*severity).map(move |it| (word, it)));
        for (index, (word, finding)) in lines.enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{word}: {finding}")?;
        }
        Ok(())
    }
}

impl Serialize for ConfigReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            verdict: Verdict,
            errors: Vec<&'a Finding>,
            warnings: Vec<&'a Finding>,
            information: Vec<&'a Finding>,
        }
        let form = Form {
            verdict: self.verdict(),
            errors: self.of(Severity::Error).collect(),
            warnings: self.of(Severity::Warning).collect(),
            information: self.of(Severity::Information).collect(),
        };
        form.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> ConfigReport {
        let mut report = ConfigReport::new();
        let form = "read as a pass phrase";
        report.add(
            Severity::Information,
            Finding::new("ENCRYPTION_KEY", Origin::SecretFile("KEY_FILE".into()), form),
        );
        let url = Finding::new("PUBLIC_URL", Origin::Default, "is not set")
            .mend("set it to the address that users type");
        report.add(Severity::Error, url);
        report.add(
            Severity::Warning,
            Finding::new("LOG_LEVEL", Origin::Flag("--log-level".into()), "is trace"),
        );
        report
    }

    #[test]
    fn text_lists_errors_first_with_their_mend() {
        assert_eq!(
            report().to_string(),
            "error: PUBLIC_URL (default): is not set; set it to the address that users type\n\
             warning: LOG_LEVEL (flag --log-level): is trace\n\
             info: ENCRYPTION_KEY (the file named by KEY_FILE): read as a pass phrase"
        );
        assert_eq!(ConfigReport::new().to_string(), "");
    }

    #[test]
    fn json_groups_by_severity() {
        assert_eq!(
            serde_json::to_value(report()).unwrap(),
            json!({
                "verdict": "invalid",
                "errors": [{"setting": "PUBLIC_URL", "origin": "default", "message": "is not set",
                            "mend": "set it to the address that users type"}],
                "warnings": [{"setting": "LOG_LEVEL", "origin": "flag --log-level", "message": "is trace"}],
                "information": [{"setting": "ENCRYPTION_KEY", "origin": "the file named by KEY_FILE",
                                 "message": "read as a pass phrase"}],
            })
        );
    }

    #[test]
    fn the_worst_finding_decides() {
        let mut all = ConfigReport::new();
        assert_eq!(all.verdict(), Verdict::Valid);
        let finding = || Finding::new("X", Origin::Environment("X".into()), "m");
        for (severity, verdict) in [
            (Severity::Information, Verdict::Valid),
            (Severity::Warning, Verdict::Warnings),
            (Severity::Error, Verdict::Invalid),
            (Severity::Warning, Verdict::Invalid),
        ] {
            let mut more = ConfigReport::new();
            more.add(severity, finding());
            all.extend(more);
            assert_eq!(all.verdict(), verdict);
        }
    }

    #[test]
    fn origins_read_well() {
        let origins = [
            Origin::Environment("A".into()),
            Origin::ConfigFile("./plimsoll.toml".into()),
            Origin::Generated,
        ];
        let text: Vec<_> = origins.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["environment variable A", "configuration file ./plimsoll.toml", "generated"]);
    }
}
