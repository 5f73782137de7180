//! One attempt: what it knows of its run, and what it has to say to the outside.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use serde_json::{Value, json};
use walkabout_schema::{ErrorCode, EventKind, Items, Reply, WalkerId};

use super::{Engine, begun::Begun, halt::UnderWay};
use crate::{
    Error,
    files::{self, Content, Opened, Pieces as Bytes, Spool, Spooling},
    graph::Graph,
    store::{Commit, Token},
    walk::{Item, Pieces},
    walker::{Body, Failure, Given, Response, Saved, Upload, extension, fail},
};

/// The run of an attempt, when there is a record of it.
#[derive(Clone)]
pub(crate) struct RunRef {
    pub(crate) id: WalkerId,
    pub(crate) token: Token,
}

/// Everything that the walkers of one attempt share.
pub(crate) struct Attempt {
    pub(crate) engine: Arc<Engine>,
    pub(crate) graph: Graph,
    pub(crate) run: Option<RunRef>,
    pub(crate) client_id: Option<String>,
    pub(crate) admin: bool,
    /// Names a plain walker's errand.
    pub(crate) serial: uuid::Uuid,
    /// The files that its caller sent, by their digests.
    uploads: Arc<BTreeMap<String, Spool>>,
    /// What it waited for.
    pub(crate) answer: Option<Value>,
    pub(crate) under_way: Arc<UnderWay>,
    book: Mutex<Book>,
    feed: Arc<Mutex<Feed>>,
}

/// What an attempt gathers beside the graph.
#[derive(Default, Clone)]
pub(crate) struct Book {
    pub(crate) reports: Pieces<Report>,
    /// Since the last checkpoint.
    pub(crate) events: Vec<EventKind>,
    pub(crate) status: Option<u16>,
    pub(crate) custom: Value,
    pub(crate) response: Option<Given>,
    /// What the run's result is then, when it is recorded: one value, so that checkpoints need not write it again.
    pub(crate) results: Pieces<Report>,
    pub(crate) checkpoint: bool,
    /// What the reports take.
    report_bytes: usize,
    /// What the lines of the log take, since the last checkpoint.
    log_bytes: usize,
}

/// What the names of files begin with that a run has of a response, and of what its caller sent.
const RESPONSE: &str = "response-";
pub(crate) const UPLOAD: &str = "upload-";

/// What a report or a line takes beside its text.
const ENTRY_BYTES: usize = 64;

impl Book {
    /// Begins with the reports of a checkpoint.
    pub(crate) fn resume(from: &Begun) -> Self {
        Self {
            report_bytes: from.reports.iter().map(Report::weight).sum(),
            reports: from.reports.clone(),
            status: from.status,
            custom: from.custom.clone(),
            response: from.response.clone(),
            results: from.results.clone(),
            ..Self::default()
        }
    }

    /// The values that were reported, from this one on.
    pub(crate) fn reported_from(&self, index: usize) -> Vec<Value> {
        self.reports.iter_from(index).map(Report::store).collect()
    }

    /// What the run's result is by its response.
    pub(crate) fn result(&self) -> Option<Value> {
        self.results.iter().next().map(Report::store)
    }

    /// The events since the last checkpoint, which go with this one.
    pub(crate) fn take_events(&mut self) -> Vec<EventKind> {
        self.log_bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Notes a response with its result, in the place of those before.
    fn respond(&mut self, reply: Reply, result: Value, bound: usize) -> Result<(), Failure> {
        let (result, before) = (Report::restore(result), self.results.pop_front());
        if let Err(full) = self.check_room(result.bytes, bound) {
            before.into_iter().for_each(|before| self.results.push_back(before));
            return Err(full);
        }
        self.results.push_back(result);
        self.response = Some(Given::Kept(Box::new(reply)));
        Ok(())
    }

    fn check_room(&self, bytes: usize, bound: usize) -> Result<(), Failure> {
        let response_bytes: usize = self.results.iter().map(Report::weight).sum();
        let total = self.report_bytes + self.log_bytes + response_bytes + bytes;
        if total <= bound {
            return Ok(());
        }
        Err(Failure::coded(
            ErrorCode::CommitTooLarge,
            format!(
                "the reports of this run, its response and its log since the last checkpoint would take {total} bytes; commit_bytes_max is {bound}: report less, or write a file"
            ),
        ))
    }
}

/// A value that the walker reported.
#[derive(Clone)]
pub(crate) struct Report {
    value: Arc<Value>,
    bytes: usize,
}

impl Item for Report {
    type Stored = Value;

