//! What is there when a store is opened again, also after a crash.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    let refused = embedded::open(folder.path(), limits()).err().unwrap().to_string();
    assert!(refused.contains("another process has it open"), "{refused}");
    let claim = claimed(&store, &env, env.id()).await;
    let id = claim.walker.id.0;
    store.close().await.unwrap();
    assert!(matches!(store.run(id).await, Ok(Some(_))));
    let closed = store.submit(Submission { key: None, walker: walker(&env, env.id()) }).await;
    assert!(matches!(closed, Err(Error::Closed)));
    drop(store);
    let store = open_again(folder.path()).await;
    let due = store.open_runs(None, 10).await.unwrap();
    // A clean stop is no crash: what was under way was handed back.
    assert_eq!((due.due[0].id, due.due[0].lost), (id, 0));
    assert_eq!(store.run(id).await.unwrap().unwrap().schedule.status, Status::Pending);
    let again = take(&store, &env, id).await;
    assert_eq!((again.walker.run.attempt, again.walker.run.lost), (1, 0));
    assert!(again.token > claim.token, "tokens rise over restarts");
    assert!(matches!(store.progress(id, claim.token, env.now(), json!(1)).await, Err(Error::LeaseLost)));
}

/// The committer's thread lets go of the files a moment after the last handle.
/// A store on a simulated disk, opened after whatever was open there was killed.
fn after_a_kill(disk: &Disk) -> Shared {
    disk.open(limits()).unwrap()
}

#[tokio::test]
async fn what_an_earlier_process_lost_is_not_handed_back_by_a_later_one() {
    let (disk, env) = (Disk::new(1), env());
    let store = after_a_kill(&disk);
    let id = claimed(&store, &env, env.id()).await.walker.id.0;
    let store = after_a_kill(&disk);
    for act in [Act::Pause, Act::Resume] {
        assert!(matches!(store.act(id, env.now(), act).await.unwrap(), Some(Acted::Asked(_))));
    }
    store.close().await.unwrap();
    let run = take(&after_a_kill(&disk), &env, id).await.walker.run;
    assert_eq!((run.attempt, run.lost), (2, 1));
}

#[tokio::test]
async fn the_last_record_counts_lost_attempts_from_the_last_checkpoint_on() {
    for stands in [false, true] {
        let (disk, env) = (Disk::new(1), env());
        let store = after_a_kill(&disk);
        let id = claimed(&store, &env, env.id()).await.walker.id.0;
        let store = after_a_kill(&disk);
        let claim = take(&store, &env, id).await;
        if stands {
            let checkpoint = Checkpoint { fields: claim.walker.archetype.clone(), ..Checkpoint::default() };
            let then = Then::Checkpoint(Box::new(checkpoint.into()));
            let run = Some(RunCommit { then, ..finish(&claim, &env, None) });
            store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
        }
        let run = Some(finish(&claim, &env, None));
        store.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
        assert_eq!(store.run(id).await.unwrap().unwrap().run.lost, u32::from(!stands));
    }
}

/// A program that cannot run it parks it after its pause was asked for; the next one can.
#[tokio::test]
async fn who_asked_for_a_pause_gets_it_when_the_run_was_parked() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    let claim = claimed(&store, &env, env.id()).await;
    let id = claim.walker.id.0;
    assert!(matches!(store.act(id, env.now(), Act::Pause).await.unwrap(), Some(Acted::Asked(_))));
    release(&store, &env, &claim, Release::Park { error: "no such walker".to_owned() }).await;
    assert_eq!(state(&store, id).await, State::Incompatible, "it says why it does not go on");
    store.close().await.unwrap();
    drop(store);
    let store = open_again(folder.path()).await;
    assert_eq!((is_taken(&store, &env, id).await, state(&store, id).await), (false, State::Paused));
    assert!(matches!(store.act(id, env.now(), Act::Resume).await.unwrap(), Some(Acted::Due(_))));
    assert_eq!(take(&store, &env, id).await.walker.run.attempt, 1);
}

