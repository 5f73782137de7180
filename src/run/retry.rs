//! What becomes of an attempt that did not end well.

use std::time::Duration;

/// How often, and how soon, a failed attempt is followed by another.
///
/// ```
/// # use std::time::Duration;
/// use walkabout::walker::Retry;
/// let retry = Retry::exponential(5, Duration::from_secs(1), Duration::from_secs(60)).never_on(&["no-such-customer"]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    attempts: u32,
    delay: Duration,
    factor: f64,
    delay_max: Duration,
    jitter: f64,
    on: Option<Vec<&'static str>>,
    never_on: Vec<&'static str>,
    after_timeout: bool,
}

impl Default for Retry {
    /// One attempt, and no other.
    fn default() -> Self {
        Self::fixed(1, Duration::ZERO)
    }
}

impl Retry {
    /// At most this many attempts in all, each this long after the one before. Delays vary by a tenth: see [`Retry::jitter`].
    pub fn fixed(attempts: u32, delay: Duration) -> Self {
        Self {
            attempts: attempts.max(1),
            delay,
            factor: 1.0,
            delay_max: delay,
            jitter: 0.1,
            on: None,
            never_on: Vec::new(),
            after_timeout: false,
        }
    }

    /// At most this many attempts in all; the first delay doubles with each of them, up to a bound. Delays vary by a tenth.
    pub fn exponential(attempts: u32, delay: Duration, delay_max: Duration) -> Self {
        Self { factor: 2.0, delay_max, ..Self::fixed(attempts, delay) }
    }

    /// Delays vary by up to this part of themselves, either way: 0 not at all, 1 between nothing and twice as long.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// Only errors of these kinds: what `Failure::kind` named, else the slug of the error, such as `walker-panicked`.
    #[must_use]
    pub fn on(mut self, kinds: &[&'static str]) -> Self {
        self.on = Some(kinds.to_vec());
        self
    }

    /// No errors of these kinds, whatever else is said.
    #[must_use]
    pub fn never_on(mut self, kinds: &[&'static str]) -> Self {
        self.never_on = kinds.to_vec();
        self
    }

    /// Also an attempt that ended because a visit took too long. A run whose own time is over is never tried again.
    #[must_use]
    pub fn after_timeout(mut self) -> Self {
        self.after_timeout = true;
        self
    }

    /// The delay before the attempt that follows `failed` failed ones. `chance` is from 0 to 1.
    pub(crate) fn delay(&self, failed: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.delay.as_secs_f64() * self.factor.powi(exponent);
        let bounded = grown.min(self.delay_max.as_secs_f64());
        let spread = 1.0 + self.jitter * (2.0 * chance - 1.0);
        Duration::try_from_secs_f64(bounded * spread).unwrap_or(self.delay_max)
    }

    /// The most attempts when an ability itself asks for another.
    fn attempts_when_asked(&self) -> u32 {
        if self.attempts > 1 { self.attempts } else { ATTEMPTS_WHEN_ASKED }
    }

    fn covers(&self, kind: &str) -> bool {
        let listed = self.on.as_ref().is_none_or(|on| on.contains(&kind));
        listed && !self.never_on.contains(&kind)
    }
}

/// How many attempts an ability of a walker without a policy may ask for, the first included.
const ATTEMPTS_WHEN_ASKED: u32 = 10;

/// What an ability, or the runtime, said of the attempt's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Wish {
    /// Nothing: the walker's policy decides.
    #[default]
    Policy,
    /// Another attempt after this long, as long as there are some left.
    RetryAfter(Duration),
    /// The same attempt again after this long.
    Snooze(Duration),
    /// The run is to end as cancelled.
    Cancel,
    /// The run is to end as failed.
    FailForGood,
}

/// An attempt that did not end well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended<'a> {
    pub(crate) kind: &'a str,
    /// A visit of it took too long.
    pub(crate) timed_out: bool,
    pub(crate) wish: Wish,
    /// How many attempts failed before it.
    pub(crate) failed_before: u32,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Retry(Duration),
    Snooze(Duration),
    Cancel,
    TimeOut,
    Fail,
}

