//! The HTTP and WebSocket server.
//!
//! Handlers read a request, ask the [`Runtime`] and write its answer; no rule about walkers lives here, and
//! nothing here knows the store. `router` lists the routes; `problem` is the only place where an error
//! becomes a status code.

mod asyncapi;
mod codes;
mod connections;
mod cors;
mod counted;
mod done;
pub(crate) mod email;
mod extract;
mod feed;
mod form;
mod govern;
mod health;
mod json;
mod keys;
mod leave;
mod letters;
mod openapi;
mod places;
mod problem;
mod requests;
mod router;
mod runs;
mod shapes;
mod slash;
mod sso;
mod tls;
mod tokens;
pub(crate) mod users;
mod util;
mod verify;
mod viewer;
mod walkers;
mod webhook;
mod ws;

use std::{sync::Arc, time::Duration};

use axum::{Router, middleware};
use tokio::{net::TcpListener, sync::watch};

use self::connections::{Connections, Gate};
use crate::{Result, runtime::Runtime};

pub(crate) use self::tls::Tls;

/// How long open connections may take to end after the shutdown began.
const GRACE: Duration = Duration::from_secs(10);

/// What all handlers share.
pub(crate) struct Server {
    pub(crate) runtime: Runtime,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) users: users::Users,
    pub(crate) keys: keys::Keys,
    /// Those for requests with files.
    pub(crate) places: Arc<places::Places>,
    pub(crate) sso: sso::Sso,
    pub(crate) codes: codes::Codes,
    pub(crate) outbox: letters::Outbox,
    pub(crate) stopping: Stopping,
}

impl Server {
    async fn new(runtime: Runtime, stopping: Stopping, outbox: letters::Outbox) -> Result<Self> {
        Ok(Self {
            tokens: tokens::Tokens::new(&runtime).await?,
            users: users::Users::new(&runtime)?,
            keys: keys::Keys::new(&runtime).await?,
            codes: codes::Codes::new(&runtime).await?,
            places: Arc::default(),
            sso: sso::Sso::new(&runtime).await?,
            outbox,
            stopping,
            runtime,
        })
    }
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
    build(runtime, Stopping(stopping), letters::Outbox::new()).await
}

/// Serves until `shutdown` ends, then lets open connections finish for a while; WebSockets are closed at
/// once. With the settings `tls_cert` and `tls_key` it speaks TLS.
///
/// # Errors
/// When certificate and key do not fit, or the store cannot keep the secret that signs login tokens.
pub async fn serve(
    listener: TcpListener,
    runtime: Runtime,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let tls = Tls::of(runtime.config())?;
    serve_with(tls, listener, runtime, shutdown).await
}

/// [`serve`], with a certificate that was read before.
pub(crate) async fn serve_with(
    tls: Option<Tls>,
    listener: TcpListener,
    runtime: Runtime,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut stopped = Stopping(stopping.clone());
    let outbox = letters::Outbox::new();
    let connections = Connections::new(runtime.config(), runtime.env());
    let router = build(runtime, Stopping(stopping), outbox.clone()).await?;
    let stop = Arc::new(stop);
    let signal = {
        let stop = Arc::clone(&stop);
        async move {
            shutdown.await;
            // Nobody listening any more is as good.
            let _ = stop.send(true);
        }
    };
    let serving = async {
        let gate = Gate::new(listener, &connections);
        match tls {
            None => connections::serve(gate, router, connections, signal).await,
            Some(tls) => tokio::select! {
                () = connections::serve(tls.listener(gate), router, connections, signal) => {}
                () = tls.keep() => {}
            },
        }
    };
    let hard_stop = async {
        stopped.wait().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = serving => {}
        () = hard_stop => tracing::warn!("connections were still open {GRACE:?} after the shutdown began"),
    }
    if tokio::time::timeout(GRACE, outbox.empty()).await.is_err() {
        tracing::warn!(
            "letters to users were not sent {GRACE:?} after the shutdown began: their readers ask again"
        );
    }
    // Every socket and stream holds a receiver: this ends when the last of them has.
    drop(stopped);
    if tokio::time::timeout(GRACE, stop.closed()).await.is_err() {
        tracing::warn!("WebSockets were still open {GRACE:?} after the shutdown began");
    }
    Ok(())
}

async fn build(runtime: Runtime, stopping: Stopping, outbox: letters::Outbox) -> Result<Router> {
    let requests = Arc::new(requests::Requests::new(&runtime));
    let server = Server::new(runtime, stopping, outbox).await?;
    let config = server.runtime.config().clone();
    let router = cors::open(router::router(Arc::new(server)), &config)?;
    Ok(router.layer(middleware::from_fn_with_state(requests, requests::note)))
}
