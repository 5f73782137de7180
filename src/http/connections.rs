//! The connections of the server: how many there may be, and how long one may be open without asking anything.
//!
//! A connection takes a place, and keeps it until its socket is closed: handshakes, requests and WebSockets alike. Where all are taken,
//! who comes waits, and others in the queue of the system; meanwhile the oldest connections are asked to end, which those that are idle
//! do at once and others after their answer. So who opens connections and is silent keeps nobody else out.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
};
use tower::Service;

use crate::{config::Config, env::Env};

/// How long those that were asked to end have before more of them are.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long a connection has for its first request before it may be asked to end.
const YOUNG: Duration = Duration::from_millis(500);
/// One of so many is asked at a time.
const ASKED_SHARE: usize = 64;

/// All of them.
pub(crate) struct Connections {
    /// How long a head may take to arrive.
    head_time_max: Duration,
    max: usize,
    places: Arc<Semaphore>,
    open: Mutex<Open>,
    env: Env,
}

/// Those that speak HTTP and were not asked to end, the oldest first.
#[derive(Default)]
struct Open {
    next: u64,
    /// Each with when it came.
    asks: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

impl Connections {
    pub(crate) fn new(config: &Config, env: &Env) -> Arc<Self> {
        let files = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        let max = config.connections_max.min(places_of(files));
        if max < config.connections_max {
            let wanted = config.connections_max;
            // Most machines are so, and it is well there.
            tracing::info!(
                "this process may open {files} files, so it holds {max} connections at once, and not {wanted}: raise ulimit -n"
            );
        }
        Arc::new(Self {
            head_time_max: config.head_time_max,
            max,
            places: Arc::new(Semaphore::new(max)),
            open: Mutex::default(),
            env: env.clone(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one up among those that can be asked to end.
    fn enter(self: &Arc<Self>) -> (Entered, oneshot::Receiver<()>) {
        let (ask, asked) = oneshot::channel();
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.asks.insert(number, (self.env.instant(), ask));
        (Entered { connections: Arc::clone(self), number }, asked)
    }

    /// Asks some of the oldest to end.
    fn ask_oldest(&self) {
        let now = self.env.instant();
        let mut open = self.open();
        for _ in 0..open.asks.len().div_ceil(ASKED_SHARE) {
            let Some(oldest) = open.asks.first_entry() else { return };
            if now.saturating_duration_since(oldest.get().0) < YOUNG {
                return;
            }
            // One that has ended meanwhile is as good.
            let _ = oldest.remove().1.send(());
        }
    }

    fn ask_all(&self) {
        for (_, ask) in std::mem::take(&mut self.open().asks).into_values() {
            let _ = ask.send(());
        }
    }
}

/// How many connections there may be in a process that may open so many files: it needs some for its store and for what it calls.
fn places_of(files: u64) -> usize {
    let kept = (files / 4).clamp(32, 4096);
    usize::try_from(files.saturating_sub(kept)).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)
}

/// A connection among [`Open`], until it is dropped.
struct Entered {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.open().asks.remove(&self.number);
    }
}

/// Accepts connections for which there is a place.
pub(crate) struct Gate {
    inner: TcpListener,
    connections: Arc<Connections>,
    /// Who waits for a place.
    waiting: Option<(TcpStream, SocketAddr)>,
    is_told: bool,
}

impl Gate {
    pub(crate) fn new(inner: TcpListener, connections: &Arc<Connections>) -> Self {
        Self { inner, connections: Arc::clone(connections), waiting: None, is_told: false }
    }

    /// How many there may be.
    pub(super) fn connections_max(&self) -> usize {
        self.connections.max
    }

    /// Waits for a place. The log says so once, and again when half of them were free in between.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        let Connections { places, max, .. } = &*self.connections;
        if places.available_permits() > max / 2 {
            self.is_told = false;
        }
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        if !self.is_told {
            self.is_told = true;
            tracing::warn!(
                "{max} connections are open, as many as may be: the oldest are asked to end, and new ones wait"
            );
        }
        loop {
            self.connections.ask_oldest();
            if let Ok(place) = tokio::time::timeout(ASK_EVERY, Arc::clone(places).acquire_owned()).await {
                return place.ok();
            }
        }
    }
}

impl Listener for Gate {
    type Io = Placed;
    type Addr = SocketAddr;

    /// # Cancel safety
    /// A dropped call loses nothing.
    async fn accept(&mut self) -> (Placed, SocketAddr) {
        loop {
            if self.waiting.is_none() {
                self.waiting = Some(Listener::accept(&mut self.inner).await);
            }
            let place = self.place().await;
            let Some((stream, address)) = self.waiting.take() else { continue };
            // Answers are written whole, so waiting for more to send only delays them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY is refused");
            }
            return (Placed { stream, _place: place }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A socket with its place.
pub(crate) struct Placed {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves what a listener accepts until `shutdown` ends, and then until the last connection has.
pub(crate) async fn serve<L: Listener<Addr = SocketAddr>>(
    mut listener: L,
    router: Router,
    connections: Arc<Connections>,
    shutdown: impl Future<Output = ()>,
) {
    // Made what it is for all requests, and not for each.
    let router = router.with_state(());
    let mut shutdown = pin!(shutdown);
    let (served, serving) = watch::channel(());
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (entered, asked) = connections.enter();
        let connection = attend(stream, address, router.clone(), connections.head_time_max, asked);
        let serving = serving.clone();
        tokio::spawn(async move {
            connection.await;
            drop((entered, serving));
        });
    }
    drop((listener, serving));
    connections.ask_all();
    served.closed().await;
}

/// One connection, until it ends, or it is asked to and has nothing under way.
async fn attend<Io>(
    stream: Io,
    address: SocketAddr,
    router: Router,
    head_time_max: Duration,
    asked: oneshot::Receiver<()>,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_time_max);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        _ = asked => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(client.address = %address.ip(), %error, "a connection ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_no_connections() {
        for (files, wanted) in [(0, 1), (40, 8), (500, 375), (1024, 768), (1 << 20, (1 << 20) - 4096)] {
            assert_eq!(places_of(files), wanted, "{files}");
        }
        assert!(places_of(u64::MAX) <= Semaphore::MAX_PERMITS);
    }
}