/// Decides. `chance` is from 0 to 1.
pub(crate) fn decide(policy: &Retry, ended: Ended<'_>, chance: f64) -> Verdict {
    let failed = ended.failed_before.saturating_add(1);
    let is_left = failed < policy.attempts;
    match ended.wish {
        Wish::Snooze(after) => Verdict::Snooze(after),
        Wish::Cancel => Verdict::Cancel,
        Wish::FailForGood => Verdict::Fail,
        Wish::RetryAfter(after) if failed < policy.attempts_when_asked() => Verdict::Retry(after),
        Wish::RetryAfter(_) => Verdict::Fail,
        Wish::Policy if ended.timed_out => {
            if is_left && policy.after_timeout {
                Verdict::Retry(policy.delay(failed, chance))
            } else {
                Verdict::TimeOut
            }
        }
        Wish::Policy if is_left && policy.covers(ended.kind) => Verdict::Retry(policy.delay(failed, chance)),
        Wish::Policy => Verdict::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ended(kind: &str, failed_before: u32) -> Ended<'_> {
        Ended { kind, timed_out: false, wish: Wish::Policy, failed_before }
    }

    #[test]
    fn delays_grow_to_their_bound() {
        let policy = Retry::exponential(10, SECOND, 5 * SECOND).jitter(0.0);
        let delays: Vec<u64> = (1..=5).map(|failed| policy.delay(failed, 0.7).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        assert_eq!(Retry::fixed(3, SECOND).jitter(0.0).delay(3, 0.0), SECOND);
        assert_eq!(policy.delay(u32::MAX, 1.0), 5 * SECOND);
    }

    #[test]
    fn jitter_stays_in_its_part() {
        let policy = Retry::fixed(3, SECOND).jitter(0.5);
        assert_eq!(policy.delay(1, 0.0), SECOND / 2);
        assert_eq!(policy.delay(1, 1.0), SECOND * 3 / 2);
        assert_eq!(policy.delay(1, 0.5), SECOND);
    }

    #[test]
    fn policies_decide() {
        let never = Retry::default();
        assert_eq!(decide(&never, ended("walker-failed", 0), 0.5), Verdict::Fail);
        let twice = Retry::fixed(2, SECOND).jitter(0.0);
        assert_eq!(decide(&twice, ended("walker-failed", 0), 0.5), Verdict::Retry(SECOND));
        assert_eq!(decide(&twice, ended("walker-failed", 1), 0.5), Verdict::Fail);
        let some = twice.clone().on(&["busy", "gone"]).never_on(&["gone"]);
        for (kind, verdict) in
            [("busy", Verdict::Retry(SECOND)), ("gone", Verdict::Fail), ("x", Verdict::Fail)]
        {
            assert_eq!(decide(&some, ended(kind, 0), 0.5), verdict, "{kind}");
        }
        let timed_out = Ended { timed_out: true, ..ended("timed-out", 0) };
        assert_eq!(decide(&twice, timed_out, 0.5), Verdict::TimeOut);
        assert_eq!(decide(&twice.clone().after_timeout(), timed_out, 0.5), Verdict::Retry(SECOND));
    }

    #[test]
    fn wishes_come_first() {
        let twice = Retry::fixed(2, SECOND);
        let wish = |wish, failed_before| decide(&twice, Ended { wish, ..ended("x", failed_before) }, 0.5);
        assert_eq!(wish(Wish::RetryAfter(7 * SECOND), 0), Verdict::Retry(7 * SECOND));
        assert_eq!(wish(Wish::RetryAfter(7 * SECOND), 1), Verdict::Fail);
        let none = Retry::default();
        let asked = |failed_before| {
            decide(&none, Ended { wish: Wish::RetryAfter(SECOND), ..ended("x", failed_before) }, 0.5)
        };
        assert_eq!((asked(8), asked(9)), (Verdict::Retry(SECOND), Verdict::Fail), "without a policy");
        assert_eq!(wish(Wish::Snooze(SECOND), 99), Verdict::Snooze(SECOND));
        assert_eq!(wish(Wish::Cancel, 0), Verdict::Cancel);
        assert_eq!(wish(Wish::FailForGood, 0), Verdict::Fail);
    }
}
