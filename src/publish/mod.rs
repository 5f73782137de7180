//! How facts reach those who wait for them.
//!
//! [`Runs`] carries the numbered events of runs to subscribers; [`Sockets`] carries unnumbered pushes to open WebSockets.
//! Neither ever holds a walker up: a subscriber that lags is sent back to the store, a socket that does not read loses pushes.

mod runs;
mod sockets;

pub use runs::{Frame, Runs};
pub use sockets::{Joined, Sockets, Target};
