//! Pushes to open WebSockets: at once, unnumbered, at most once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Whom a push is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One connection, by its client id.
    Client(String),
    /// All connections of a root.
    Root(Uuid),
    /// All connections of a channel.
    Channel(String),
}

/// The open WebSockets. A cheap handle.
#[derive(Clone)]
pub struct Sockets {
    table: Arc<Mutex<Table>>,
    queue_max: usize,
    sockets_max: usize,
}

#[derive(Default)]
struct Table {
    sockets: HashMap<String, Socket>,
    roots: HashMap<Uuid, HashSet<String>>,
    channels: HashMap<String, HashSet<String>>,
}

struct Socket {
    root: Uuid,
    channel: String,
    queue: mpsc::Sender<Arc<str>>,
}

/// Membership of one open socket; leaves the table when dropped.
pub struct Joined {
    /// This connection.
    pub client_id: String,
    /// What others push to it, ready to be sent as text frames.
    pub pushes: mpsc::Receiver<Arc<str>>,
    sockets: Sockets,
}

impl Sockets {
    pub(crate) fn new(queue_max: usize, sockets_max: usize) -> Self {
        Self { table: Arc::default(), queue_max: queue_max.max(1), sockets_max }
    }

    /// Enters a connection; `None` when there are as many as the bound allows.
    pub fn join(&self, client_id: String, root: Uuid, channel: String) -> Option<Joined> {
        let (queue, pushes) = mpsc::channel(self.queue_max);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.sockets.len() >= self.sockets_max {
            return None;
        }
        table.roots.entry(root).or_default().insert(client_id.clone());
        table.channels.entry(channel.clone()).or_default().insert(client_id.clone());
        table.sockets.insert(client_id.clone(), Socket { root, channel, queue });
        drop(table);
        Some(Joined { client_id, pushes, sockets: self.clone() })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).sockets.len()
    }

    /// Sends `data` as it is to every connection of the targets, each at most once. A full queue loses it.
    pub fn push(&self, targets: &[Target], data: &Value) {
        let text: Arc<str> = data.to_string().into();
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clients: HashSet<&str> = HashSet::new();
        for target in targets {
            match target {
                Target::Client(id) => {
                    clients.insert(id);
                }
                Target::Root(root) => {
                    clients.extend(table.roots.get(root).into_iter().flatten().map(String::as_str))
                }
                Target::Channel(channel) => {
                    clients.extend(table.channels.get(channel).into_iter().flatten().map(String::as_str));
                }
            }
        }
        for socket in clients.into_iter().filter_map(|id| table.sockets.get(id)) {
            if socket.queue.try_send(Arc::clone(&text)).is_err() {
                tracing::debug!("a socket does not read: a push to it was dropped");
            }
        }
    }

    fn leave(&self, client_id: &str) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = table.sockets.remove(client_id) else { return };
        if let Some(clients) = table.roots.get_mut(&socket.root) {
            clients.remove(client_id);
            if clients.is_empty() {
                table.roots.remove(&socket.root);
            }
        }
        if let Some(clients) = table.channels.get_mut(&socket.channel) {
            clients.remove(client_id);
            if clients.is_empty() {
                table.channels.remove(&socket.channel);
            }
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.sockets.leave(&self.client_id);
    }
}
