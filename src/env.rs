//! The only door to time and chance. Everything else receives an [`Env`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use uuid::Uuid;
use walkabout_schema::Timestamp;

/// Clock, random numbers and ids. A cheap handle.
#[derive(Clone)]
pub struct Env {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    state: Mutex<Chance>,
}

enum Clock {
    System,
    /// The time, for those who read it and for those who wait for it.
    Manual(watch::Sender<i64>),
}

/// A wait on the system's clock looks at it this often: it may be set while somebody waits.
const LOOK: Duration = Duration::from_secs(1);

struct Chance {
    rng: StdRng,
    last_millis: i64,
    counter: u64,
}

impl Env {
    /// The machine's clock, and random numbers from the operating system.
    pub fn system() -> Self {
        Self::build(Clock::System, StdRng::from_os_rng())
    }

    /// A clock that moves only by [`Env::advance`] and [`Env::step_back`], and random numbers from a seed.
    pub fn manual(start: Timestamp, seed: u64) -> Self {
        Self::build(Clock::Manual(watch::channel(start.millis()).0), StdRng::seed_from_u64(seed))
    }

    fn build(clock: Clock, rng: StdRng) -> Self {
        Self {
            inner: Arc::new(Inner { clock, state: Mutex::new(Chance { rng, last_millis: 0, counter: 0 }) }),
        }
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn now(&self) -> Timestamp {
        match &self.inner.clock {
            Clock::System => {
                let since =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Manual(millis) => Timestamp::from_millis(*millis.borrow()),
        }
    }

    /// A reading for measuring spans; of the machine in every kind of `Env`.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Moves a manual clock; without effect on the system's.
    pub fn advance(&self, span: Duration) {
        self.shift(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    }

    /// Moves a manual clock back, as an operator or a time server may; without effect on the system's.
    pub fn step_back(&self, span: Duration) {
        self.shift(-i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    }

    fn shift(&self, millis: i64) {
        if let Clock::Manual(now) = &self.inner.clock {
            now.send_modify(|now| *now = now.saturating_add(millis));
        }
    }

    /// Waits until the clock shows a time, or a later one. When the clock is set, the wait goes by what it shows then.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &self.inner.clock {
            Clock::System => loop {
                let left = at.since(self.now());
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(LOOK)).await;
            },
            Clock::Manual(now) => {
                // The sender lives as long as this.
                drop(now.subscribe().wait_for(|now| *now >= at.millis()).await);
            }
        }
    }

    /// A new version 7 id. Ids of one `Env` rise strictly, also within a millisecond and when the clock steps back.
    pub fn id(&self) -> Uuid {
        let now = self.now().millis();
        let mut chance = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now > chance.last_millis {
            chance.last_millis = now;
            // 41 random bits leave room for the counter to rise within the millisecond.
            chance.counter = chance.rng.next_u64() >> 23;
        } else {
            chance.counter += 1;
        }
        let (millis, counter, tail) =
            (chance.last_millis.unsigned_abs(), chance.counter, chance.rng.next_u32());
        drop(chance);
        // 48 bits of time, version, 12 bits of counter, variant, 30 bits of counter, 32 of chance (RFC 9562, 5.7, 6.2).
        let high = (millis << 16) | 0x7000 | ((counter >> 30) & 0x0fff);
        let low = (0b10 << 62) | ((counter & 0x3fff_ffff) << 32) | u64::from(tail);
        Uuid::from_u64_pair(high, low)
    }

    /// A random number from 0 to 1.
    pub fn chance(&self) -> f64 {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).rng.random()
    }

    /// Fills a buffer with random bytes.
    pub fn random(&self, bytes: &mut [u8]) {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).rng.fill_bytes(bytes);
    }

    /// Random bytes as hexadecimal text, two digits a byte.
    pub fn random_hex(&self, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        self.random(&mut buffer);
        buffer.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
