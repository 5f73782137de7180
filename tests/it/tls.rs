//! TLS, through the real program.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use futures_util::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::support::{Server, stock};

/// A folder with an authority, and the pair that a server shows.
struct Folder {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        let authority = cert.der().clone();
        Self { folder, issuer: Issuer::new(params, key), authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A certificate and its key, in PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Writes another pair for the server to show; gives the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let (cert, key) = self.issue();
        fs::write(self.path("key.pem"), key).unwrap();
        fs::write(self.path("cert.pem"), &cert).unwrap();
        CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()
    }

    fn server(&self) -> Server {
        let (cert, key) = (self.text("cert.pem"), self.text("key.pem"));
        self.server_with(&["--tls-key", &key, "--tls-cert", &cert])
    }

    fn server_with(&self, flags: &[&str]) -> Server {
        Server::start(&stock(), &self.path("data"), &[flags, &["--log-level", "info"]].concat())
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        client(roots, versions)
    }

    async fn connect(&self, server: &Server) -> Wire {
        Wire::open(server, &self.client(&[&TLS13])).await.unwrap()
    }

    /// The client side of the program.
    fn run(&self, server: &Server, args: &[&str], token: &str) -> Output {
        let mut command = Command::new(stock());
        command.current_dir(self.folder.path()).env_clear();
        command.env("WALKABOUT_URL", &server.url).env("TOKEN", token).args(args);
        command.output().unwrap()
    }
}