    fn weight(&self) -> usize {
        self.bytes
    }
    fn store(&self) -> Value {
        (*self.value).clone()
    }
    fn restore(stored: Value) -> Self {
        Self { bytes: size(&stored), value: Arc::new(stored) }
    }
    fn wrap(items: Vec<Value>) -> Items {
        Items::Reports(items)
    }
    fn list(items: Items) -> Option<Vec<Value>> {
        if let Items::Reports(items) = items { Some(items) } else { None }
    }
}

fn size(value: &Value) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(ENTRY_BYTES);
    // Counting never fails, and a value always has a text.
    drop(serde_json::to_writer(&mut count, value));
    count.0
}

/// Progress on its way to the store: the latest wins, the last always goes.
#[derive(Default)]
struct Feed {
    latest: Option<Value>,
    sending: Option<tokio::task::JoinHandle<()>>,
}

/// Who acts, in which run, for whom.
pub(crate) struct Origin {
    pub(crate) actor: uuid::Uuid,
    pub(crate) admin: bool,
    pub(crate) client_id: Option<String>,
    pub(crate) serial: uuid::Uuid,
    pub(crate) uploads: Arc<BTreeMap<String, Spool>>,
    pub(crate) answer: Option<Value>,
}

impl Attempt {
    pub(crate) fn new(engine: &Arc<Engine>, origin: Origin, under_way: Arc<UnderWay>, book: Book) -> Self {
        let Origin { actor, admin, client_id, serial, uploads, answer } = origin;
        Self {
            graph: engine.graph(actor),
            serial,
            uploads,
            engine: Arc::clone(engine),
            run: under_way.run.clone(),
            client_id,
            admin,
            answer,
            under_way,
            book: Mutex::new(book),
            feed: Arc::default(),
        }
    }

    /// Writes a commit, unless the caller of a plain walker has been told by now that it did not end in time.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<(), Failure> {
        let under_way = &self.under_way;
        if self.run.is_none() && !under_way.door.enter() {
            return Err(under_way.end().map_or_else(|| fail("it has ended"), Failure::ended));
        }
        let done = self.engine.store.commit(self.engine.env.now(), commit).await;
        if self.run.is_none() {
            under_way.door.leave();
        }
        done.map_err(Failure::of_store)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a report, when there is room. Reports go with every commit to the end of the run.
    pub(crate) fn report(&self, value: Value) -> Result<(), Failure> {
        let report = Report::restore(value.clone());
        let mut book = self.book();
        book.check_room(report.bytes, self.engine.config.commit_bytes_max)?;
        book.report_bytes += report.bytes;
        book.events.push(EventKind::Report { value });
        book.reports.push_back(report);
        Ok(())
    }

    /// Keeps a line for the next commit, when there is room.
    pub(crate) fn log(&self, message: String) -> Result<(), Failure> {
        let bytes = message.len() + ENTRY_BYTES;
        let mut book = self.book();
        book.check_room(bytes, self.engine.config.commit_bytes_max)?;
        book.log_bytes += bytes;
        book.events.push(EventKind::Log { message });
        Ok(())
    }

    /// Sends progress at once when none was sent lately, else a little later. Plain walkers have no followers.
    pub(crate) fn progress(&self, data: Value) {
        let Some(run) = self.run.clone() else { return };
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        feed.latest = Some(data);
        if feed.sending.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (engine, shared) = (Arc::clone(&self.engine), Arc::clone(&self.feed));
        feed.sending = Some(tokio::spawn(async move {
            loop {
                let next = shared.lock().unwrap_or_else(PoisonError::into_inner).latest.take();
                let Some(data) = next else { break };
                if !send(&engine, &run, data).await {
                    break;
                }
                tokio::time::sleep(engine.config.progress_interval).await;
            }
        }));
    }

    /// Sends what is left. To be awaited before a commit, so that progress never follows the end it belongs before.
    pub(crate) async fn flush_progress(&self) {
        let Some(run) = self.run.clone() else { return };
        let (task, last) = {
            let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
            (feed.sending.take(), feed.latest.take())
        };
        if let Some(data) = last {
            send(&self.engine, &run, data).await;
        }
        if let Some(task) = task {
            // It may be between its send and its wait: aborted in the wait nothing is lost, in the send the store still writes it.
            task.abort();
            drop(task.await);
        }
    }

    /// Keeps what the walker answers with in the place of its reports: of a recorded run durably, under a name of its own, so that one
    /// that a checkpoint holds is not replaced.
    pub(crate) async fn respond(&self, response: Response) -> Result<(), Failure> {
        self.check_model(&response)?;
        let Some(run) = &self.run else {
            self.book().response = Some(Given::once(response));
            return Ok(());
        };
        let (reply, result) = self.keep_response(run, response).await?;
        self.book().respond(reply, result, self.engine.config.commit_bytes_max)
    }

