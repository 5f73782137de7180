//! TLS: a listener whose handshakes hold up nobody, and a certificate that changes while the server runs.
//!
//! A handshake is a task of its own, with a bound on its time, and on how many there are: beyond it the oldest is given up, so
//! those who begin handshakes and do not end them keep nobody else out. A changed certificate counts for connections from then on.

use std::{
    collections::VecDeque,
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        Error as TlsError, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use super::connections::{Gate, Placed};
use crate::{Error, Result, config::Config};

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes under way, and half of all connections at most.
const HANDSHAKES_MAX: usize = 1024;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long reading them may take: a file system of another machine may never answer.
const READ_MAX: Duration = Duration::from_secs(10);
/// Certificates are small; what is larger is something else.
const BYTES_MAX: u64 = 1 << 20;

/// The certificate that is shown to clients, and the files that it comes from.
pub(crate) struct Tls {
    files: Files,
    /// What the last look found.
    seen: std::result::Result<Pair, String>,
    /// A look that has not ended.
    pending: Option<oneshot::Receiver<std::result::Result<Pair, String>>>,
    current: watch::Sender<Arc<ServerConfig>>,
    hangups: Signal,
}

#[derive(Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// The bytes of both.
#[derive(PartialEq)]
struct Pair {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// That of the settings; none when they name no certificate. From now on SIGHUP is a reason to look at the files, and no end.
    ///
    /// # Errors
    /// [`Error::Config`] when the files cannot be read or do not belong together.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>> {
        let cert = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), _) => cert.clone(),
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(Error::Config("tls_key is set, and tls_cert is not".to_owned())),
        };
        let key = config.tls_key.clone().unwrap_or_else(|| cert.clone());
        let files = Files { cert, key };
        let pair = files.read().map_err(Error::Config)?;
        let current = files.server(&pair).map_err(Error::Config)?;
        let seen = match files.are_regular() {
            Ok(()) => Ok(pair),
            Err(why) => {
                tracing::warn!("{why}: another certificate takes another start");
                Err(why)
            }
        };
        if is_open_to_all(&files.key) {
            tracing::warn!("{} is a private key that everybody may read: chmod 600 it", files.key.display());
        }
        let hangups = signal(SignalKind::hangup())
            .map_err(|source| Error::Io { context: "listening for SIGHUP".to_owned(), source })?;
        Ok(Some(Self { files, seen, pending: None, current: watch::channel(current).0, hangups }))
    }

    /// Serves it on a listener.
    pub(crate) fn listener(&self, inner: Gate) -> Secured {
        Secured {
            max: HANDSHAKES_MAX.min(inner.connections_max().div_ceil(2)),
            inner,
            current: self.current.subscribe(),
            handshakes: JoinSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Looks at the files now and then, and when it is told to. Never ends.
    pub(crate) async fn keep(mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = looks.tick() => false,
                Some(()) = self.hangups.recv() => true,
            };
            self.look(is_asked).await;
        }
    }

    /// Takes what the files hold when that is new, or somebody asks. A pair that is broken is told once, and leaves what is served.
    async fn look(&mut self, is_asked: bool) {
        let mut read = self.pending.take().unwrap_or_else(|| self.files.read_apart());
        let found = match tokio::time::timeout(READ_MAX, &mut read).await {
            Ok(found) => found.unwrap_or_else(|_| Err("the thread that reads it ended".to_owned())),
            Err(_) => {
                self.pending = Some(read);
                let Files { cert, key } = &self.files;
                Err(format!("{} and {} are not read after {READ_MAX:?}", cert.display(), key.display()))
            }
        };
        if found == self.seen && !is_asked {
            return;
        }
        let server = found.as_ref().map_err(Clone::clone).and_then(|pair| self.files.server(pair));
        match server {
            Ok(server) => {
                self.current.send_replace(server);
                tracing::info!(file.path = %self.files.cert.display(), "the certificate is read again");
            }
            Err(error) => tracing::error!(error, "the certificate stays the one that was read before"),
        }
        self.seen = found;
    }
}

impl Files {
    fn read(&self) -> std::result::Result<Pair, String> {
        Ok(Pair { cert: bytes("tls_cert", &self.cert)?, key: bytes("tls_key", &self.key)? })
    }

