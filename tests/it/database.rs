//! A database for tests of the store on MongoDB: see `tests/README.md`.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A server that is there for one test program. It ends with it, however that ends.
struct Server {
    address: String,
    _folder: tempfile::TempDir,
    _waiter: Child,
    _alive: ChildStdin,
}

/// The address of a fresh database; none when there is no server to be had, which the test says then.
pub fn database() -> Option<String> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let address = match std::env::var("WALKABOUT_TEST_MONGODB") {
        Ok(address) => address,
        Err(_) => SERVER.get_or_init(start).as_ref()?.address.clone(),
    };
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let (address, options) = address.split_once('?').unwrap_or((&address, ""));
    let name = format!("walkabout_test_{}_{number}", std::process::id());
    Some(format!("{}/{name}?{options}", address.trim_end_matches('/')))
}

fn start() -> Option<Server> {
    let Some(program) = program() else {
        eprintln!("skipped: no MongoDB server to test with; tests/README.md says how to get one");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let (waiter, alive, address) = serve(&program, folder.path());
    Some(Server { address, _folder: folder, _waiter: waiter, _alive: alive })
}

/// The server of the tests, where it was installed.
fn program() -> Option<PathBuf> {
    if let Ok(program) = std::env::var("WALKABOUT_TEST_SECANTUS") {
        return Some(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("secantusd-rs")).find(|file| file.is_file())
}

/// Starts a server on a free port. It lives for as long as its input is open.
fn serve(program: &Path, folder: &Path) -> (Child, ChildStdin, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("sh");
    command.arg("-c").arg(r#""$0" "$@" </dev/null & cat >/dev/null; kill -9 $!"#).arg(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--cache-size", "1G"]);
    command.args(["--sync-on-commit", "--storage-path"]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut waiter = command.spawn().unwrap();
    let alive = waiter.stdin.take().unwrap();
    let mut said = BufReader::new(waiter.stdout.take().unwrap()).lines();
    let ready = said.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening")));
    assert!(ready.is_some(), "the database is ready");
    std::thread::spawn(move || said.for_each(drop));
    (waiter, alive, format!("mongodb://127.0.0.1:{port}"))
}