fn client(roots: RootCertStore, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn reach(server: &Server) -> TcpStream {
    TcpStream::connect(server.url.strip_prefix("https://").unwrap()).await.unwrap()
}

/// One connection.
struct Wire(TlsStream<TcpStream>);

impl Wire {
    async fn open(server: &Server, client: &TlsConnector) -> std::io::Result<Self> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        client.connect(name, reach(server).await).await.map(Self)
    }

    /// The certificate that the server shows.
    fn shown(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }

    async fn send(&mut self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap_or("0").parse().unwrap() {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return (status, serde_json::from_str(body).unwrap_or_default());
                }
            }
            assert!(self.0.read_buf(&mut read).await.unwrap() > 0, "the server closed");
        }
    }

    /// Registers a user; gives the token.
    async fn login(&mut self) -> String {
        let ann = json!({ "email": "ann@example.com", "password": "correct horse" });
        assert_eq!(self.send("POST", "/user/register", "", &ann).await.0, 201);
        let (status, answer) = self.send("POST", "/user/login", "", &ann).await;
        assert_eq!(status, 200);
        answer["token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_served_over_it() {
    let folder = Folder::new();
    let cert = folder.renew();
    let server = folder.server();
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    for version in [&TLS12, &TLS13] {
        let mut wire = Wire::open(&server, &folder.client(&[version])).await.unwrap();
        assert_eq!(wire.shown(), cert);
        let connection = wire.0.get_ref().1;
        assert_eq!(connection.protocol_version(), Some(version.version));
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(wire.send("GET", "/livez", "", &Value::Null).await.0, 200);
    }
    let stranger = client(RootCertStore::empty(), &[&TLS13]);
    assert!(Wire::open(&server, &stranger).await.is_err(), "nobody has signed for the server");

    let mut wire = folder.connect(&server).await;
    let token = wire.login().await;
    let (status, answer) =
        wire.send("POST", "/walker/process_with_updates", &token, &json!({ "client_id": "nobody" })).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["walker_id"].as_str().unwrap();

    let mut request = "wss://localhost/websocket".into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let wire = folder.connect(&server).await;
    let (mut socket, _) = tokio_tungstenite::client_async(request, wire.0).await.unwrap();
    let subscribe = json!({ "type": "subscribe", "walker_id": id });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    loop {
        let frame = socket.next().await.unwrap().unwrap();
        if frame.to_text().is_ok_and(|text| text.contains(r#""type":"completed""#)) {
            break;
        }
    }

    let ca = folder.text("ca.pem");
    for args in [&["follow", id][..], &["runs"]] {
        let output = folder.run(&server, &[args, &["--ca", &ca]].concat(), &token);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(said.contains("completed") || said.contains(id), "{args:?}: {said}");
        let stranger = folder.run(&server, args, &token);
        assert_eq!(stranger.status.code(), Some(2), "{args:?} trusts nobody but the authorities of the web");
        let told = String::from_utf8_lossy(&stranger.stderr).into_owned();
        assert!(told.contains("or by those of --ca?") && !told.contains('&'), "{args:?}: {told}");
        let plain = server.url.replacen("https", "http", 1);
        let mut command = Command::new(stock());
        let output = command.env_clear().env("WALKABOUT_URL", plain).args(args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("One that speaks TLS has https:// there"), "{args:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_changed_under_way() {
    let folder = Folder::new();
    let first = folder.renew();
    let mut server = folder.server();
    let mut old = folder.connect(&server).await;
    assert_eq!(old.shown(), first);

    // Without a word to the server.
    let second = folder.renew();
    server.logged("the certificate is read again");
    assert_eq!(folder.connect(&server).await.shown(), second);
    let third = folder.renew();
    server.signal("HUP");
    server.logged("the certificate is read again");
    assert_eq!(folder.connect(&server).await.shown(), third);

    // What is broken is told, and what was served is served on.
    let pair = folder.issue();
    for (file, text) in [("cert.pem", "nothing"), ("cert.pem", &pair.0), ("key.pem", "nothing")] {
        fs::write(folder.path(file), text).unwrap();
        server.signal("HUP");
        let line = server.logged("the certificate stays the one that was read before");
        assert!(line.contains(file), "{line}");
        assert_eq!(folder.connect(&server).await.shown(), third);
    }
    fs::write(folder.path("key.pem"), &pair.1).unwrap();
    server.signal("HUP");
    server.logged("the certificate is read again");
    assert_eq!(folder.connect(&server).await.shown().as_ref(), der(&pair.0));

    assert_eq!(old.send("GET", "/livez", "", &Value::Null).await.0, 200);
    drop(old);
    server.terminate();
    assert!(server.wait().success());
}

/// A file that never ends holds up neither the server's end nor what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_not_read_again() {
    let folder = Folder::new();
    folder.renew();
    let mut server = folder.server();
    let (key, pipe) = (folder.path("key.pem"), folder.path("pipe"));
    let replace = || {
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::rename(&pipe, &key).unwrap();
    };
    replace();
    let line = server.logged("the certificate stays the one that was read before");
    assert!(line.contains("key.pem is no regular file"), "{line}");
    fs::remove_file(&key).unwrap();
    let renewed = folder.renew();
    server.logged("the certificate is read again");
    assert_eq!(folder.connect(&server).await.shown(), renewed);
    replace();
    server.signal("HUP");
    server.logged("the certificate stays the one that was read before");
    server.terminate();
    assert!(server.wait().success());

    // As a shell gives what a command says: read at the start, and then no more.
    fs::remove_file(&key).unwrap();
    folder.renew();
    let script = folder.path("piped");
    let text = "#!/bin/bash\nexec \"$PROGRAM\" --tls-key <(cat \"$KEY\") \"$@\"\n";
    let text =
        text.replace("$PROGRAM", &stock().display().to_string()).replace("$KEY", &folder.text("key.pem"));
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let cert = folder.text("cert.pem");
    let mut server = Server::start(&script, &folder.path("data"), &["--tls-cert", &cert]);
    let line =
        server.logged("is no regular file, so it is not read again: another certificate takes another start");
    assert!(line.contains("WARN") && line.contains("tls_key"), "{line}");
    let mut wire = folder.connect(&server).await;
    assert_eq!(wire.send("GET", "/livez", "", &Value::Null).await.0, 200);
    server.terminate();
    assert!(server.wait().success());
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// More handshakes than there may be, none of which goes on.
#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_hold_up_nobody() {
    let folder = Folder::new();
    folder.renew();
    let mut server = folder.server();
    walkabout::cli::raise_open_files();
    let mut idle = Vec::new();
    for _ in 0..1100 {
        idle.push(reach(&server).await);
    }
    // Some had to go for others.
    let mut oldest = idle.swap_remove(0);
    assert_eq!(oldest.read(&mut [0]).await.unwrap_or(0), 0);
    for _ in 0..3 {
        let mut wire = folder.connect(&server).await;
        assert_eq!(wire.send("GET", "/livez", "", &Value::Null).await.0, 200);
    }
    // What is no TLS is no request.
    let mut plain = reach(&server).await;
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    drop(plain.read_to_end(&mut read).await);
    assert!(!read.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&read));

    server.terminate();
    assert!(server.wait().success());
    drop(idle);
}

/// Where there are few connections, handshakes have half of them.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_hold_up_nobody() {
    let folder = Folder::new();
    folder.renew();
    let (cert, key) = (folder.text("cert.pem"), folder.text("key.pem"));
    let few = ["--connections-max", "20", "--head-time-max-s", "1"];
    let server = folder.server_with(&[&["--tls-cert", &cert, "--tls-key", &key][..], &few].concat());
    let mut wire = folder.connect(&server).await;
    assert_eq!(wire.send("GET", "/livez", "", &Value::Null).await.0, 200);
    assert_eq!(wire.0.read(&mut [0]).await.unwrap_or(0), 0, "it asks nothing more");
    let (mut idle, mut begun) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        idle.push(reach(&server).await);
        begun.push(folder.connect(&server).await);
    }
    let mut wire = folder.connect(&server).await;
    assert_eq!(wire.send("GET", "/livez", "", &Value::Null).await.0, 200);
}

