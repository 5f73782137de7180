//! A program in its own process, which may end at any moment.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use crate::{
    shim::{Act, Shim},
    support::example,
};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub struct Program {
    child: Child,
    pub url: String,
    ended: watch::Receiver<bool>,
    errors: Option<JoinHandle<String>>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// What it said on standard error.
    pub said: String,
}

impl Ended {
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

impl Program {
    /// Starts the ledger, and waits until it is ready; how it ended when it did not come so far.
    pub async fn start(data: &Path, shim: Option<(&Shim, Act)>) -> Result<Self, Ended> {
        Self::start_with(data, &[], shim).await
    }

    /// As [`Program::start`], with more arguments.
    pub async fn start_with(
        data: &Path,
        arguments: &[&str],
        shim: Option<(&Shim, Act)>,
    ) -> Result<Self, Ended> {
        Self::start_example("ledger", data, arguments, shim).await
    }

    /// As [`Program::start_with`], another one.
    pub async fn start_example(
        name: &str,
        data: &Path,
        arguments: &[&str],
        shim: Option<(&Shim, Act)>,
    ) -> Result<Self, Ended> {
        let mut command = Command::new(example(name));
        command.arg("--listen").arg("127.0.0.1:0").arg("--data").arg(data.canonicalize().unwrap());
        command.args(arguments).env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
        let loaded = shim.map(|(shim, act)| {
            shim.put_under(&mut command, act);
            shim.loaded()
        });
        let mut child = command.spawn().unwrap();
        let (say, mut lines) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(false);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Read to the end, so that the program never waits for us.
            out.lines().map_while(Result::ok).for_each(|line| drop(say.send(line)));
            end.send_replace(true);
        });
        let mut err = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut said = Vec::new();
            err.read_to_end(&mut said).unwrap();
            String::from_utf8_lossy(&said).into_owned()
        });
        let mut program = Self { child, url: String::new(), ended, errors: Some(errors) };
        let ready = tokio::time::timeout(PATIENCE, lines.recv()).await.expect("it gets ready or ends");
        if let (Some((shim, _)), Some(loaded)) = (shim, loaded) {
            assert_eq!(shim.loaded(), loaded + 1, "the shim is in the program: {}", program.gone_wrong());
        }
        match ready {
            Some(line) if line.contains("is ready at") => {
                let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
                program.url = url.trim_end_matches(',').to_owned();
                Ok(program)
            }
            _ => Err(program.end().await),
        }
    }

    /// For the message of a failure: what a program that ended by itself has said.
    fn gone_wrong(&mut self) -> String {
        match self.child.try_wait() {
            Ok(Some(_)) => self.errors.take().map_or_else(String::new, |errors| errors.join().unwrap()),
            _ => String::new(),
        }
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        drop(
            Command::new("kill")
                .arg(format!("-{name}"))
                .arg(self.pid().to_string())
                .stderr(Stdio::null())
                .status(),
        );
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes true when it has ended.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Waits until it ends by itself.
    pub async fn end(mut self) -> Ended {
        let waited = tokio::time::timeout(PATIENCE, self.ended.wait_for(|ended| *ended)).await;
        drop(waited.expect("it ends").unwrap());
        let status = self.child.wait().unwrap();
        Ended { status, said: self.errors.take().unwrap().join().unwrap() }
    }

    pub async fn kill(mut self) -> Ended {
        // It may have ended already.
        drop(self.child.kill());
        self.end().await
    }

    /// Asks it to stop, and waits.
    pub async fn stop(self) -> Ended {
        self.signal("TERM");
        self.end().await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
