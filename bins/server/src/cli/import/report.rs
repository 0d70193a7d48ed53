//! What became of each row.

use serde_json::{Value, json};

use super::rows::{BadRow, Row};

/// What became of a row.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is in, where there was none.
    Imported { last4: String },
    /// It is in, in the place of another one.
    Replaced { last4: String },
    /// It was in already.
    Present { last4: String },
    /// Nothing was done, for this reason.
    Failed(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Imported { .. } => "imported",
            Self::Replaced { .. } => "replaced",
            Self::Present { .. } => "present",
            Self::Failed(_) => "failed",
        }
    }

    fn last4(&self) -> Option<&str> {
        match self {
            Self::Imported { last4 } | Self::Replaced { last4 } | Self::Present { last4 } => Some(last4),
            Self::Failed(_) => None,
        }
    }

    fn reason(&self) -> Option<&str> {
        if let Self::Failed(why) = self { Some(why) } else { None }
    }
}

/// One row of the report. Texts of the file are shortened and without control characters.
#[derive(Debug)]
pub(super) struct Line {
    line: u64,
    email: String,
    broker: String,
    environment: String,
    outcome: Outcome,
}

/// Characters of a text of the file that are shown.
const SHOWN: usize = 100;

fn shown(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}

impl Line {
    pub(super) fn of(row: &Row, outcome: Outcome) -> Self {
        let (email, broker, environment) = (shown(&row.email), shown(&row.broker), shown(&row.environment));
        Self { line: row.line, email, broker, environment, outcome }
    }

    pub(super) fn unreadable(bad: BadRow) -> Self {
        let nothing = String::new;
        let outcome = Outcome::Failed(bad.why);
        Self { line: bad.line, email: nothing(), broker: nothing(), environment: nothing(), outcome }
    }

    fn in_json(&self) -> Value {
        json!({
            "line": self.line,
            "email": self.email,
            "broker": self.broker,
            "environment": self.environment,
            "outcome": self.outcome.word(),
            "key_last4": self.outcome.last4(),
            "reason": self.outcome.reason(),
        })
    }

    fn in_words(&self) -> String {
        let Self { line, email, broker, environment, outcome } = self;
        let word = outcome.word();
        match (outcome.reason(), outcome.last4()) {
            (Some(why), _) => format!("line {line}  {email}  {word}: {why}"),
            (None, last4) => {
                let last4 = last4.unwrap_or_default();
                format!("line {line}  {email}  {word}: {broker} {environment}, key ends in {last4}")
            }
        }
    }
}

/// All rows: told one by one as text, or together as JSON.
#[derive(Debug)]
pub(super) struct Report {
    dry_run: bool,
    as_json: bool,
    lines: Vec<Value>,
    rows: u64,
    failed: u64,
}

impl Report {
    pub(super) fn new(dry_run: bool, as_json: bool) -> Self {
        Self { dry_run, as_json, lines: Vec::new(), rows: 0, failed: 0 }
    }

    pub(super) fn add(&mut self, line: Line) {
        self.rows += 1;
        self.failed += u64::from(line.outcome.reason().is_some());
        if self.as_json {
            self.lines.push(line.in_json());
        } else {
            println!("{}", line.in_words());
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn finish(&self) {
        let fine = self.rows - self.failed;
        if self.as_json {
            let all = json!({
                "dry_run": self.dry_run, "rows": self.lines, "in": fine, "failed": self.failed,
            });
            println!("{}", serde_json::to_string_pretty(&all).expect("texts and numbers serialise"));
        } else {
            let verb = if self.dry_run { "would be in (nothing was changed)" } else { "are in" };
            println!("{fine} of {} rows {verb}, {} failed", self.rows, self.failed);
        }
    }
}
