//! The log of this process, on standard error: text for people, or one JSON object a line with the names of the Elastic Common Schema.

use std::{env::VarError, fmt, io::Write};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::MakeWriter,
    layer::{Context, SubscriberExt},
    registry::{LookupSpan, Scope},
    util::SubscriberInitExt,
};

use crate::{
    Error, Result,
    config::{Config, LogFormat},
    env::Env,
};

/// The version whose names are used. They are older, and did not change.
const ECS_VERSION: &str = "9.0.0";
/// The most bytes of one text in a line.
const TEXT_MAX: usize = 32 << 10;

/// Begins the log: what is in it is said by the level of the settings, and by `RUST_LOG` for what that names.
///
/// # Errors
/// [`Error::Config`] when `RUST_LOG` cannot be read.
pub(crate) fn begin(config: &Config) -> Result<()> {
    let more = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) => text,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(_)) => return Err(Error::Config("RUST_LOG is no UTF-8".to_owned())),
    };
    let filter = filter(config.log_level, &more)?;
    let registry = tracing_subscriber::registry().with(filter);
    // A second program in one process has its log already.
    match config.log_format {
        LogFormat::Text => {
            drop(registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).try_init());
        }
        LogFormat::Ecs => {
            if registry.with(Ecs { env: Env::system(), writer: std::io::stderr }).try_init().is_ok() {
                log_panics();
            }
        }
    }
    Ok(())
}

/// Of two directives for the same the later one holds. An empty text is none.
fn filter(level: LevelFilter, more: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(format!("{level},{more}")).map_err(|error| {
        Error::Config(format!(
            "RUST_LOG is {more:?}, and should be levels by the names of modules, as walkabout=debug,info: {error}"
        ))
    })
}

/// What panics say would stand between the lines else.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map(|at| (at.file(), at.line())).unzip();
        let thread = std::thread::current();
        tracing::error!(
            error.message = panic.payload_as_str(),
            log.origin.file.name = file,
            log.origin.file.line = line,
            process.thread.name = thread.name(),
            "a thread panicked"
        );
    }));
}

/// Writes events, with the fields of the spans around them.
struct Ecs<W> {
    env: Env,
    writer: W,
}

impl<S, W> Layer<S> for Ecs<W>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let about = event.metadata();
        let mut line = Fields::default();
        line.put("@timestamp", self.env.now().to_string());
        line.put("log.level", about.level().as_str().to_ascii_lowercase());
        // Its place is here, before the fields of spans.
        line.put("message", "");
        line.put("ecs.version", ECS_VERSION);
        line.put("log.logger", about.target());
        line.put("process.pid", std::process::id());
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(Fields(fields)) = span.extensions().get() {
                line.0.extend(fields.clone());
            }
        }
        event.record(&mut line);
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        // Nobody reads when standard error is closed.
        drop(self.writer.make_writer_for(about).write_all(text.as_bytes()));
    }
}

/// Fields by their names.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let name = match name {
            // An object there.
            "error" => "error.message",
            name => name.trim_start_matches("r#"),
        };
        self.0.insert(name.to_owned(), value.into());
    }

    fn put_text(&mut self, field: &Field, text: &str) {
        self.put(field.name(), &text[..text.floor_char_boundary(TEXT_MAX)]);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use walkabout_schema::Timestamp;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written while something is done.
    fn lines(work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let env = Env::manual(Timestamp::from_millis(1), 1);
        let layer = Ecs { env, writer: move || writer.clone() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let bytes = lines.0.lock().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_an_object() {
        let pid = std::process::id();
        let written = lines(|| {
            let outer = tracing::info_span!("outer", a = 1, b = "outer", late = tracing::field::Empty);
            let _outer = outer.enter();
            outer.record("late", true);
            let _inner = tracing::info_span!("inner", b = "inner").entered();
            tracing::warn!(error = %"two\nlines", c.d = -1.5, "told {}", 3);
        });
        let wanted = json!({
            "@timestamp": "1970-01-01T00:00:00.001Z", "log.level": "warn", "message": "told 3", "ecs.version": "9.0.0",
            "log.logger": "walkabout::log::tests", "process.pid": pid,
            "a": 1, "b": "inner", "late": true, "error.message": "two\nlines", "c.d": -1.5,
        });
        assert_eq!(written, std::slice::from_ref(&wanted));
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&written[0]), names(&wanted));
    }

    #[test]
    fn rust_log_says_more() {
        let shown = |more: &str| {
            let mut parts: Vec<String> =
                filter(LevelFilter::WARN, more).unwrap().to_string().split(',').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        assert_eq!(shown(""), ["warn"]);
        assert_eq!(shown("walkabout=debug"), ["walkabout=debug", "warn"]);
        assert_eq!(shown("hyper=off,error"), ["error", "hyper=off"]);
        for unfit in ["walkabout=chatty", "a=b=c"] {
            let told = filter(LevelFilter::WARN, unfit).unwrap_err().to_string();
            assert!(told.contains("RUST_LOG is ") && told.contains("as walkabout=debug,info"), "{told}");
        }
    }

    #[test]
    fn texts_are_bounded() {
        let written = lines(|| tracing::info!(long = "ä".repeat(TEXT_MAX), "x{}", "y".repeat(TEXT_MAX)));
        assert_eq!(written[0]["long"].as_str().unwrap().len(), TEXT_MAX);
        assert_eq!(written[0]["message"].as_str().unwrap().len(), TEXT_MAX);
    }
}
