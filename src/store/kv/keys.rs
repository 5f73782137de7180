//! How keys are laid out. Ids are 16 bytes, numbers big-endian, so that order is that of time.

use uuid::Uuid;
use walkabout_schema::{Kind, Name, Status, Timestamp};

use super::engine::Space;
use crate::store::{Direction, End, Error, Link, Result};

pub(crate) const META_FORMAT: &[u8] = b"format";
pub(crate) const META_EPOCH: &[u8] = b"epoch";
pub(crate) const META_GROUP: &[u8] = b"group";

/// Begins the value under [`META_GROUP`], so that groups can be found in the raw bytes of a damaged journal.
const GROUP_MAGIC: &[u8; 8] = b"\xf7WKBTGR\x01";

/// The value under [`META_GROUP`]: what a group says of itself and of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The number of the group.
    pub(crate) group: u64,
    /// The last group known to be on disk when this one was written. Those between may have gone with the machine.
    pub(crate) synced: u64,
}

impl Marker {
    /// Magic, the two numbers, and a check of them.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = GROUP_MAGIC.to_vec();
        for number in [self.group, self.synced, self.check()] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    /// The marker at the beginning of these bytes, when it is whole.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(GROUP_MAGIC)?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_be_bytes(*number))
        };
        let marker = Self { group: number()?, synced: number()? };
        (number()? == marker.check()).then_some(marker)
    }

    fn check(self) -> u64 {
        let mix = |number: u64| {
            (number ^ 0x5bd1_e995_97f4_a7c1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
        };
        mix(mix(self.group) ^ self.synced)
    }
}

pub(crate) fn secret(name: &str) -> Vec<u8> {
    [b"secret:", name.as_bytes()].concat()
}

/// Leads from a root to one of those who act as it. No address begins with its first byte.
pub(crate) fn user_of(root: Uuid, user: Uuid) -> Vec<u8> {
    [&users_of(root)[..], user.as_bytes()].concat()
}

/// What begins the keys of those who act as a root.
pub(crate) fn users_of(root: Uuid) -> Vec<u8> {
    [&[BY_ROOT], &root.as_bytes()[..]].concat()
}

/// Leads from an identity to the address of its user. No address begins with its first byte, and no provider's name has a colon.
pub(crate) fn identity(provider: &str, id: &str) -> Vec<u8> {
    [&[BY_IDENTITY], provider.as_bytes(), b":", id.as_bytes()].concat()
}

/// Begins the keys that lead from an identity to a user.
pub(crate) const BY_IDENTITY: u8 = 1;

/// Begins the keys that lead from a root to a user.
pub(crate) const BY_ROOT: u8 = 0;

pub(crate) fn space_of(kind: Kind) -> Space {
    match kind {
        Kind::Node => Space::Node,
        Kind::Edge => Space::Edge,
        Kind::Object => Space::Object,
        Kind::Walker => Space::Walker,
    }
}

fn direction_byte(direction: Direction) -> u8 {
    match direction {
        Direction::Out => 0,
        Direction::In => 1,
    }
}

/// The links of a node in a direction, of one edge type or of all.
pub(crate) fn links(node: Uuid, direction: Direction, edge_name: Option<&Name>) -> Vec<u8> {
    let mut key = Vec::with_capacity(50);
    key.extend(node.as_bytes());
    key.push(direction_byte(direction));
    if let Some(name) = edge_name {
        key.extend(name.as_str().as_bytes());
        // No name holds this byte, and none sorts before it.
        key.push(0);
    }
    key
}

pub(crate) fn link(node: Uuid, direction: Direction, edge_name: &Name, edge: Uuid) -> Vec<u8> {
    let mut key = links(node, direction, Some(edge_name));
    key.extend(edge.as_bytes());
    key
}

/// The value of a link: the far node, its owner, its name.
pub(crate) fn far(end: &End) -> Vec<u8> {
    let mut value = Vec::with_capacity(40);
    value.extend(end.id.as_bytes());
    value.push(u8::from(end.owner.is_some()));
    value.extend(end.owner.unwrap_or_default().as_bytes());
    value.extend(end.name.as_str().as_bytes());
    value
}

