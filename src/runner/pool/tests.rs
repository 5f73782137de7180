use std::sync::{Weak, mpsc};

use super::*;

/// Looks until something holds: what threads do at their ends tells nobody.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Env::system().instant();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        thread::yield_now();
    }
}

fn pool(hogged_max: usize) -> (Pool, Ground, Weak<Crew>) {
    let ground = Ground::start().unwrap();
    // Whatever is under way at a look is a hog.
    let hog_after = Duration::ZERO;
    let bounds = Bounds { threads: 2, per_thread_max: 8, waiting_max: 8, hog_after, hogged_max };
    let pool = Pool::start("test", bounds, &ground, &Env::system()).unwrap();
    let crew = Arc::downgrade(pool.crew().unwrap());
    (pool, ground, crew)
}

/// A job that holds its thread until the sender is dropped; awaited until it has begun.
fn hold(pool: &Pool) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let job = async move {
        begin.send(()).unwrap();
        assert!(released.recv().is_err(), "it is told by dropping");
    };
    assert!(pool.spawn(Label::Queue, Box::pin(job)));
    begun.recv().unwrap();
    release
}

fn seats(pool: &Pool) -> usize {
    pool.crew().unwrap().seats().taken.len()
}

#[test]
fn hogged_threads_are_replaced_up_to_the_bound_and_leave_when_they_are_free() {
    let (pool, _ground, crew) = pool(1);
    let hogs = [hold(&pool), hold(&pool)];
    pool.crew().unwrap().look();
    assert_eq!((pool.crew().unwrap().hogged(), seats(&pool)), (2, 3), "one of two is made up for");
    let (send, receive) = mpsc::channel();
    assert!(pool.spawn(Label::Queue, Box::pin(async move { send.send(7).unwrap() })));
    assert_eq!(receive.recv(), Ok(7), "others go on");
    until("hogs are not waited for", || pool.is_finished());
    drop(hogs);
    until("the threads are as many as before", || {
        pool.crew().is_some_and(|crew| crew.hogged() == 0) && seats(&pool) == 2
    });
    drop(pool);
    until("every thread has ended", || crew.strong_count() == 0);
}

#[test]
fn a_dropped_pool_leaves_no_thread_but_hogs() {
    let (pool, _ground, crew) = pool(8);
    let hog = hold(&pool);
    pool.crew().unwrap().look();
    let (send, receive) = mpsc::channel::<()>();
    let endless = async move {
        std::future::pending::<()>().await;
        drop(send);
    };
    assert!(pool.spawn(Label::Queue, Box::pin(endless)));
    drop(pool);
    assert!(receive.recv().is_err(), "what was under way is dropped");
    until("the other threads have ended", || crew.upgrade().is_none_or(|crew| crew.seats().taken.len() == 1));
    drop(hog);
    until("the hog's thread has ended", || crew.strong_count() == 0);
}

#[test]
fn what_finds_no_room_is_refused() {
    let (pool, _ground, _crew) = pool(8);
    for _ in 0..2 * 8 + 8 {
        assert!(pool.spawn(Label::Queue, Box::pin(std::future::pending())));
    }
    assert!(!pool.spawn(Label::Queue, Box::pin(std::future::pending())));
}
