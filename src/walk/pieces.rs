//! A long list of a walk, in pieces: a copy shares them, and a checkpoint writes only those that are new.
//!
//! What was put in since the last checkpoint stands in open pieces. A checkpoint closes them: a small one goes into the checkpoint
//! itself, another becomes a segment, which never changes. A new piece first takes in its neighbours that are not larger than
//! itself, so that there are few pieces, and an item is written a number of times that grows with the logarithm of the list. What
//! leaves at the front only moves the beginning of its piece.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use walkabout_schema::{Items, Part};

/// What an item of a few dozen bytes weighs.
pub(crate) const ITEM_BYTES: usize = 64;
/// What a piece weighs at most, unless it is a single item: 4,096 elements.
pub(crate) const PIECE_BYTES_MAX: usize = 4096 * ITEM_BYTES;
/// A list may have this many pieces beside four for each full piece that it could fill.
const PIECES_MIN: usize = 32;

/// What can be kept in segments.
pub(crate) trait Item: Clone {
    /// The item as a checkpoint has it.
    type Stored;

    /// About how many bytes it takes there.
    fn weight(&self) -> usize;
    fn store(&self) -> Self::Stored;
    fn restore(stored: Self::Stored) -> Self;
    /// The items of a segment.
    fn wrap(items: Vec<Self::Stored>) -> Items;
    /// The items of a segment; none when they are of another kind.
    fn list(items: Items) -> Option<Vec<Self::Stored>>;
}

/// How the segments of a run change with a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// What a piece may weigh to be kept in the checkpoint itself; all those of one list together twice as much.
    pub(crate) inline_bytes_max: usize,
    /// The number of the next one.
    pub(crate) next: u64,
    /// The new ones, by number.
    pub(crate) fresh: BTreeMap<u64, Items>,
    /// Those that no list names any more.
    pub(crate) gone: Vec<u64>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Pieces<T> {
    pieces: VecDeque<Piece<T>>,
    len: usize,
    /// The segments that the last checkpoint names, in order.
    named: Vec<u64>,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), len: 0, named: Vec::new() }
    }
}

impl<T: Item> FromIterator<T> for Pieces<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut pieces = Self::default();
        items.into_iter().for_each(|item| pieces.push_back(item));
        pieces
    }
}

impl<T: Item> Pieces<T> {
    /// The list of a checkpoint, out of these segments. `None` when one is not among them, is too short, or holds something else.
    pub(crate) fn load(parts: Vec<Part<T::Stored>>, segments: &mut BTreeMap<u64, Items>) -> Option<Self> {
        let mut loaded: BTreeMap<u64, Arc<[T]>> = BTreeMap::new();
        let mut list = Self::default();
        for part in parts {
            let (items, from, to, segment) = match part {
                Part::Inline(items) => {
                    let to = items.len();
                    (items.into_iter().map(T::restore).collect(), 0, to, None)
                }
                Part::Segment { number, from, to } => {
                    if let Some(items) = segments.remove(&number) {
                        loaded.insert(number, T::list(items)?.into_iter().map(T::restore).collect());
                    }
                    let items = Arc::clone(loaded.get(&number)?);
                    (items, usize::try_from(from).ok()?, usize::try_from(to).ok()?, Some(number))
                }
            };
            let weight = items.get(from..to)?.iter().map(T::weight).sum();
            if from < to {
                list.len += to - from;
                list.pieces.push_back(Piece { body: Body::Closed { items, from, to, segment }, weight });
            }
        }
        list.named = loaded.into_keys().collect();
        Some(list)
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All items, from the front.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flat_map(Piece::iter)
    }

    /// The items from this one on.
    pub(crate) fn iter_from(&self, index: usize) -> impl Iterator<Item = &T> {
        let (at, offset) = self.place(index);
        self.pieces.iter().skip(at).flat_map(Piece::iter).skip(offset)
    }