    /// Reads them again, on a thread that nobody waits for when the process ends.
    fn read_apart(&self) -> oneshot::Receiver<std::result::Result<Pair, String>> {
        let (done, read) = oneshot::channel();
        let files = self.clone();
        let look = move || done.send(files.are_regular().and_then(|()| files.read()));
        // Without a thread nothing is ever sent, which is told.
        drop(std::thread::Builder::new().spawn(look));
        read
    }

    /// Whether both can be read again. What a pipe held is gone, and the next one to read it would wait for a writer.
    fn are_regular(&self) -> std::result::Result<(), String> {
        for (name, path) in [("tls_cert", &self.cert), ("tls_key", &self.key)] {
            let about = std::fs::metadata(path).map_err(|error| unreadable(name, path, &error))?;
            if !about.is_file() {
                return Err(format!("{name} {} is no regular file, so it is not read again", path.display()));
            }
        }
        Ok(())
    }

    /// What a pair of them serves: TLS 1.2 and 1.3, and HTTP/1.1.
    fn server(&self, pair: &Pair) -> std::result::Result<Arc<ServerConfig>, String> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let chain = CertificateDer::pem_slice_iter(&pair.cert).collect::<std::result::Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("tls_cert {cert} is no PEM: {error}"))?;
        if chain.is_empty() {
            return Err(format!(
                "tls_cert {cert} holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
            ));
        }
        let secret = PrivateKeyDer::from_pem_slice(&pair.key).map_err(|_| {
            let is_encrypted = pair.key.windows(9).any(|window| window == b"ENCRYPTED");
            let why = if is_encrypted {
                "is encrypted: store it without a password, for its owner alone"
            } else {
                "holds no private key in PEM"
            };
            format!("tls_key {key} {why}")
        })?;
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|error| match error {
                TlsError::InconsistentKeys(_) => {
                    format!("the key in {key} is not that of the first certificate in {cert}")
                }
                TlsError::InvalidCertificate(_) => {
                    format!(
                        "tls_cert {cert} holds what is no X.509 certificate between its PEM lines: {error}"
                    )
                }
                error => format!("{cert} and {key} cannot be served: {error}"),
            });
        let mut server = server?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }
}

/// The bytes of a file that a setting names.
fn bytes(name: &str, path: &Path) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(read) if read as u64 > BYTES_MAX => {
            Err(format!("{name} {} has more than {BYTES_MAX} bytes", path.display()))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable(name, path, &error)),
    }
}

fn unreadable(name: &str, path: &Path, error: &std::io::Error) -> String {
    format!("{name} {} cannot be read: {error}", path.display())
}

fn is_open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

/// Accepts connections, and gives those whose handshake is done.
pub(crate) struct Secured {
    inner: Gate,
    current: watch::Receiver<Arc<ServerConfig>>,
    /// Handshakes under way at once.
    max: usize,
    handshakes: JoinSet<Option<Accepted>>,
    /// Those under way, the oldest first; among them some that are done.
    order: VecDeque<AbortHandle>,
}

type Accepted = (TlsStream<Placed>, SocketAddr);

impl Secured {
    fn begin(&mut self, (stream, address): (Placed, SocketAddr)) {
        while self.order.front().is_some_and(AbortHandle::is_finished) {
            self.order.pop_front();
        }
        if self.handshakes.len() >= self.max {
            // Behind one that is slow there may be many that are done.
            self.order.retain(|handshake| !handshake.is_finished());
            if let Some(oldest) = self.order.pop_front() {
                oldest.abort();
            }
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.borrow()));
        self.order.push_back(self.handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return Some((stream, address)),
                Ok(Err(error)) => {
                    tracing::debug!(client.address = %address.ip(), %error, "a TLS handshake failed")
                }
                Err(_) => tracing::debug!(client.address = %address.ip(), "a TLS handshake took too long"),
            }
            None
        }));
    }
}

impl Listener for Secured {
    type Io = TlsStream<Placed>;
    type Addr = SocketAddr;

    /// # Cancel safety
    /// A dropped call loses nothing: handshakes go on in their tasks.
    async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                // One that was given up is an error here.
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                }
                accepted = self.inner.accept() => self.begin(accepted),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
