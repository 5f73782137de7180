//! HTTP and WebSocket: from bytes to a [`Spawn`](crate::runtime::Spawn), and from an answer to bytes.
//!
//! No rule of the runtime is decided here. [`router`] lists every route; [`problem`] is the one place that gives errors their
//! status and shape.

mod extract;
mod health;
mod json;
mod problem;
mod router;
mod runs;
mod users;
mod walkers;
mod ws;

use std::{future::Future, sync::Arc};

use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::{Error, Result, runtime::Runtime};

/// What every handler needs.
pub(crate) struct State {
    pub(crate) runtime: Runtime,
    pub(crate) users: users::Users,
}

pub(crate) type Shared = Arc<State>;

/// The whole surface as a router, for tests without a socket.
///
/// # Errors
/// When the store cannot give the secret that tokens are signed with.
pub async fn app(runtime: Runtime) -> Result<axum::Router> {
    let users = users::Users::new(&runtime).await?;
    Ok(router::router(Arc::new(State { runtime, users })))
}

/// Serves until `shutdown` ends; requests under way are answered first.
///
/// # Errors
/// When the store or the socket fails.
pub async fn serve(
    listener: TcpListener,
    runtime: Runtime,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let app = app(runtime).await?;
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    let served = axum::serve(listener, app).with_graceful_shutdown(shutdown).await;
    served.map_err(|source| Error::Io { context: "the server's socket failed".to_owned(), source })
}
