use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A number. Some are heavy, and a few too heavy for any company.
#[derive(Debug, Clone, PartialEq)]
struct Thing(u64);

impl Item for Thing {
    type Stored = Value;

    fn weight(&self) -> usize {
        match self.0 {
            number if number % 997 == 996 => PIECE_BYTES_MAX + 1,
            number if number % 31 == 30 => 100 * ITEM_BYTES,
            _ => ITEM_BYTES,
        }
    }
    fn store(&self) -> Value {
        json!(self.0)
    }
    fn restore(stored: Value) -> Self {
        Self(stored.as_u64().unwrap())
    }
    fn wrap(items: Vec<Value>) -> Items {
        Items::Reports(items)
    }
    fn list(items: Items) -> Option<Vec<Value>> {
        if let Items::Reports(items) = items { Some(items) } else { None }
    }
}

const INLINE: usize = 64 * ITEM_BYTES;

/// A list beside a plain one, and what is stored of it.
#[derive(Default)]
struct Bench {
    list: Pieces<Thing>,
    plain: VecDeque<u64>,
    /// As at the last checkpoint.
    saved: (Pieces<Thing>, VecDeque<u64>),
    stored: BTreeMap<u64, Items>,
    parts: Vec<Part<Value>>,
    next_number: u64,
    next_item: u64,
    /// Items written in segments.
    written: usize,
}

impl Bench {
    fn push(&mut self, count: u64) {
        for _ in 0..count {
            self.list.push_back(Thing(self.next_item));
            self.plain.push_back(self.next_item);
            self.next_item += 1;
        }
    }

    fn insert(&mut self, index: usize, count: u64) {
        for index in (index..).take(usize::try_from(count).unwrap()) {
            self.list.insert(index, Thing(self.next_item));
            self.plain.insert(index.min(self.plain.len()), self.next_item);
            self.next_item += 1;
        }
    }

    fn pop(&mut self, count: u64) {
        for _ in 0..count {
            assert_eq!(self.list.pop_front().map(|thing| thing.0), self.plain.pop_front());
        }
    }

    /// A checkpoint that is written.
    fn save(&mut self) {
        let mut segments =
            Segments { next: self.next_number, inline_bytes_max: INLINE, ..Segments::default() };
        self.parts = self.list.save(&mut segments);
        for (number, items) in segments.fresh {
            assert!((self.next_number..segments.next).contains(&number), "a number is used once");
            self.written += items.len();
            self.stored.insert(number, items);
        }
        for number in segments.gone {
            assert!(self.stored.remove(&number).is_some(), "what goes was there");
        }
        self.next_number = segments.next;
        let named: BTreeSet<u64> = self.parts.iter().filter_map(number).collect();
        assert!(named.iter().eq(self.stored.keys()), "what is stored is what is named");
        self.saved = (self.list.clone(), self.plain.clone());
    }

    /// A checkpoint that is refused: the walk goes on from the one before.
    fn refuse(&mut self) {
        let mut segments =
            Segments { next: self.next_number, inline_bytes_max: INLINE, ..Segments::default() };
        self.list.save(&mut segments);
        self.next_number = segments.next;
        (self.list, self.plain) = self.saved.clone();
    }

    fn reload(&mut self) {
        let mut segments = self.stored.clone();
        self.list = Pieces::load(self.parts.clone(), &mut segments).unwrap();
        assert!(segments.is_empty());
        self.plain = self.saved.1.clone();
    }

    /// A new checkpoint has not too many parts, none too heavy, and little inline.
    fn check_bounds(&self) {
        let weigh = |items: &[Value]| items.iter().map(|item| Thing::restore(item.clone()).weight()).sum();
        let heavy = |items: &Items| match items {
            Items::Reports(items) => items.len() > 1 && weigh(items) > PIECE_BYTES_MAX,
            _ => true,
        };
        assert!(!self.stored.values().any(heavy));
        let inline =
            self.parts.iter().map(|part| if let Part::Inline(items) = part { weigh(items) } else { 0 });
        assert!(inline.sum::<usize>() <= 2 * INLINE);
        let all: usize = self.plain.iter().map(|number| Thing(*number).weight()).sum();
        assert!(self.parts.len() <= PIECES_MIN + 4 * (all / PIECE_BYTES_MAX), "{} parts", self.parts.len());
    }
}