    /// Puts an item at the end.
    pub(crate) fn push_back(&mut self, item: T) {
        self.len += 1;
        let item = match self.pieces.back_mut() {
            None => Some(item),
            Some(last) => last.insert(last.len(), item),
        };
        self.pieces.extend(item.map(Piece::open));
    }

    /// Takes the first item.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.pieces.front_mut()?;
        let item = first.pop()?;
        self.len -= 1;
        if first.len() == 0 {
            self.pieces.pop_front();
        }
        Some(item)
    }

    /// Puts an item before the one at `index`; at the end when there is none.
    pub(crate) fn insert(&mut self, index: usize, item: T) {
        if index >= self.len {
            return self.push_back(item);
        }
        self.len += 1;
        let (mut at, offset) = self.place(index);
        let mut left = Some(item);
        if offset > 0 {
            left = self.insert_in(at, offset, left);
            if left.is_none() {
                return;
            }
            let rest = self.pieces.get_mut(at).map(|piece| piece.split(offset));
            at += 1;
            rest.into_iter().for_each(|rest| self.pieces.insert(at, rest));
        }
        // Now it belongs between two pieces.
        if let Some(before) = at.checked_sub(1) {
            let end = self.pieces.get(before).map_or(0, Piece::len);
            left = self.insert_in(before, end, left);
        }
        left = self.insert_in(at, 0, left);
        left.into_iter().for_each(|item| self.pieces.insert(at, Piece::open(item)));
    }

    /// Puts an item in a piece; gives it back when that takes none.
    fn insert_in(&mut self, piece: usize, offset: usize, item: Option<T>) -> Option<T> {
        match self.pieces.get_mut(piece) {
            Some(piece) => piece.insert(offset, item?),
            None => item,
        }
    }

    /// The piece of an item, and which of its items it is.
    fn place(&self, index: usize) -> (usize, usize) {
        let (mut at, mut offset) = (0, index);
        for length in self.pieces.iter().map(Piece::len) {
            if offset < length {
                break;
            }
            (at, offset) = (at + 1, offset - length);
        }
        (at, offset)
    }

    /// Closes the list for a checkpoint: gives its parts there, and adds to the segments that are to be written and removed.
    pub(crate) fn save(&mut self, segments: &mut Segments) -> Vec<Part<T::Stored>> {
        self.merge(Piece::draws);
        let weight: usize = self.pieces.iter().map(|piece| piece.weight).sum();
        if self.pieces.len() > PIECES_MIN + 4 * (weight / PIECE_BYTES_MAX) {
            self.merge(|_, _| true);
        }
        let mut room = segments.inline_bytes_max.saturating_mul(2);
        let parts = self.pieces.iter_mut().map(|piece| piece.close(&mut room, segments)).collect();
        let mut named: Vec<u64> = self.pieces.iter().filter_map(Piece::segment).collect();
        named.sort_unstable();
        named.dedup();
        segments.gone.extend(self.named.iter().filter(|number| named.binary_search(number).is_err()));
        self.named = named;
        parts
    }

    /// Makes one of neighbours that belong together, where that is not too large.
    fn merge(&mut self, belong: impl Fn(&Piece<T>, &Piece<T>) -> bool) {
        let mut merged: VecDeque<Piece<T>> = VecDeque::with_capacity(self.pieces.len());
        for mut piece in self.pieces.drain(..) {
            let fits = |before: &Piece<T>, piece: &Piece<T>| {
                before.weight + piece.weight <= PIECE_BYTES_MAX && belong(before, piece)
            };
            while let Some(before) = merged.pop_back_if(|before| fits(before, &piece)) {
                piece = before.join(&piece);
            }
            merged.push_back(piece);
        }
        self.pieces = merged;
    }
}

/// Neighbouring items of a list.
#[derive(Debug, Clone)]
struct Piece<T> {
    body: Body<T>,
    weight: usize,
}

