use std::os::unix::fs::MetadataExt;

use walkabout_schema::{Access, Key, Timestamp, User};

use super::{journals::Journals, *};
use crate::{
    runtime::root_element,
    store::{
        Element,
        kv::keys::{META_GROUP, Marker},
    },
};

const LENGTH: u64 = 8 << 20;

/// A batch as the engine writes it: begin, one item of the group's marker, one of other bytes, end.
fn batch(group: u64, synced: u64, value: &[u8]) -> Vec<u8> {
    let item = |key: &[u8], value: &[u8]| {
        let mut item = vec![2, 0, 0];
        item.extend(1_u64.to_le_bytes());
        item.extend((key.len() as u16).to_le_bytes());
        item.extend((value.len() as u32).to_le_bytes());
        item.extend((value.len() as u32).to_le_bytes());
        [&item, key, value].concat()
    };
    let begin = [&[1_u8, 2, 0, 0, 0][..], &group.to_le_bytes()].concat();
    let marker = Marker { group, synced }.encode();
    [&begin, &item(META_GROUP, &marker), &item(b"other", value), &[3; 9][..], b"FJL\x03"].concat()
}

fn write_journal(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(FILES).join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(LENGTH).unwrap();
}

/// A folder with one journal of three groups, the last of them large.
fn stored() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FILES)).unwrap();
    let bytes = [batch(1, 0, b"a"), batch(2, 1, b"b"), batch(3, 2, &[7; 20_000])].concat();
    write_journal(folder.path(), "0.jnl", &bytes);
    (folder, bytes)
}

