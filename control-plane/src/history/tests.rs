use jiff::Timestamp;

use super::*;
use crate::testing;

fn history(dir: &Path, versions: u32, max_mib: u32) -> History {
    History::new(dir, &HistoryConfig { versions, max_mib })
}

fn version(number: u32) -> Version {
    Version {
        number,
        made_at: Timestamp::from_second(1_800_000_000 + i64::from(number)).unwrap(),
        causes: vec![Cause { what: What::Rollback { to: 3 }, by: "alice (desk)".to_owned() }],
        entries_v4: 1,
        entries_v6: 0,
        checksum: 7,
        feeds: vec![FeedCount { feed: "one".parse().unwrap(), accepted: 1 }],
        operator: vec![4],
        pinned_to: Some(3),
    }
}

fn table() -> Table {
    testing::table(&[("198.18.0.7/32", "one", Some(443), Some("Mirai"))])
}

fn numbers(history: &History) -> Vec<u32> {
    history.versions().unwrap().iter().map(|version| version.number).collect()
}

#[test]
fn a_version_comes_back_with_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path(), 9, 9);
    assert_eq!((history.newest(), numbers(&history)), (0, vec![]));
    history.record(&version(5), &table()).unwrap();
    history.record(&version(12), &table()).unwrap();
    assert_eq!(numbers(&history), [12, 5], "the latest first");
    let (found, back) = history.load(5).unwrap().unwrap();
    assert_eq!((found, back), (version(5), table()));
    assert_eq!(history.load(6).unwrap(), None);
    assert_eq!(found_cause(&history), "rollback to 3 by alice (desk)");
}

fn found_cause(history: &History) -> String {
    history.versions().unwrap()[0].causes[0].to_string()
}

#[test]
fn the_oldest_go_first_and_the_pinned_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path(), 3, 9);
    for number in 1..=6 {
        history.record(&version(number), &table()).unwrap();
        history.prune(&[2]).unwrap();
    }
    assert_eq!(numbers(&history), [6, 5, 4, 2]);
    let tight = History { most_bytes: 1, ..history };
    tight.prune(&[]).unwrap();
    assert_eq!(numbers(&tight), [6], "the latest stays whatever its size");
}

#[test]
fn what_a_crash_left_is_removed_and_damage_is_no_version() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path(), 9, 9);
    for number in 1..=4 {
        history.record(&version(number), &table()).unwrap();
    }
    let folder = dir.path().join("history");
    fs::write(folder.join(".tmpAbc"), b"half").unwrap();
    history.reconcile(3);
    assert_eq!(numbers(&history), [3, 2, 1]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    let path = folder.join(name(2));
    let bytes = fs::read(&path).unwrap();
    for broken in [&bytes[..bytes.len() - 1], &bytes[..6], b"", b"SEKISHO1\xff\xff\xff\xff"] {
        fs::write(&path, broken).unwrap();
        assert_eq!(history.load(2).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(numbers(&history), [3, 1]);
    let mut flipped = bytes;
    let middle = flipped.len() - 10;
    flipped[middle] ^= 1;
    fs::write(&path, flipped).unwrap();
    assert!(history.load(2).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn a_pin_is_kept_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path(), 9, 9);
    assert_eq!(history.pin().unwrap(), None);
    history.set_pin(None).unwrap();
    let since = Timestamp::from_second(1_800_000_000).unwrap();
    let pin = Pin { version: 7, since, by: "alice".to_owned(), last_entry: 3, revived: vec![2] };
    history.set_pin(Some(&pin)).unwrap();
    assert_eq!(history.pin().unwrap(), Some(pin));
    history.set_pin(None).unwrap();
    assert_eq!(history.pin().unwrap(), None);
}
