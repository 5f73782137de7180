//! Looks whether a walker holds its thread, and starts another in its place.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use super::pool::{Crew, no_thread};
use crate::Result;

/// Looks this often within the bound of one poll.
const LOOKS: u32 = 4;

/// One thread that looks at the crews of all pools. It ends when this is dropped.
pub(crate) struct Supervisor {
    _until_dropped: mpsc::Sender<()>,
}

impl Supervisor {
    pub(crate) fn start(crews: Vec<Arc<Crew>>, hog_after: Duration) -> Result<Self> {
        let (until_dropped, stop) = mpsc::channel();
        let pause = (hog_after / LOOKS).max(Duration::from_millis(1));
        thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                while stop.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                    crews.iter().for_each(Crew::look);
                }
            })
            .map_err(no_thread)?;
        Ok(Self { _until_dropped: until_dropped })
    }
}