    /// Whether JSON is what the walker that was called says of it, whoever inside it answers. That of an error may be anything.
    fn check_model(&self, response: &Response) -> Result<(), Failure> {
        let status = response.status.or(self.book().status);
        match (&response.body, &self.under_way.model) {
            (Body::Json(value), Some(model)) if status.is_none_or(|status| status < 400) => {
                model.check(value).map_err(Failure::of_model)
            }
            _ => Ok(()),
        }
    }

    /// Gives what is kept of a response, and what the result of the run is then.
    async fn keep_response(&self, run: &RunRef, response: Response) -> Result<(Reply, Value), Failure> {
        let ending = extension(&response.content_type);
        let name = format!("{RESPONSE}{}.{ending}", self.engine.env.random_hex(8));
        let reply = response.reply(Some(name.clone()));
        let content = match response.body {
            Body::Json(value) => return Ok((Reply { file: None, ..reply }, value)),
            Body::Bytes(bytes) => Content::Bytes(bytes),
            Body::Stream(pieces) | Body::Kept(Opened { pieces, .. }) => {
                Content::Spool(self.spool(&name, pieces).await?)
            }
        };
        let bytes = self.check_file(&name, &content)?;
        self.engine.files.save(run.id.uuid(), name.clone(), content).await?;
        let url = format!("/files/{}/{name}", run.id);
        let result = json!({ "url": url, "content_type": reply.content_type, "bytes": bytes });
        Ok((reply, result))
    }

    async fn spool(&self, name: &str, mut pieces: Bytes) -> Result<Spool, Failure> {
        let max = self.engine.config.file_bytes_max;
        let mut spooling = Spooling::begin(self.engine.files.spools(), max).await?;
        while let Some(piece) = pieces.next().await {
            match spooling.write(&piece?).await {
                Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                    return Err(fail(format!("the file {name} is longer than file_bytes_max {max}")));
                }
                written => written?,
            }
        }
        Ok(spooling.finish().await?)
    }

    /// Gives how long a file is, when it is not too long.
    fn check_file(&self, name: &str, content: &Content) -> Result<u64, Failure> {
        let bound = self.engine.config.file_bytes_max as u64;
        let bytes = match content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Spool(spool) => spool.length(),
        };
        if bytes > bound {
            return Err(fail(format!("the file {name} has {bytes} bytes; file_bytes_max is {bound}")));
        }
        Ok(bytes)
    }

    /// Opens a file that a caller sent: with this request, or with a run that the walker may read.
    pub(crate) async fn open_upload(&self, upload: &Upload) -> Result<Opened, Failure> {
        let gone = || fail(format!("the file {:?} that was sent is not there any more", upload.name));
        let Some((id, file)) = upload.place() else {
            return Ok(self.uploads.get(&upload.sha256).ok_or_else(gone)?.open().await?);
        };
        let is_own = self.run.as_ref().is_some_and(|run| run.id.uuid() == id.uuid());
        if !is_own {
            // Of who called, also when the walker acts as the system by now: the caller may have made it up.
            let caller = self.graph.caller;
            let found =
                self.engine.store.run(id.uuid()).await.map_err(Failure::of_store)?.ok_or_else(gone)?;
            if !self.engine.may_read(caller, &found).await.map_err(Failure::of_store)? {
                return Err(gone());
            }
        }
        match self.engine.files.open(id.uuid(), file.to_owned()).await {
            Ok(opened) => opened.ok_or_else(gone),
            Err(Error::Store(error)) => Err(Failure::of_store(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a file of the run.
    pub(crate) async fn save_file(&self, name: &str, bytes: Vec<u8>) -> Result<Saved, Failure> {
        let Some(run) = &self.run else {
            return Err(fail("a plain walker has no files: make it async with #[walker(async)]"));
        };
        if !files::is_name(name) {
            return Err(fail(format!(
                "{name:?} is no file name: use letters, digits, '-', '_' and '.', 100 at most"
            )));
        }
        if name.starts_with(RESPONSE) || name.starts_with(UPLOAD) {
            return Err(fail(format!(
                "{name:?} is no file name for a walker: {RESPONSE} and {UPLOAD} begin others"
            )));
        }
        let content = Content::Bytes(bytes);
        self.check_file(name, &content)?;
        let path = self.engine.files.save(run.id.uuid(), name.to_owned(), content).await?;
        Ok(Saved { url: format!("/files/{}/{name}", run.id), path })
    }
}

async fn send(engine: &Engine, run: &RunRef, data: Value) -> bool {
    match engine.store.progress(run.id.uuid(), run.token, engine.env.now(), data).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(run = %run.id, %error, "progress was not kept");
            false
        }
    }
}
