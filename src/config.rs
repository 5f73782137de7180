//! Every setting: meaning, default, bounds.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The settings of one runtime and its server. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP and WebSocket are served. Default 127.0.0.1:8000; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The database of the store on MongoDB, as `mongodb://…`. Default: none, and the store is embedded.
    pub store: Option<String>,
    /// Begins the names of the collections in that database, so that applications can share one. Default: none.
    pub name: Option<String>,
    /// How long a process that shares the database may be silent before others take up its runs. Default 10 s, at least 1 s.
    pub lease: Duration,
    /// How long a write is tried while that database does not answer, or others are in the way. Default 30 s, at least 1 s.
    pub patience: Duration,
    /// The folder of the embedded store and of the files that walkers write; with a database both are there. Default `walkabout-data`.
    pub data: PathBuf,
    /// The folder of datasets, for walkers that read some. Default: `datasets` in the data folder.
    pub datasets: Option<PathBuf>,
    /// The API that `sync_with_external_system` pages through. Default: none.
    pub external_api: Option<String>,
    /// Threads for async walkers. Default: the cores of the machine, at least 2.
    pub async_threads: usize,
    /// Threads for plain walkers. Default: the cores of the machine, at least 2.
    pub sync_threads: usize,
    /// Attempts under way at once, for each of these threads. Default 512.
    pub attempts_per_thread_max: usize,
    /// How long a walker may go without awaiting anything before another thread takes the place of its own. Default 1 s.
    pub hog_after: Duration,
    /// Threads of each kind that are replaced while walkers hold them; when as many are held the server is not ready. Default 32,
    /// at least 1.
    pub hogged_threads_max: usize,
    /// Plain walkers waiting for a thread; beyond it the answer is 503. Default 4096.
    pub sync_queue_max: usize,
    /// Due runs held in memory; the rest wait in the store. Default 65,536.
    pub due_window: usize,
    /// Changes in one commit, and nodes that one `first_or_create` may leave out by a filter. Default 10,000.
    pub commit_changes_max: usize,
    /// Bytes in one commit, and apart from these in the reports of a run with its log since the last checkpoint. Default 8 MiB.
    pub commit_bytes_max: usize,
    /// Elements visited by one run. Default 100,000,000.
    pub visits_max: u64,
    /// Elements waiting in one frontier. Default 4,000,000.
    pub frontier_max: usize,
    /// Nodes and edges that one `GET /util/traverse` may look at. Default 100,000: as an answer that is some 15 MB, and held beside
    /// those of others.
    pub traverse_items_max: usize,
    /// What a piece of a frontier, of ignores or of reports may take to be kept in a checkpoint itself; larger ones are written once,
    /// beside it. Default 4 KiB.
    pub inline_bytes_max: usize,
    /// Repetitions of one attempt after conflicts; beyond it the run fails as `conflict`. Default 1,000.
    pub conflicts_max: u32,
    /// Attempts in a row, without a checkpoint between, that end with the process; then the run fails as `lost`. Default 3, at
    /// least 1.
    pub lost_max: u32,
    /// How long an attempt may go on after its cancel or pause was asked for, before it is ended without it. Default 10 s.
    pub cancel_grace: Duration,
    /// How long attempts may take to reach a checkpoint when the process stops. Default 10 s.
    pub stop_grace: Duration,
    /// How long an `Idempotency-Key` is kept. Default 24 hours.
    pub idempotency_keep: Duration,
    /// Walkers inside walkers. Default 32.
    pub spawn_depth_max: usize,
    /// The shortest span between two kept progress events of one run; the last one is always kept. Default 50 ms.
    pub progress_interval: Duration,
    /// The newest events kept of a run. Default 10,000.
    pub events_per_run_max: u64,
    /// Frames that a slow subscriber may lag behind before it is replayed from the store. Default 256.
    pub subscriber_lag_max: usize,
    /// Frames waiting for one WebSocket; beyond it pushes to that socket are dropped. Default 256.
    pub socket_queue_max: usize,
    /// Open WebSockets. Default 20,000.
    pub sockets_max: usize,
    /// The largest WebSocket frame. Default 1 MiB.
    pub frame_bytes_max: usize,
    /// The largest request body. Default 2 MiB.
    pub body_bytes_max: usize,
    /// How long a request body may take to arrive. Default 30 s.
    pub body_time_max: Duration,
    /// How deep JSON may nest. Default 127, which is also the most.
    pub json_depth_max: usize,
    /// The largest file that a walker may write. Default 64 MiB.
    pub file_bytes_max: usize,
    /// How long a login lasts. Default 12 hours.
    pub token_lifetime: Duration,
    /// Bytes of decoded elements kept in memory. Default 64 MiB.
    pub cache_bytes_max: usize,
    /// Below this much free room on the disk nothing new is accepted. Default 64 MiB.
    pub disk_free_min: u64,
    /// Whether walkers may call addresses of private networks. Default false.
    pub allow_private_addresses: bool,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            store: None,
            name: None,
            lease: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            data: PathBuf::from("walkabout-data"),
            datasets: None,
            external_api: None,
            async_threads: cores,
            sync_threads: cores,
            attempts_per_thread_max: 512,
            hog_after: Duration::from_secs(1),
            hogged_threads_max: 32,
            sync_queue_max: 4096,
            due_window: 65_536,
            commit_changes_max: 10_000,
            commit_bytes_max: 8 << 20,
            visits_max: 100_000_000,
            frontier_max: 4_000_000,
            traverse_items_max: 100_000,
            inline_bytes_max: 4 << 10,
            conflicts_max: 1000,
            lost_max: 3,
            cancel_grace: Duration::from_secs(10),
            stop_grace: Duration::from_secs(10),
            idempotency_keep: Duration::from_secs(24 * 3600),
            spawn_depth_max: 32,
            progress_interval: Duration::from_millis(50),
            events_per_run_max: 10_000,
            subscriber_lag_max: 256,
            socket_queue_max: 256,
            sockets_max: 20_000,
            frame_bytes_max: 1 << 20,
            body_bytes_max: 2 << 20,
            body_time_max: Duration::from_secs(30),
            json_depth_max: 127,
            file_bytes_max: 64 << 20,
            token_lifetime: Duration::from_secs(12 * 3600),
            cache_bytes_max: 64 << 20,
            disk_free_min: 64 << 20,
            allow_private_addresses: false,
        }
    }
}