#[derive(Debug, Clone)]
enum Body<T> {
    /// Not in a checkpoint yet; takes more.
    Open(VecDeque<T>),
    /// As the last checkpoint has it: some items of a segment, or inline.
    Closed { items: Arc<[T]>, from: usize, to: usize, segment: Option<u64> },
}

impl<T: Item> Piece<T> {
    fn open(item: T) -> Self {
        Self { weight: item.weight(), body: Body::Open(VecDeque::from([item])) }
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Open(items) => items.len(),
            Body::Closed { from, to, .. } => to - from,
        }
    }

    fn segment(&self) -> Option<u64> {
        match &self.body {
            Body::Open(_) => None,
            Body::Closed { segment, .. } => *segment,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        let (head, tail) = match &self.body {
            Body::Open(items) => items.as_slices(),
            Body::Closed { items, from, to, .. } => (items.get(*from..*to).unwrap_or_default(), &[][..]),
        };
        head.iter().chain(tail)
    }

    /// Puts an item before the one at `offset`; gives it back when the piece is closed or full.
    fn insert(&mut self, offset: usize, item: T) -> Option<T> {
        let weight = self.weight + item.weight();
        match &mut self.body {
            Body::Open(items) if weight <= PIECE_BYTES_MAX => items.insert(offset, item),
            _ => return Some(item),
        }
        self.weight = weight;
        None
    }

    fn pop(&mut self) -> Option<T> {
        let item = match &mut self.body {
            Body::Open(items) => items.pop_front()?,
            Body::Closed { items, from, .. } => {
                let item = items.get(*from)?.clone();
                *from += 1;
                item
            }
        };
        self.weight -= item.weight();
        Some(item)
    }

    /// Keeps the items before `offset`, and gives the others.
    fn split(&mut self, offset: usize) -> Self {
        let body = match &mut self.body {
            Body::Open(items) => Body::Open(items.split_off(offset)),
            Body::Closed { items, from, to, segment } => {
                let end = std::mem::replace(to, *from + offset);
                Body::Closed { items: Arc::clone(items), from: *to, to: end, segment: *segment }
            }
        };
        let mut rest = Self { body, weight: 0 };
        rest.weight = rest.iter().map(T::weight).sum();
        self.weight -= rest.weight;
        rest
    }

    /// Whether one of two neighbours has to be written now and is not smaller than the other, so that it takes that in.
    fn draws(&self, next: &Self) -> bool {
        match (self.segment(), next.segment()) {
            (None, None) => true,
            (None, Some(_)) => self.weight >= next.weight,
            (Some(_), None) => self.weight <= next.weight,
            (Some(_), Some(_)) => false,
        }
    }

    fn join(self, next: &Self) -> Self {
        let weight = self.weight + next.weight;
        let mut items = match self.body {
            Body::Open(items) => items,
            Body::Closed { .. } => self.iter().cloned().collect(),
        };
        items.extend(next.iter().cloned());
        Self { body: Body::Open(items), weight }
    }

    /// Gives its part of a checkpoint: inline while there is room for that, or as a segment, which may be a new one.
    fn close(&mut self, room: &mut usize, segments: &mut Segments) -> Part<T::Stored> {
        if let Body::Closed { from, to, segment: Some(number), .. } = &self.body {
            return Part::Segment { number: *number, from: *from as u64, to: *to as u64 };
        }
        let stored: Vec<T::Stored> = self.iter().map(T::store).collect();
        let items: Arc<[T]> = self.iter().cloned().collect();
        let to = items.len();
        if self.weight <= segments.inline_bytes_max.min(*room) {
            *room -= self.weight;
            self.body = Body::Closed { items, from: 0, to, segment: None };
            return Part::Inline(stored);
        }
        let number = segments.next;
        segments.next += 1;
        segments.fresh.insert(number, T::wrap(stored));
        self.body = Body::Closed { items, from: 0, to, segment: Some(number) };
        Part::Segment { number, from: 0, to: to as u64 }
    }
}

#[cfg(test)]
mod tests;