fn number(part: &Part<Value>) -> Option<u64> {
    if let Part::Segment { number, .. } = part { Some(*number) } else { None }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Insert(prop::sample::Index, u64),
    Pop(u64),
    Save,
    Refuse,
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let count = || prop_oneof![4 => 0_u64..10, 2 => 0_u64..200, 1 => 0_u64..6000];
    prop_oneof![
        4 => count().prop_map(Step::Push),
        3 => (any::<prop::sample::Index>(), count()).prop_map(|(at, count)| Step::Insert(at, count)),
        3 => count().prop_map(Step::Pop),
        4 => Just(Step::Save),
        1 => Just(Step::Refuse),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_is_the_list_that_it_stands_for(steps in prop::collection::vec(step(), 0..60)) {
        let mut bench = Bench::default();
        for step in steps {
            match step {
                Step::Push(count) => bench.push(count),
                Step::Insert(at, count) => bench.insert(at.index(bench.plain.len() + 1), count),
                Step::Pop(count) => bench.pop(count),
                Step::Save => {
                    bench.save();
                    bench.check_bounds();
                }
                Step::Refuse => bench.refuse(),
                Step::Reload => bench.reload(),
            }
            prop_assert_eq!(bench.list.len(), bench.plain.len());
            prop_assert!(bench.list.iter().map(|thing| &thing.0).eq(&bench.plain));
            let from = bench.plain.len() / 2;
            prop_assert!(bench.list.iter_from(from).map(|thing| &thing.0).eq(bench.plain.range(from..)));
            let weights: usize = bench.list.pieces.iter().map(|piece| piece.weight).sum();
            prop_assert_eq!(weights, bench.list.iter().map(Thing::weight).sum::<usize>());
        }
        bench.save();
        bench.reload();
        bench.pop(bench.plain.len() as u64 + 1);
        bench.save();
        prop_assert!(bench.stored.is_empty() && bench.parts.is_empty());
    }
}

/// Runs a walk of this many checkpoints. Gives how often an item that was put in was written in a segment, over all.
fn writes_per_item(mut bench: Bench, checkpoints: usize, mut between: impl FnMut(&mut Bench, usize)) -> f64 {
    bench.save();
    bench.written = 0;
    let before = bench.next_item;
    for n in 0..checkpoints {
        between(&mut bench, n);
        bench.save();
        if n % 100 == 0 {
            bench.check_bounds();
        }
    }
    f64::from(u32::try_from(bench.written).unwrap())
        / f64::from(u32::try_from(bench.next_item - before).unwrap())
}

fn waiting(count: u64) -> Bench {
    let mut bench = Bench::default();
    bench.push(count);
    bench
}

#[test]
fn an_item_is_written_a_few_times() {
    // Growing; level, as a queue; growing, as a queue; as a stack; in the middle.
    let growing = writes_per_item(Bench::default(), 5000, |bench, _| bench.push(7));
    let level = writes_per_item(waiting(10_000), 5000, |bench, _| {
        bench.pop(1);
        bench.push(1);
    });
    let queue = writes_per_item(Bench::default(), 5000, |bench, _| {
        bench.pop(1);
        bench.push(3);
    });
    let stack = writes_per_item(waiting(10_000), 5000, |bench, n| {
        bench.pop(1);
        bench.insert(0, if n % 3 == 0 { 3 } else { 1 });
    });
    let middle = writes_per_item(waiting(10_000), 5000, |bench, _| bench.insert(5000, 3));
    println!("{growing:.2} {level:.2} {queue:.2} {stack:.2} {middle:.2}");
    for writes in [growing, level, queue, stack, middle] {
        assert!(writes < 8.0, "{writes}: an item is written again when its piece at least doubles");
    }
    // Everywhere at once: each falls in a full piece of its own.
    let scattered = writes_per_item(waiting(100_000), 2000, |bench, n| bench.insert(n * 7919 % 100_000, 1));
    println!("{scattered:.2}");
    assert!(scattered < 4096.0, "{scattered}: no more than a piece for each");
}

#[test]
fn a_copy_shares_what_is_closed() {
    let mut bench = waiting(100_000);
    bench.save();
    bench.check_bounds();
    let copy = bench.list.clone();
    let shared = |(one, other): (&Piece<Thing>, &Piece<Thing>)| match (&one.body, &other.body) {
        (Body::Closed { items: one, .. }, Body::Closed { items: other, .. }) => Arc::ptr_eq(one, other),
        _ => false,
    };
    assert!(copy.pieces.iter().zip(&bench.list.pieces).all(shared));
}

#[test]
fn small_lists_write_no_segment() {
    let mut bench = Bench::default();
    // None of the first items is heavy.
    for _ in 0..10 {
        bench.push(3);
        bench.pop(1);
        bench.save();
        assert!(bench.stored.is_empty());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let load = |part: Part<Value>, items: Items| {
        Pieces::<Thing>::load(vec![part], &mut BTreeMap::from([(3, items)])).map(|list| list.len())
    };
    let items = || Items::Reports(vec![json!(1), json!(2)]);
    let part = |number, from, to| Part::Segment { number, from, to };
    assert_eq!(load(part(3, 0, 2), items()), Some(2));
    assert_eq!(load(part(3, 1, 1), items()), Some(0));
    assert_eq!(load(part(4, 0, 2), items()), None, "it is not there");
    assert_eq!(load(part(3, 0, 3), items()), None, "it is too short");
    assert_eq!(load(part(3, 2, 1), items()), None, "it goes backwards");
    assert_eq!(load(part(3, 0, 0), Items::Keys(vec![])), None, "it is of another kind");
}
