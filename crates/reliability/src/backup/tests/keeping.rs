//! Which backups may go.

use proptest::prelude::*;

use super::*;

fn kept(name: &str, days: i64) -> Kept {
    Kept {
        name: BackupName::parse(name).unwrap(),
        kind: BackupKind::Scheduled,
        created_at: days_ago(days),
        level: Some(Level::V0),
        pinned: false,
    }
}

fn gone(backups: &[Kept], days: u32, most: u32) -> Vec<String> {
    let gone = expired(backups, Retention::new(days, most).unwrap(), now());
    gone.iter().map(ToString::to_string).collect()
}

#[test]
fn zero_days_or_backups_are_no_policy() {
    assert!(Retention::new(0, 100).is_none() && Retention::new(30, 0).is_none());
    assert_eq!(Retention::default(), Retention::new(30, 100).unwrap());
}

#[test]
fn the_old_go_and_then_the_oldest_beyond_the_number() {
    let all: Vec<Kept> = (0..8).map(|at| kept(&format!("b{at}"), at * 10)).collect();
    assert_eq!(gone(&all, 35, 100), ["b7", "b6", "b5", "b4"]);
    assert_eq!(gone(&all, 100, 5), ["b7", "b6", "b5"]);
    assert_eq!(gone(&all, 65, 5), ["b7", "b6", "b5"]);
}

#[test]
fn three_stay_however_old() {
    let all: Vec<Kept> = (0..5).map(|at| kept(&format!("b{at}"), 100 + at)).collect();
    assert_eq!(gone(&all, 30, 1), ["b4", "b3"]);
    assert!(gone(&all[..3], 30, 1).is_empty());
}

#[test]
fn the_pinned_the_newest_verified_and_the_undo_stay() {
    let mut all: Vec<Kept> = (0..6).map(|at| kept(&format!("b{at}"), 40 + at)).collect();
    all.extend((0..3).map(|at| kept(&format!("new{at}"), at)));
    all[5].pinned = true;
    all[4].level = Some(Level::V1);
    all[3].level = Some(Level::V2);
    assert_eq!(gone(&all, 30, 100), ["b4", "b2", "b1", "b0"]);
    let mut undo = kept("undo", 6);
    undo.kind = BackupKind::PreRestore;
    let mut spent = kept("spent", 8);
    spent.kind = BackupKind::PreRestore;
    all.extend([undo, spent]);
    assert_eq!(gone(&all, 5, 100), ["b4", "b2", "b1", "b0", "spent"]);
}

proptest! {
    #[test]
    fn the_guards_hold_for_any_folder(
        ages in proptest::collection::vec((0..60_i64, 0..3_u8, any::<bool>(), any::<bool>()), 0..40),
        days in 1..60_u32,
        most in 1..30_u32,
    ) {
        let all: Vec<Kept> = ages
            .iter()
            .enumerate()
            .map(|(at, (age, level, pinned, undo))| Kept {
                level: [None, Some(Level::V0), Some(Level::V1)][usize::from(*level)],
                pinned: *pinned,
                kind: if *undo { BackupKind::PreRestore } else { BackupKind::Scheduled },
                ..kept(&format!("b{at}"), *age)
            })
            .collect();
        let gone = expired(&all, Retention::new(days, most).unwrap(), now());
        let left: Vec<&Kept> = all.iter().filter(|one| !gone.contains(&one.name)).collect();
        prop_assert!(left.len() >= all.len().min(3));
        let pinned = |all: &[&Kept]| all.iter().filter(|one| one.pinned).count();
        prop_assert_eq!(pinned(&left), pinned(&all.iter().collect::<Vec<_>>()));
        let newest = |all: &[&Kept]| {
            all.iter().filter(|one| one.level >= Some(Level::V1)).map(|one| one.created_at).max()
        };
        prop_assert_eq!(newest(&left), newest(&all.iter().collect::<Vec<_>>()));
    }
}
