//! Making, listing, verifying and deleting in a folder.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use plimsoll_crypto::OsRandom;

use super::*;

fn request(kind: BackupKind, days: i64) -> BackupRequest {
    BackupRequest {
        kind,
        description: None,
        pinned: false,
        app_version: "0.1.0".to_owned(),
        now: days_ago(days),
    }
}

fn made(folder: &BackupFolder, days: i64) -> Item {
    let lock = folder.lock().unwrap();
    let request = request(BackupKind::Manual, days);
    folder.create(&lock, &request, &ring(1), &mut Memory::usual(), &mut OsRandom, &meter()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_private_read_back_and_listed() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(&root.path().join("a/b")).unwrap();
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    let item = made(&folder, 0);
    let name = item.name.to_string();
    assert!(name.starts_with("manual-20261118t"), "{name}");
    let path = folder.path().join(item.name.file_name());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files(folder.path()), [".lock".to_owned(), format!("{name}.plmb"), format!("{name}.state")]);
    let listing = folder.list(&ring(1)).unwrap();
    assert!(listing.unreadable.is_empty());
    let [listed] = &listing.items[..] else { panic!("{listing:?}") };
    assert_eq!((listed.state.level, listed.state.rows), (Some(Level::V0), Some(42)));
    assert_eq!(listed.size_bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(listed.header.snapshot.schema_version(), "20261124000100");
}

#[test]
fn what_a_pass_phrase_needs_is_read_without_any_key() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let item = made(&folder, 0);
    let path = folder.path().join(item.name.file_name());
    let stretching = read_stretching(&path).unwrap().unwrap();
    assert_eq!((stretching.salt(), stretching.iterations()), (&[7; 32][..], 600_000));
    fs::write(&path, "x").unwrap();
    assert!(matches!(read_stretching(&path).unwrap_err(), BackupError::NotABackup));
}

#[test]
fn what_fails_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let keep = made(&folder, 1);
    let before = files(folder.path());
    let try_with = |source: Memory, meter: Meter| {
        let lock = folder.lock().unwrap();
        let request = request(BackupKind::Manual, 0);
        folder.create(&lock, &request, &ring(1), &mut source.clone(), &mut OsRandom, &meter).unwrap_err()
    };
    let failing = Memory { fails_at: Some(0), ..Memory::usual() };
    assert!(matches!(try_with(failing, meter()), BackupError::Refused(_)));
    let mut broken_off = Memory::usual();
    broken_off.rows[0].truncate(50_000);
    assert!(matches!(try_with(broken_off, meter()), BackupError::Inconsistent(_)), "a connection that died");
    let stopped = meter();
    stopped.stop();
    assert!(matches!(try_with(Memory::usual(), stopped), BackupError::Stopped));
    let late = Meter::new(std::time::Instant::now() - Duration::from_secs(5), Some(Duration::from_secs(1)));
    assert!(matches!(try_with(Memory::usual(), late), BackupError::Stopped));
    assert_eq!(files(folder.path()), before);
    assert!(folder.verify(&keep.name, &ring(1), &meter(), now()).is_ok());
}

#[test]
fn only_one_writes_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let lock = folder.lock().unwrap();
    assert!(matches!(folder.lock().unwrap_err(), BackupError::Busy));
    assert!(matches!(BackupFolder::open(root.path()).unwrap().lock().unwrap_err(), BackupError::Busy));
    drop(lock);
    assert!(folder.lock().is_ok());
}

#[test]
fn verification_raises_the_level_and_a_lesser_one_does_not_lower_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let item = made(&folder, 1);
    let state = |ring: &KeyRing| folder.item(&item.name, ring).unwrap().state;
    let totals = folder.verify(&item.name, &ring(1), &meter(), now()).unwrap();
    assert_eq!((state(&ring(1)).level, state(&ring(1)).verified_at), (Some(Level::V1), Some(now())));
    folder.restored(&item.name, &ring(1), &totals, now()).unwrap();
    folder.verify(&item.name, &ring(1), &meter(), now()).unwrap();
    assert_eq!(state(&ring(1)).level, Some(Level::V2));
    assert!(folder.pin(&item.name, &ring(1), true).unwrap().state.pinned);
    assert!(!folder.pin(&item.name, &ring(1), false).unwrap().state.pinned);
    assert_eq!(state(&ring(1)).level, Some(Level::V2), "pinning keeps what was known");
}