/// A link from its key and value. `names` keeps the last names seen: most links of a node share them.
pub(crate) fn parse_link(key: &[u8], value: &[u8], names: &mut (Name, Name)) -> Result<Link> {
    let damaged = || Error::Damaged("an entry of the adjacency index".to_owned());
    let (_, key) = key.split_at_checked(17).ok_or_else(damaged)?;
    let length = key.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let (edge_name, edge) = key.split_at_checked(length).ok_or_else(damaged)?;
    let edge = edge.split_first().ok_or_else(damaged)?.1;
    let (id, value) = value.split_first_chunk::<16>().ok_or_else(damaged)?;
    let (has_owner, value) = value.split_first().ok_or_else(damaged)?;
    let (owner, name) = value.split_first_chunk::<16>().ok_or_else(damaged)?;
    let edge_name = shared(edge_name, &mut names.0).ok_or_else(damaged)?;
    let name = shared(name, &mut names.1).ok_or_else(damaged)?;
    Ok(Link {
        edge: Uuid::from_slice(edge).map_err(|_| damaged())?,
        edge_name,
        far: End {
            id: Uuid::from_bytes(*id),
            name,
            owner: (*has_owner == 1).then(|| Uuid::from_bytes(*owner)),
        },
    })
}

fn shared(text: &[u8], last: &mut Name) -> Option<Name> {
    if last.as_str().as_bytes() != text {
        let text = std::str::from_utf8(text).ok()?;
        *last = if text.is_empty() { Name::empty() } else { Name::new(text).ok()? };
    }
    Some(last.clone())
}

pub(crate) fn event(run: Uuid, seq: u64) -> Vec<u8> {
    let mut key = run.as_bytes().to_vec();
    key.extend(seq.to_be_bytes());
    key
}

/// A segment of a run's checkpoints.
pub(crate) fn segment(run: Uuid, number: u64) -> Vec<u8> {
    [&run.as_bytes()[..], &number.to_be_bytes()].concat()
}

/// The index of runs by root; open ones and ended ones each by id.
pub(crate) fn by_root(root: Uuid, is_open: bool, run: Uuid) -> Vec<u8> {
    let mut key = runs(root, is_open);
    key.extend(run.as_bytes());
    key
}

/// Where the index of a root's runs begins.
pub(crate) fn runs(root: Uuid, is_open: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(33);
    key.extend(root.as_bytes());
    key.push(u8::from(!is_open));
    key
}

/// The run of an entry of the index by root.
pub(crate) fn run_of(key: &[u8]) -> Result<Uuid> {
    let id = key.get(17..).and_then(|id| Uuid::from_slice(id).ok());
    id.ok_or_else(|| Error::Damaged("an index of runs".to_owned()))
}

/// A time, so that earlier ones sort first.
fn time(at: Timestamp) -> [u8; 8] {
    (at.millis().cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The index of runs that are due at a time.
pub(crate) fn due(at: Timestamp, run: Uuid) -> Vec<u8> {
    [&time(at)[..], run.as_bytes()].concat()
}

/// Time and run of an entry of the index of due runs.
pub(crate) fn parse_due(key: &[u8]) -> Result<(Timestamp, Uuid)> {
    let parts = key.split_first_chunk::<8>();
    let parsed = parts.and_then(|(at, run)| {
        let millis = (u64::from_be_bytes(*at) ^ (1 << 63)).cast_signed();
        Some((Timestamp::from_millis(millis), Uuid::from_slice(run).ok()?))
    });
    parsed.ok_or_else(|| Error::Damaged("the index of due runs".to_owned()))
}

/// What a request led to, by the digest of its key.
pub(crate) fn request(key: &[u8; 32]) -> Vec<u8> {
    [b"k", &key[..]].concat()
}

/// When a request is forgotten.
pub(crate) fn request_end(until: Timestamp, key: &[u8; 32]) -> Vec<u8> {
    [b"x", &time(until)[..], key].concat()
}

/// The digest of a key out of its [`request_end`].
pub(crate) fn request_of_end(end: &[u8]) -> Option<&[u8; 32]> {
    end.get(9..)?.first_chunk()
}

/// The value of the index of runs by root: the status that it had when it was written, then the name.
pub(crate) fn status_and_name(status: Status, name: &Name) -> Vec<u8> {
    let mut value = vec![status_byte(status)];
    value.extend(name.as_str().as_bytes());
    value
}

pub(crate) fn status_byte(status: Status) -> u8 {
    match status {
        Status::Pending => 0,
        Status::Running => 1,
        Status::Completed => 2,
        Status::Failed => 3,
    }
}
