//! Which backups may go.

use chrono::{DateTime, TimeDelta, Utc};

use super::{BackupKind, BackupName, Level};

/// So many backups stay, however old.
const FEWEST: usize = 3;
/// What was made before a restore stays as long as that can be taken back.
const UNDO_DAYS: i64 = 7;

/// How long backups are kept, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    days: u32,
    most: u32,
}

impl Retention {
    /// Backups older than so many days go, and the oldest beyond so many. `None` when either is zero: that would be no
    /// backup at all.
    #[must_use]
    pub fn new(days: u32, most: u32) -> Option<Self> {
        (days > 0 && most > 0).then_some(Self { days, most })
    }
}

impl Default for Retention {
    /// 30 days and 100 backups.
    fn default() -> Self {
        Self { days: 30, most: 100 }
    }
}

/// What retention looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The backup.
    pub name: BackupName,
    /// Why it was made.
    pub kind: BackupKind,
    /// When.
    pub created_at: DateTime<Utc>,
    /// How far it was verified.
    pub level: Option<Level>,
    /// Somebody said that it stays.
    pub pinned: bool,
}

/// The backups that may be deleted, oldest first. Never among them: a pinned one, the newest that was verified after it was
/// written, one from before a restore within seven days, and so many that fewer than three are left.
#[must_use]
pub fn expired(backups: &[Kept], policy: Retention, now: DateTime<Utc>) -> Vec<BackupName> {
    let mut by_age: Vec<&Kept> = backups.iter().collect();
    by_age.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    let newest_verified = by_age.iter().rev().find(|one| one.level >= Some(Level::V1)).map(|one| &one.name);
    let before =
        |days: i64| now.checked_sub_signed(TimeDelta::days(days)).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let (oldest, undo) = (before(i64::from(policy.days)), before(UNDO_DAYS));
    let mut left = by_age.len();
    let mut gone = Vec::new();
    for one in by_age {
        let stays = one.pinned
            || Some(&one.name) == newest_verified
            || (one.kind == BackupKind::PreRestore && one.created_at > undo);
        let due = one.created_at < oldest || left > policy.most as usize;
        if due && !stays && left > FEWEST {
            gone.push(one.name.clone());
            left -= 1;
        }
    }
    gone
}