async fn open_again(folder: &std::path::Path) -> Shared {
    loop {
        match embedded::open(folder, limits()) {
            Ok(store) => return store,
            Err(error) if error.to_string().contains("another process") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    let claim = claimed(&store, &env, env.id()).await;
    store.close().await.unwrap();
    drop(store);
    drop(open_again(folder.path()).await);
    let full = loop {
        match embedded::open(folder.path(), Limits { disk_free_min: u64::MAX, ..Limits::default() }) {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let refused = full.submit(Submission { key: None, walker: walker(&env, env.id()) }).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    let id = claim.walker.id.0;
    let again = take(&full, &env, id).await;
    let run = Some(finish(&again, &env, None));
    full.commit(env.now(), Commit { run, ..Commit::default() }).await.unwrap();
    assert_eq!(full.run(id).await.unwrap().unwrap().schedule.status, Status::Completed);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The one journal of a store.
fn journal(folder: &std::path::Path) -> std::path::PathBuf {
    let mut journals: Vec<_> = std::fs::read_dir(folder.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .collect();
    assert_eq!(journals.len(), 1);
    journals.pop().unwrap()
}

/// The position of every tag byte: of each batch's begin, of its items, of its end.
fn tags(journal: &[u8]) -> Vec<usize> {
    let number = |at: usize, bytes: usize| {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(&journal[at..at + bytes]);
        u64::from_le_bytes(wide) as usize
    };
    let mut tags = Vec::new();
    let mut at = 0;
    while at < journal.len() {
        let length = match journal[at] {
            1 => 1 + 4 + 8,
            2 => {
                let (key, value) = (number(at + 11, 2), number(at + 17, 4));
                1 + 1 + 1 + 8 + 2 + 4 + 4 + key + value
            }
            3 => 1 + 8 + 4,
            4 => 1 + 8,
            _ => break,
        };
        tags.push(at);
        at += length;
    }
    tags
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_noticed_and_nothing_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let live = folder.path().join("live");
    std::fs::create_dir(&live).unwrap();
    let store = embedded::open(&live, limits()).unwrap();
    let root = env.id();
    let mut ids = Vec::new();
    for n in 0..20 {
        let item = node(&env, Some(root), &json!({ "n": n }));
        ids.push(item.id);
        commit(&store, &env, vec![put(item, None)], vec![]).await.unwrap();
    }
    // As a kill would leave it.
    let killed = folder.path().join("killed");
    copy(&live, &killed);
    let journal = journal(&killed);
    let mut whole = std::fs::read(&journal).unwrap();
    // Most of a journal is room set aside: some of it is enough, so many cases take less time.
    whole.truncate(whole.iter().rposition(|byte| *byte != 0).unwrap() + 4096);
    std::fs::write(&journal, &whole).unwrap();
    let tags = tags(&whole);
    assert!(tags.len() > 60, "{} tags in {} bytes", tags.len(), whole.len());
    let (mut refused, mut opened) = (0, 0);
    for &tag in &tags {
        let case = folder.path().join(format!("case-{tag}"));
        copy(&killed, &case);
        let path = case.join("store").join(journal.file_name().unwrap());
        let mut bytes = whole.clone();
        bytes[tag] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        match embedded::open(&case, limits()) {
            Ok(store) => {
                let found = store.snapshot().await.unwrap().elements(Kind::Node, &ids).await.unwrap();
                let there = found.iter().flatten().count();
                assert!(there + 1 >= ids.len(), "tag {tag}: {there} of {} without a word", ids.len());
                opened += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(case.to_str().unwrap()), "{text}");
                assert!(std::fs::read(&path).unwrap() == bytes, "tag {tag}: the journal is as it was");
                refused += 1;
            }
        }
        // Thread and files of this case are let go of by the system; its folder goes with the test's.
    }
    assert!(refused > tags.len() / 2, "{refused} refused, {opened} opened");
}

/// Where every batch begins, and how many groups before the last may be unsynced by what that one says.
fn batches(journal: &[u8]) -> (Vec<usize>, u64) {
    let starts: Vec<usize> = tags(journal).into_iter().filter(|at| journal[*at] == 1).collect();
    let last = &journal[*starts.last().unwrap()..];
    let magic = b"\xf7WKBTGR\x01";
    let at = last.windows(magic.len()).position(|bytes| bytes == magic).unwrap() + magic.len();
    let number = |at: usize| u64::from_be_bytes(last[at..at + 8].try_into().unwrap());
    (starts, number(at) - number(at + 8) - 1)
}

/// A store as a power loss leaves it, with a journal to spoil: three nodes, three claims that are not synced, one more node.
async fn unsynced_claims(folder: &std::path::Path) -> (Vec<Uuid>, Vec<u8>, Vec<usize>) {
    let env = env();
    for attempt in 0.. {
        let live = folder.join(format!("live-{attempt}"));
        std::fs::create_dir(&live).unwrap();
        let store = embedded::open(&live, limits()).unwrap();
        let walkers: Vec<_> = (0..3).map(|_| walker(&env, env.id())).collect();
        for walker in &walkers {
            store.submit(Submission { key: None, walker: walker.clone() }).await.unwrap();
        }
        let mut ids = Vec::new();
        for n in 0..4 {
            if n == 3 {
                for walker in &walkers {
                    take(&store, &env, walker.id.0).await;
                }
            }
            let item = node(&env, Some(env.id()), &json!({ "n": n }));
            ids.push(item.id);
            commit(&store, &env, vec![put(item, None)], vec![]).await.unwrap();
        }
        let killed = folder.join("killed");
        copy(&live, &killed);
        let bytes = std::fs::read(journal(&killed)).unwrap();
        let (starts, unsynced) = batches(&bytes);
        // When this thread was held up, a `started` event came in between and was synced.
        if unsynced == 3 {
            return (ids, bytes, starts);
        }
    }
    unreachable!()
}

async fn there(store: &Shared, ids: &[Uuid]) -> Vec<bool> {
    let found = store.snapshot().await.unwrap().elements(Kind::Node, ids).await.unwrap();
    found.iter().map(Option::is_some).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_may_take_pages_of_what_was_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let (ids, whole, starts) = unsynced_claims(folder.path()).await;
    let spoil = |case: &str, batch: usize| {
        let case = folder.path().join(case);
        copy(&folder.path().join("killed"), &case);
        let mut bytes = whole.clone();
        bytes[starts[batch]..starts[batch + 1]].fill(0);
        std::fs::write(journal(&case), bytes).unwrap();
        embedded::open(&case, limits())
    };
    let last = starts.len() - 1;
    let store = spoil("first claim", last - 3).unwrap();
    assert_eq!(there(&store, &ids).await, [true, true, true, false]);
    let refused = spoil("synced", last - 4).err().unwrap().to_string();
    assert!(refused.contains("is damaged"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_journal_is_noticed_after_a_clean_stop() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let store = embedded::open(folder.path(), limits()).unwrap();
    for _ in 0..10 {
        commit(&store, &env, vec![put(node(&env, Some(env.id()), &json!({})), None)], vec![]).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    // The engine tidies up until it lets go of the lock.
    let lock = std::fs::File::open(folder.path().join("lock")).unwrap();
    while lock.try_lock().is_err() {
        tokio::task::yield_now().await;
    }
    let cut = folder.path().join("cut");
    std::fs::create_dir(&cut).unwrap();
    for part in ["store", "clean-stop"] {
        let (from, to) = (folder.path().join(part), cut.join(part));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
    let journal = journal(&cut);
    let bytes = std::fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&journal, &bytes[..used / 2]).unwrap();
    let refused = embedded::open(&cut, limits()).err().unwrap().to_string();
    assert!(refused.contains("is gone") || refused.contains("damaged"), "{refused}");
    assert_eq!(std::fs::read(&journal).unwrap().len(), used / 2);
}