#[test]
fn what_does_not_belong_together_is_told_at_the_start() {
    let folder = Folder::new();
    folder.renew();
    let (other, key) = folder.issue();
    fs::write(folder.path("other.pem"), other + &key).unwrap();
    fs::write(folder.path("empty.pem"), "").unwrap();
    fs::write(
        folder.path("locked.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let refused = |flags: &[(&str, &str)], wanted: &[&str]| {
        let flags: Vec<String> =
            flags.iter().flat_map(|(flag, name)| [format!("--{flag}"), folder.text(name)]).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let said = Server::try_start(&stock(), &folder.path("data"), &flags).map(drop).unwrap_err();
        for words in wanted {
            assert!(said.contains(words), "{words:?}: {said}");
        }
    };
    refused(&[("tls-key", "key.pem")], &["tls_key is set, and tls_cert is not"]);
    refused(&[("tls-cert", "cert.pem")], &["tls_key", "cert.pem holds no private key in PEM"]);
    refused(&[("tls-cert", "none.pem")], &["tls_cert", "none.pem cannot be read"]);
    refused(&[("tls-cert", "empty.pem"), ("tls-key", "key.pem")], &["empty.pem holds no certificate in PEM"]);
    fs::write(folder.path("junk.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    refused(
        &[("tls-cert", "junk.pem"), ("tls-key", "key.pem")],
        &["junk.pem holds what is no X.509 certificate"],
    );
    refused(&[("tls-cert", "cert.pem"), ("tls-key", "locked.pem")], &["locked.pem is encrypted"]);
    refused(
        &[("tls-cert", "cert.pem"), ("tls-key", "other.pem")],
        &["other.pem is not that of the first certificate in", "/cert.pem"],
    );
    assert!(!Path::new(&folder.path("data")).exists(), "nothing was begun");
    // Both may be in one file.
    let other = folder.text("other.pem");
    let server = Server::start(&stock(), &folder.path("data"), &["--tls-cert", &other]);
    assert!(server.url.starts_with("https://"));
}