fn parts(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_takes_no_more_room_than_what_was_written() {
    let (folder, bytes) = stored();
    let journals = Journals::copy_aside(folder.path()).unwrap();
    let copy = folder.path().join("journals-before-opening/0.jnl");
    let held = copy.metadata().unwrap();
    assert_eq!(held.len(), LENGTH);
    assert!(held.blocks() * 512 < 64 << 10, "{} blocks", held.blocks());
    write_journal(folder.path(), "0.jnl", b"what the engine left");
    journals.put_back().unwrap();
    let back = std::fs::read(folder.path().join(FILES).join("0.jnl")).unwrap();
    assert_eq!((back.len() as u64, &back[..bytes.len()]), (LENGTH, &bytes[..]));
    assert_eq!(parts(folder.path()), [FILES]);
}

#[test]
fn nothing_is_copied_after_a_clean_stop() {
    let (folder, mut bytes) = stored();
    journals::mark_clean(folder.path(), 3).unwrap();
    let journals = Journals::copy_aside(folder.path()).unwrap();
    assert_eq!(parts(folder.path()), ["clean-stop", FILES]);
    journals.check(3).unwrap();
    assert!(journals.check(2).is_err(), "none may be missing");
    journals.put_back().unwrap();
    bytes[60] ^= 1;
    write_journal(folder.path(), "0.jnl", &bytes);
    let journals = Journals::copy_aside(folder.path()).unwrap();
    assert_eq!(parts(folder.path()), ["clean-stop", "journals-before-opening", FILES]);
    journals.forget().unwrap();
    assert_eq!(parts(folder.path()), [FILES]);
}

#[test]
fn an_old_note_of_a_clean_stop_asks_for_no_more_than_it_says() {
    let (folder, bytes) = stored();
    write_journal(folder.path(), "0.jnl", &batch(1, 0, b"a"));
    journals::mark_clean(folder.path(), 1).unwrap();
    write_journal(folder.path(), "0.jnl", &bytes);
    let journals = Journals::copy_aside(folder.path()).unwrap();
    // The third group may be unfinished; it says that the second was synced.
    journals.check(2).unwrap();
    assert!(journals.check(1).is_err());
}

#[test]
fn a_failed_copy_leaves_nothing() {
    let (folder, _) = stored();
    std::fs::create_dir(folder.path().join(FILES).join("1.jnl")).unwrap();
    assert!(Journals::copy_aside(folder.path()).is_err());
    assert_eq!(parts(folder.path()), [FILES]);
}

/// As a kill leaves it, and the length of what was written.
async fn killed(folder: &Path, values: &[usize]) -> usize {
    let store = open(folder, Limits::default()).unwrap();
    for (number, length) in values.iter().enumerate() {
        store.keep(&number.to_string(), vec![7; *length]).await.unwrap();
    }
    drop(store);
    let journal = std::fs::read(folder.join(FILES).join("0.jnl")).unwrap();
    raw::batches(&journal).last().unwrap().end
}

/// Opens again, as soon as the committer's thread has let go of the files.
fn open_again(folder: &Path) -> Result<Arc<dyn Store>> {
    loop {
        match open(folder, Limits::default()) {
            Err(error) if error.to_string().contains("another process") => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

fn spoil(folder: &Path, spoil: impl FnOnce(&mut [u8])) {
    let path = folder.join(FILES).join("0.jnl");
    let mut journal = std::fs::read(&path).unwrap();
    spoil(&mut journal);
    std::fs::write(path, journal).unwrap();
}

#[tokio::test]
async fn a_torn_last_group_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let end = killed(folder.path(), &[10, 10, 20_000]).await;
    // A page that did not reach the disk before the power went.
    let page = (end - 10_000).next_multiple_of(4096);
    spoil(folder.path(), |journal| journal[page..page + 4096].fill(0));
    let store = open_again(folder.path()).unwrap();
    assert_eq!(store.keep("1", vec![8]).await.unwrap(), [7; 10]);
    assert_eq!(store.keep("2", vec![8]).await.unwrap(), [8]);
}

#[tokio::test]
async fn damage_is_not_taken_for_a_torn_group() {
    for (values, torn) in [(&[20_000, 10][..], 4096), (&[10, 20_000], 1)] {
        let folder = tempfile::tempdir().unwrap();
        let end = killed(folder.path(), values).await;
        let page = (end - 10_000).next_multiple_of(4096);
        spoil(folder.path(), |journal| journal[page..page + torn].fill(0));
        let refused = open_again(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("damaged"), "{refused}");
    }
}

#[tokio::test]
async fn a_journal_before_the_last_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Limits::default()).unwrap();
    let owner = uuid::Uuid::from_u128(1);
    let (user, root) = user(owner);
    store.register(user, Some(root)).await.unwrap();
    // What is small stays in memory while a second journal is begun, so the first is kept.
    for number in 0..70 {
        store.keep(&number.to_string(), vec![7; 1 << 20]).await.unwrap();
    }
    drop(store);
    while journals::lock(folder.path()).is_err() {
        std::thread::yield_now();
    }
    spoil(folder.path(), |journal| {
        let second = raw::batches(journal).nth(1).unwrap();
        journal[second.start] ^= 0x40;
    });
    let refused = open_again(folder.path()).err().unwrap().to_string();
    assert!(refused.contains("0.jnl is damaged"), "{refused}");
}

fn user(owner: uuid::Uuid) -> (User, Arc<Element>) {
    let root = root_element(owner, Access::private());
    let user = User {
        id: Key(owner),
        email: "ann@example.com".to_owned(),
        password: String::new(),
        root_id: Key(owner),
        is_activated: true,
        is_admin: false,
        created_at: Timestamp::from_millis(0),
        version: 1,
        sessions: Vec::new(),
        tickets: Vec::new(),
        webhook_keys: Vec::new(),
        sso: std::collections::BTreeMap::new(),
        is_verified: false,
        fields: walkabout_schema::Fields::default(),
    };
    (user, Arc::new(root))
}

#[tokio::test]
async fn a_store_without_one_of_its_key_spaces_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &[10]).await;
    while journals::lock(folder.path()).is_err() {
        std::thread::yield_now();
    }
    let (spaces, aside) = (folder.path().join(FILES).join("keyspaces"), folder.path().join("gone"));
    std::fs::rename(spaces.join("5"), &aside).unwrap();
    let before = parts(&spaces);
    let refused = open(folder.path(), Limits::default()).err().unwrap().to_string();
    assert!(refused.contains("key space"), "{refused}");
    assert_eq!(parts(&spaces), before, "nothing was made in its place");
    std::fs::rename(&aside, spaces.join("5")).unwrap();
    let store = open(folder.path(), Limits::default()).unwrap();
    assert_eq!(store.keep("0", vec![8]).await.unwrap(), [7; 10]);
}

#[tokio::test]
async fn a_first_opening_that_was_cut_off_is_begun_again() {
    for version in [None, Some(&b""[..]), Some(b"FJ"), Some(b"\0\0\0\x03"), Some(b"FJL\0")] {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join(FILES);
        std::fs::create_dir_all(files.join("keyspaces")).unwrap();
        std::fs::write(files.join("lock"), "").unwrap();
        write_journal(folder.path(), "0.jnl", b"");
        if let Some(version) = version {
            std::fs::write(files.join("version"), version).unwrap();
        }
        let store = open(folder.path(), Limits::default()).unwrap();
        store.keep("a", vec![7]).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_lost_its_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &[10]).await;
    while journals::lock(folder.path()).is_err() {
        std::thread::yield_now();
    }
    let (files, aside) = (folder.path().join(FILES), folder.path().join("gone"));
    std::fs::rename(files.join("version"), &aside).unwrap();
    assert!(open(folder.path(), Limits::default()).is_err());
    std::fs::rename(&aside, files.join("version")).unwrap();
    let store = open(folder.path(), Limits::default()).unwrap();
    assert_eq!(store.keep("0", vec![8]).await.unwrap(), [7; 10]);
}
