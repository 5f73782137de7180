//! How the runs of a walker are driven: spans of time, retries, checkpoints, versions.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, LitFloat, LitInt, LitStr, Result, meta::ParseNestedMeta};

use crate::archetype::key;

/// Reads `= "1.5s"`, as an expression.
pub(crate) fn span(meta: &ParseNestedMeta<'_>) -> Result<TokenStream> {
    let text: LitStr = meta.value()?.parse()?;
    Ok(duration(parse_span(&text)?))
}

fn duration(span: Duration) -> TokenStream {
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}

fn parse_span(text: &LitStr) -> Result<Duration> {
    let refuse =
        || Error::new(text.span(), "write a span of time as \"250ms\", \"1.5s\", \"10m\", \"12h\" or \"7d\"");
    let value = text.value();
    let at = value.find(|letter: char| letter.is_ascii_alphabetic()).ok_or_else(refuse)?;
    let (number, unit) = value.split_at(at);
    let number: f64 = number.trim().parse().map_err(|_| refuse())?;
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(refuse()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| refuse())
}

/// `"1, 2"`.
pub(crate) fn versions(text: &LitStr) -> Result<Vec<u32>> {
    let refuse = |_| Error::new(text.span(), "write the versions as \"1, 2\"");
    text.value().split(',').map(|one| one.trim().parse().map_err(refuse)).collect()
}

/// `"a, b"`.
fn kinds(text: &LitStr) -> Vec<String> {
    text.value().split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// `checkpoint = "visits(100)"`.
#[derive(Clone, Copy)]
pub(crate) enum Checkpoints {
    End,
    Visits(u64),
    Every(Duration),
}

impl Checkpoints {
    pub(crate) fn parse(text: &LitStr) -> Result<Self> {
        let value = text.value();
        let inside = |word: &str| {
            let rest = value.trim().strip_prefix(word)?.trim_start();
            rest.strip_prefix('(')?.strip_suffix(')').map(str::trim)
        };
        if value.trim() == "end" {
            return Ok(Self::End);
        }
        if let Some(number) =
            inside("visits").and_then(|number| number.parse().ok()).filter(|number| *number > 0)
        {
            return Ok(Self::Visits(number));
        }
        if let Some(span) = inside("every") {
            return Ok(Self::Every(parse_span(&LitStr::new(span, text.span()))?));
        }
        Err(Error::new(text.span(), "use \"end\", \"visits(100)\" or \"every(5s)\""))
    }

    pub(crate) fn call(self, library: &syn::Path) -> TokenStream {
        let policy = match self {
            Self::End => quote!(End),
            Self::Visits(number) => quote!(Visits(#number)),
            Self::Every(span) => {
                let span = duration(span);
                quote!(Every(#span))
            }
        };
        quote!(.checkpoints(#library::walker::Checkpoints::#policy))
    }
}

/// `retry(attempts = 5, delay = "1s", …)`.
pub(crate) struct Retry {
    attempts: u32,
    delay: Duration,
    is_exponential: bool,
    delay_max: Option<Duration>,
    rest: Vec<TokenStream>,
}

impl Retry {
    pub(crate) fn parse(meta: &ParseNestedMeta<'_>) -> Result<Self> {
        let mut attempts = None;
        let mut retry = Self {
            attempts: 1,
            delay: Duration::from_secs(1),
            is_exponential: false,
            delay_max: None,
            rest: Vec::new(),
        };
        meta.parse_nested_meta(|meta| {
            match key(&meta).as_str() {
                "attempts" => attempts = Some(meta.value()?.parse::<LitInt>()?.base10_parse::<u32>()?),
                "delay" => retry.delay = parse_span(&meta.value()?.parse()?)?,
                "delay_max" => retry.delay_max = Some(parse_span(&meta.value()?.parse()?)?),
                "backoff" => {
                    let text: LitStr = meta.value()?.parse()?;
                    retry.is_exponential = match text.value().as_str() {
                        "fixed" => false,
                        "exponential" => true,
                        _ => return Err(Error::new(text.span(), "use \"fixed\" or \"exponential\"")),
                    };
                }
                "jitter" => {
                    let part: LitFloat = meta.value()?.parse()?;
                    retry.rest.push(quote!(.jitter(#part)));
                }
                "on" => {
                    let kinds = kinds(&meta.value()?.parse()?);
                    retry.rest.push(quote!(.on(&[#(#kinds),*])));
                }
                "never_on" => {
                    let kinds = kinds(&meta.value()?.parse()?);
                    retry.rest.push(quote!(.never_on(&[#(#kinds),*])));
                }
                "after_timeout" => retry.rest.push(quote!(.after_timeout())),
                _ => {
                    return Err(meta.error(
                        "unknown: use attempts, delay, delay_max, backoff, jitter, on, never_on or after_timeout",
                    ));
                }
            }
            Ok(())
        })?;
        retry.attempts = attempts
            .filter(|attempts| *attempts > 0)
            .ok_or_else(|| meta.error("say how many attempts there are in all: retry(attempts = 5)"))?;
        if retry.delay_max.is_some() && !retry.is_exponential {
            return Err(meta.error("delay_max bounds an exponential backoff: add backoff = \"exponential\""));
        }
        Ok(retry)
    }

    pub(crate) fn call(self, library: &syn::Path) -> TokenStream {
        let Self { attempts, delay, is_exponential, delay_max, rest } = self;
        let longest = duration(delay_max.unwrap_or(LONGEST));
        let delay = duration(delay);
        let made = if is_exponential {
            quote!(exponential(#attempts, #delay, #longest))
        } else {
            quote!(fixed(#attempts, #delay))
        };
        quote!(.retry(#library::walker::Retry::#made #(#rest)*))
    }
}

/// The bound of an exponential backoff that names none.
const LONGEST: Duration = Duration::from_secs(600);
