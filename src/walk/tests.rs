use std::collections::HashSet;

use super::*;

fn at(n: u128) -> Location {
    Location { kind: Kind::Node, id: Uuid::from_u128(n), name: Name::empty() }
}

fn order(walk: &mut Walk) -> Vec<u128> {
    std::iter::from_fn(|| walk.next()).map(|location| location.id.as_u128()).collect()
}

#[test]
fn visits_in_order_and_at_an_index() {
    let mut walk = Walk::starting_at([at(1)]);
    assert_eq!(walk.next().unwrap().id, at(1).id);
    assert_eq!(walk.visit(None, [at(2), at(3)]), 2);
    assert_eq!(walk.visit(Some(0), [at(4), at(5)]), 2);
    assert_eq!(walk.visit(Some(99), [at(6)]), 1);
    assert_eq!(order(&mut walk), [4, 5, 2, 3, 6]);
    assert_eq!(walk.visits(), 6);
}

#[test]
fn ignored_elements_do_not_enter_the_frontier() {
    let mut walk = Walk::starting_at([]);
    walk.ignore(at(2).id);
    assert_eq!(walk.visit(None, [at(1), at(2), at(3)]), 2);
    assert_eq!(order(&mut walk), [1, 3]);
}

/// The walk as a checkpoint brings it back.
fn resumed(walk: &mut Walk) -> Walk {
    let (mut checkpoint, mut segments) = (Checkpoint::default(), Segments::default());
    walk.save(&mut segments, &mut checkpoint);
    Walk::resume(&mut checkpoint, &mut segments.fresh).unwrap()
}

#[test]
fn what_is_ignored_is_ignored_in_copies_and_after_checkpoints() {
    let mut walk = Walk::starting_at([]);
    (0..1000).for_each(|n| walk.ignore(at(n % 500).id));
    assert_eq!(walk.ignored.len(), 500);
    let mut copy = resumed(&mut walk).clone();
    copy.ignore(at(500).id);
    assert_eq!((walk.visit(None, (499..502).map(at)), copy.visit(None, (499..502).map(at))), (2, 1));
}

#[test]
fn disengaging_ends_it() {
    let mut walk = Walk::starting_at([at(1), at(2)]);
    walk.next();
    walk.disengage();
    assert_eq!(walk.next(), None);
}

#[test]
fn a_checkpoint_brings_everything_back() {
    let mut walk = Walk::starting_at([at(1), at(2), at(3)]);
    assert!(walk.begin());
    walk.next();
    walk.ignore(at(9).id);
    let mut resumed = resumed(&mut walk);
    assert!(!resumed.begin());
    assert_eq!(resumed.visits(), 1);
    assert_eq!(resumed.visit(None, [at(9)]), 0);
    assert_eq!(order(&mut resumed), [2, 3]);
}

#[test]
fn every_stage_has_a_name_of_its_own() {
    let names: HashSet<_> = [Stage::Start, Stage::End].into_iter().chain(ORDER).map(Stage::as_str).collect();
    assert_eq!(names.len(), ORDER.len() + 2);
}

#[test]
fn a_checkpoint_remembers_that_the_walker_disengaged() {
    let mut walk = Walk::starting_at([at(1), at(2)]);
    walk.next();
    walk.disengage();
    let mut resumed = resumed(&mut walk);
    assert!(resumed.is_disengaged());
    assert!(resumed.next().is_none());
}
