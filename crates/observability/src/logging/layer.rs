use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;
use super::redaction::{REDACTED, is_secret_name, scrub};
use super::repeats::{Repeats, Verdict};

/// Writes each event as one line, with the fields of the spans around it. Secrets are taken out before anything is
/// formatted, those in span fields too.
#[derive(Debug)]
pub struct LogLayer<W> {
    format: LogFormat,
    writer: W,
    repeats: Repeats,
}

impl<W> LogLayer<W> {
    /// A layer that writes to what `writer` makes; a line is one `write` call.
    pub fn new(format: LogFormat, writer: W) -> Self
    where
        W: for<'a> MakeWriter<'a> + 'static,
    {
        Self { format, writer, repeats: Repeats::default() }
    }
}

/// Fields of an event or span, clean already. The last value of a name wins.
#[derive(Default)]
struct Fields {
    message: String,
    /// The target of an event that came from the `log` crate.
    log_target: Option<String>,
    values: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        let name = field.name().trim_start_matches("r#");
        let value = if is_secret_name(name) { REDACTED.into() } else { value() };
        self.values.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = scrub(value).into_owned(),
            "log.target" => self.log_target = Some(value.to_owned()),
            "log.module_path" | "log.file" => {}
            _ => self.insert(field, || scrub(value).into_owned().into()),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = scrub(&format!("{value:?}")).into_owned(),
            _ => self.insert(field, || scrub(&format!("{value:?}")).into_owned().into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() != "log.line" {
            self.insert(field, || value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, || value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, || value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, || value.into());
    }

    /// The whole chain of causes.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, || {
            let mut text = value.to_string();
            let mut cause = value.source();
            while let Some(error) = cause {
                let _ = write!(text, ": {error}");
                cause = error.source();
            }
            scrub(&text).into_owned().into()
        });
    }
}

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()).map(|span| {
            let values = span.extensions().get::<Fields>().map(|fields| fields.values.clone());
            (span.name(), values.unwrap_or_default())
        });
        let spans: Vec<_> = spans.collect();
        if *event.metadata().level() <= Level::WARN {
            let text = (event.metadata().target(), &fields.message, &fields.values, &spans);
            match self.repeats.judge(format!("{text:?}"), Instant::now()) {
                Verdict::Write => {}
                Verdict::WriteAfter(count) => {
                    fields.values.insert("repeated".into(), count.into());
                }
                Verdict::Skip => return,
            }
        }
        let line = Line {
            time: timestamp(),
            level: event.metadata().level().as_str(),
            target: fields.log_target.as_deref().unwrap_or(event.metadata().target()),
            message: &fields.message,
            fields: &fields.values,
            spans,
        };
        let text = match self.format {
            LogFormat::Pretty => line.pretty(),
            LogFormat::Json => line.json(),
        };
        // There is nowhere to report that the log itself cannot be written.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(text.as_bytes());
    }
}

fn timestamp() -> String {
    let mut time = String::with_capacity(32);
    // The only error is one of the string itself, which has none.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

struct Line<'a> {
    time: String,
    level: &'static str,
    target: &'a str,
    message: &'a str,
    fields: &'a Map<String, Value>,
    spans: Vec<(&'static str, Map<String, Value>)>,
}

impl Line<'_> {
    /// `{"timestamp","level","target","message","fields":{…},"spans":[{"name",…}]}`; empty parts are left out.
    fn json(&self) -> String {
        let mut line = Map::new();
        line.insert("timestamp".into(), self.time.as_str().into());
        line.insert("level".into(), self.level.into());
        line.insert("target".into(), self.target.into());
        line.insert("message".into(), self.message.into());
        if !self.fields.is_empty() {
            line.insert("fields".into(), self.fields.clone().into());
        }
        if !self.spans.is_empty() {
            let spans = self.spans.iter().map(|(name, values)| {
                let mut span = values.clone();
                span.insert("name".into(), (*name).into());
                Value::from(span)
            });
            line.insert("spans".into(), spans.collect());
        }
        format!("{}\n", Value::from(line))
    }

    /// `2026-11-24T10:00:00.000000Z  INFO target: message key=value [span key=value]`.
    fn pretty(&self) -> String {
        let mut line = format!("{} {:>5} {}: {}", self.time, self.level, self.target, escape(self.message));
        push_pairs(&mut line, self.fields);
        for (name, values) in &self.spans {
            line.push_str(" [");
            line.push_str(name);
            push_pairs(&mut line, values);
            line.push(']');
        }
        line.push('\n');
        line
    }
}

fn push_pairs(line: &mut String, values: &Map<String, Value>) {
    for (name, value) in values {
        let plain = match value {
            Value::String(text) => {
                let quoted =
                    text.is_empty() || text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '='));
                if quoted { format!("{text:?}") } else { escape(text) }
            }
            other => other.to_string(),
        };
        line.extend([" ", name, "=", &plain]);
    }
}

/// Control characters, line ends and terminal sequences among them, in their `\u{…}` form.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
        clean
    })
}
