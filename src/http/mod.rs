//! The HTTP and WebSocket server.
//!
//! Handlers read a request, ask the [`Runtime`] and write its answer; no rule about walkers lives here, and
//! nothing here knows the store. `router` lists the routes; `problem` is the only place where an error
//! becomes a status code.

mod asyncapi;
mod cors;
mod done;
pub(crate) mod email;
mod extract;
mod feed;
mod form;
mod govern;
mod health;
mod json;
mod keys;
mod openapi;
mod problem;
mod router;
mod runs;
mod shapes;
mod slash;
mod tokens;
pub(crate) mod users;
mod util;
mod viewer;
mod walkers;
mod webhook;
mod ws;

use std::{sync::Arc, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{Error, Result, runtime::Runtime};

/// How long open connections may take to end after the shutdown began.
const GRACE: Duration = Duration::from_secs(10);

/// What all handlers share.
pub(crate) struct Server {
    pub(crate) runtime: Runtime,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) users: users::Users,
    pub(crate) keys: keys::Keys,
    /// Requests with files that may be read yet.
    pub(crate) forms: Semaphore,
    pub(crate) stopping: Stopping,
}

/// Tells those who would stay for long that the server wants to end.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Ends once the shutdown begins; never in a server that cannot be shut down.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The routes over a runtime, for tests and for servers of one's own. Its sockets live as long as they like.
///
/// # Errors
/// When the store cannot keep the secret that signs login tokens.
pub async fn app(runtime: Runtime) -> Result<Router> {
    let (_, stopping) = watch::channel(false);
    build(runtime, Stopping(stopping)).await
}

/// Serves until `shutdown` ends, then lets open connections finish for a while; WebSockets are closed at
/// once.
///
/// # Errors
/// When the store cannot keep the secret that signs login tokens, or the listener breaks.
pub async fn serve(
    listener: TcpListener,
    runtime: Runtime,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut stopped = Stopping(stopping.clone());
    let router = build(runtime, Stopping(stopping)).await?;
    let listener = listener.tap_io(|stream| {
        // Answers are written whole, so waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY is refused");
        }
    });
    let stop = Arc::new(stop);
    let signal = {
        let stop = Arc::clone(&stop);
        async move {
            shutdown.await;
            // Nobody listening any more is as good.
            let _ = stop.send(true);
        }
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(signal).into_future();
    let hard_stop = async {
        stopped.wait().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => {
            served.map_err(|source| Error::Io { context: "serving HTTP".to_owned(), source })?;
        }
        () = hard_stop => tracing::warn!("connections were still open {GRACE:?} after the shutdown began"),
    }
    // Every socket and stream holds a receiver: this ends when the last of them has.
    drop(stopped);
    if tokio::time::timeout(GRACE, stop.closed()).await.is_err() {
        tracing::warn!("WebSockets were still open {GRACE:?} after the shutdown began");
    }
    Ok(())
}

async fn build(runtime: Runtime, stopping: Stopping) -> Result<Router> {
    let tokens = tokens::Tokens::new(&runtime).await?;
    let users = users::Users::new(&runtime)?;
    let keys = keys::Keys::new(&runtime).await?;
    let config = runtime.config().clone();
    let forms = Semaphore::new(form::FORMS_MAX);
    let server = Server { runtime, tokens, users, keys, forms, stopping };
    cors::open(router::router(Arc::new(server)), &config)
}