#[test]
fn a_damaged_backup_keeps_its_level_and_is_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let item = made(&folder, 1);
    let path = folder.path().join(item.name.file_name());
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = folder.verify(&item.name, &ring(1), &meter(), now()).unwrap_err();
    assert!(matches!(error, BackupError::Corrupt { .. }) && error.is_damage(), "{error}");
    assert_eq!(folder.item(&item.name, &ring(1)).unwrap().state.level, Some(Level::V0));
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let listing = folder.list(&ring(1)).unwrap();
    assert!(listing.items.is_empty());
    let [(file, why)] = &listing.unreadable[..] else { panic!("{listing:?}") };
    assert_eq!(*file, item.name.file_name());
    assert!(matches!(why, BackupError::TamperedHeader), "{why}");
    fs::write(&path, whole).unwrap();
    assert_eq!(folder.list(&ring(1)).unwrap().items.len(), 1);
    let listing = folder.list(&ring(2)).unwrap();
    assert!(matches!(&listing.unreadable[..], [(_, BackupError::WrongKey { .. })]), "{listing:?}");
}

#[test]
fn what_stands_beside_a_backup_is_only_believed_with_its_mac() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let (one, two) = (made(&folder, 1), made(&folder, 2));
    let path = |item: &Item| folder.path().join(format!("{}.state", item.name));
    folder.pin(&one.name, &ring(1), true).unwrap();
    let honest = fs::read_to_string(path(&one)).unwrap();
    let state = |item: &Item| folder.item(&item.name, &ring(1)).unwrap().state;
    fs::write(path(&two), &honest).unwrap();
    assert_eq!(state(&two), State::default(), "another backup's");
    for bad in [honest.replace("true", "false"), honest.to_uppercase(), "x".to_owned(), String::new()] {
        fs::write(path(&one), bad).unwrap();
        assert_eq!(state(&one), State::default());
    }
    fs::remove_file(path(&one)).unwrap();
    assert_eq!(state(&one), State::default(), "and without it the backup is still there");
    assert!(folder.verify(&one.name, &ring(1), &meter(), now()).is_ok());
    assert_eq!(state(&one).rows, Some(42), "found out again");
}

#[test]
fn names_that_lead_elsewhere_and_links_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(&root.path().join("backups")).unwrap();
    let item = made(&folder, 1);
    let moved = root.path().join("elsewhere.plmb");
    let path = folder.path().join(item.name.file_name());
    fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    let error = folder.verify(&item.name, &ring(1), &meter(), now()).unwrap_err();
    assert_eq!((error.code(), error.is_damage()), (Some("backup_not_found"), false), "{error}");
    assert_eq!(folder.list(&ring(1)).unwrap().unreadable.len(), 1);
    let absent = BackupName::parse("manual-absent").unwrap();
    assert!(matches!(folder.item(&absent, &ring(1)).unwrap_err(), BackupError::NotFound));
    assert!(matches!(folder.pin(&absent, &ring(1), true).unwrap_err(), BackupError::NotFound));
}

#[test]
fn a_clean_up_deletes_what_is_due_and_no_file_of_others() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let items: Vec<Item> = [40, 39, 38, 2, 1, 0].into_iter().map(|days| made(&folder, days)).collect();
    folder.pin(&items[1].name, &ring(1), true).unwrap();
    let old = SystemTime::from(days_ago(2));
    for name in ["notes.txt", "other.plmb", "manual-x.partial", "BAD NAME.partial", "manual-young.partial"] {
        fs::write(root.path().join(name), "theirs").unwrap();
        if !name.contains("young") {
            File::options().write(true).open(root.path().join(name)).unwrap().set_modified(old).unwrap();
        }
    }
    File::options()
        .write(true)
        .open(root.path().join("manual-young.partial"))
        .unwrap()
        .set_modified(SystemTime::from(now()))
        .unwrap();
    let lock = folder.lock().unwrap();
    let policy = Retention::new(30, 100).unwrap();
    let cleaned = folder.clean_up(&lock, policy, &ring(1), now()).unwrap();
    assert_eq!(cleaned.deleted, [items[0].name.clone(), items[2].name.clone()]);
    assert_eq!(cleaned.partials, 1);
    let left = files(root.path());
    for name in ["notes.txt", "other.plmb", "BAD NAME.partial", "manual-young.partial"] {
        assert!(left.contains(&name.to_owned()), "{name}: {left:?}");
    }
    assert!(!left.contains(&format!("{}.state", items[0].name)));
    assert_eq!(folder.clean_up(&lock, policy, &ring(1), now()).unwrap(), Cleaned::default(), "repeatable");
}

#[test]
fn progress_ends_at_all_of_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = BackupFolder::open(root.path()).unwrap();
    let meter = meter();
    assert_eq!((meter.progress().percent, meter.progress().eta_s), (0, None));
    let lock = folder.lock().unwrap();
    let request = request(BackupKind::Scheduled, 0);
    let item = folder.create(&lock, &request, &ring(1), &mut Memory::usual(), &mut OsRandom, &meter).unwrap();
    let done = meter.progress();
    assert_eq!((done.percent, done.tables_done, done.tables_total, done.eta_s), (100, 3, 3, Some(0)));
    assert!(done.bytes > 160_000 && item.name.as_str().starts_with("scheduled-"));
}
