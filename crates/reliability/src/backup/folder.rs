//! The folder of backups. What it holds is the truth about them: nothing is kept elsewhere that could be lost with a
//! database.
//!
//! ```text
//! NAME.plmb      a whole backup; it got this name only after it was read back
//! NAME.state     what was found out about it since
//! NAME.partial   one that is being written, or what a killed writer left
//! .lock          held by who writes, restores or cleans up
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use plimsoll_crypto::stream::CHUNK;
use plimsoll_crypto::{CryptoRng, KeyRing, SecretKey, Stretching};

use super::read::{read_header, read_into, read_stretching, verify_file};
use super::retention::{Kept, Retention, expired};
use super::write::write_file;
use super::{
    BackupError, BackupKind, BackupName, Header, Level, Meter, RestoreTarget, SnapshotSource, State, Totals,
};

const LEVEL: i32 = 3;
/// Left by a writer that was killed, this long ago at least.
const STALE_PARTIAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Where there is no earlier backup to go by.
const SMALLEST_ROOM: u64 = 1 << 20;

/// A folder of backups on this machine.
#[derive(Clone, Debug)]
pub struct BackupFolder {
    root: PathBuf,
}

/// While it lives, nobody else writes, restores or cleans up in the folder. It ends with the process, whatever ends that.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "the lock goes when the file is closed")] File);

/// What a backup is to be.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// Why.
    pub kind: BackupKind,
    /// What somebody says about it.
    pub description: Option<String>,
    /// Retention leaves it alone.
    pub pinned: bool,
    /// The program's version.
    pub app_version: String,
    /// The time.
    pub now: DateTime<Utc>,
}

/// A backup in the folder.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: BackupName,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// Its authenticated header.
    pub header: Header,
    /// What is known since.
    pub state: State,
}

/// What is in the folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// Backups, newest first.
    pub items: Vec<Item>,
    /// Files called like backups that are none that can be read, and why.
    pub unreadable: Vec<(String, BackupError)>,
}

/// What a clean-up deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Backups.
    pub deleted: Vec<BackupName>,
    /// What killed writers left.
    pub partials: usize,
}

impl BackupFolder {
    /// The folder, made with access for its owner only where it is missing.
    ///
    /// # Errors
    /// It cannot be made or entered.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = "opening the backup folder";
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(BackupError::io(failed))?;
        let root = fs::canonicalize(path).map_err(BackupError::io(failed))?;
        Ok(Self { root })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The right to change what is in the folder.
    ///
    /// # Errors
    /// [`BackupError::Busy`]: another process, or another part of this one, has it.
    pub fn lock(&self) -> Result<FolderLock, BackupError> {
        let failed = "locking the backup folder";
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.root.join(".lock"))
            .map_err(BackupError::io(failed))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock(file)),
            Err(TryLockError::WouldBlock) => Err(BackupError::Busy),
            Err(TryLockError::Error(source)) => Err(BackupError::Io { what: failed, source }),
        }
    }

    /// Makes a backup: writes it, reads it back whole (level V0), and only then gives it its name. Any error leaves the
    /// folder as it was.
    ///
    /// # Errors
    /// There is too little room, the source fails, or the file cannot be written or read back.
    pub fn create(
        &self,
        _lock: &FolderLock,
        request: &BackupRequest,
        ring: &KeyRing,
        source: &mut dyn SnapshotSource,
        rng: &mut (impl CryptoRng + ?Sized),
        meter: &Meter,
    ) -> Result<Item, BackupError> {
        self.check_room()?;
        let salt = SecretKey::generate(rng);
        let mut tail = [0; 2];
        rng.fill_bytes(&mut tail);
        let name = name_of(request, tail)?;
        let header = Header {
            name: name.to_string(),
            kind: request.kind,
            created_at: request.now,
            description: request.description.clone(),
            app_version: request.app_version.clone(),
            snapshot: source.facts().clone(),
            zstd_level: LEVEL,
            chunk_bytes: u32::try_from(CHUNK).expect("64 KiB"),
            key_id: ring.active().to_string(),
            salt: HEXLOWER.encode(salt.expose()),
        };
        let partial = self.root.join(format!("{name}.partial"));
        let written = self.write_and_read_back(&partial, &header, ring, source, meter);
        let totals = written.inspect_err(|_| {
            let _ = fs::remove_file(&partial); // a later clean-up does it else
        })?;
        let mut state = State { pinned: request.pinned, ..State::default() };
        state.verified(Level::V0, totals.rows(), request.now);
        state.write(&self.state_path(&name), &header, ring)?;
        let path = self.root.join(name.file_name());
        let renamed = fs::rename(&partial, &path).map_err(BackupError::io("naming the backup"));
        renamed.inspect_err(|_| {
            let _ = fs::remove_file(&partial);
            let _ = fs::remove_file(self.state_path(&name));
        })?;
        sync_folder(&self.root)?;
        Ok(Item { size_bytes: size_of(&path)?, name, header, state })
    }

    fn write_and_read_back(
        &self,
        partial: &Path,
        header: &Header,
        ring: &KeyRing,
        source: &mut dyn SnapshotSource,
        meter: &Meter,
    ) -> Result<Totals, BackupError> {
        let written = write_file(partial, header, ring, source, meter)?;
        let (_, read) = verify_file(partial, ring, meter)?;
        if read != written {
            return Err(BackupError::Inconsistent("what was read back is not what was written".to_owned()));
        }
        Ok(written)
    }

    /// Everything in the folder that is called like a backup.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, ring: &KeyRing) -> Result<Listing, BackupError> {
        let mut listing = Listing::default();
        for file in self.files()? {
            let Some(stem) = file.strip_suffix(".plmb") else { continue };
            match BackupName::parse(stem).map_err(BackupError::from).and_then(|name| self.item(&name, ring)) {
                Ok(item) => listing.items.push(item),
                Err(BackupError::NotFound) => {} // deleted meanwhile
                Err(error) => listing.unreadable.push((file, error)),
            }
        }
        listing.items.sort_by(|a, b| (b.header.created_at, &b.name).cmp(&(a.header.created_at, &a.name)));
        listing.unreadable.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(listing)
    }

    /// One backup.
    ///
    /// # Errors
    /// There is none of that name, or its header does not open.
    pub fn item(&self, name: &BackupName, ring: &KeyRing) -> Result<Item, BackupError> {
        let path = name.existing_file(&self.root)?;
        let header = read_header(&path, ring)?;
        let state = State::read(&self.state_path(name), &header, ring);
        Ok(Item { name: name.clone(), size_bytes: size_of(&path)?, header, state })
    }

    /// Reads a whole backup again (level V1), and remembers that.
    ///
    /// # Errors
    /// Every finding about the file; what was known of it stays.
    pub fn verify(
        &self,
        name: &BackupName,
        ring: &KeyRing,
        meter: &Meter,
        now: DateTime<Utc>,
    ) -> Result<Totals, BackupError> {
        let (_, totals) = verify_file(&name.existing_file(&self.root)?, ring, meter)?;
        self.remember(name, ring, |state| state.verified(Level::V1, totals.rows(), now))?;
        Ok(totals)
    }

    /// Reads a whole backup into `target`.
    ///
    /// # Errors
    /// Every finding about the file, and the target's.
    pub fn read_into(
        &self,
        name: &BackupName,
        ring: &KeyRing,
        target: &mut dyn RestoreTarget,
        meter: &Meter,
    ) -> Result<(Header, Totals), BackupError> {
        read_into(&name.existing_file(&self.root)?, ring, target, meter)
    }

    /// Remembers that a backup was restored and found to be sound (level V2).
    ///
    /// # Errors
    /// There is none of that name, or that cannot be written.
    pub fn restored(
        &self,
        name: &BackupName,
        ring: &KeyRing,
        totals: &Totals,
        now: DateTime<Utc>,
    ) -> Result<(), BackupError> {
        self.remember(name, ring, |state| state.verified(Level::V2, totals.rows(), now))
    }

    /// Lets retention leave a backup alone, or not any more.
    ///
    /// # Errors
    /// There is none of that name, or that cannot be written.
    pub fn pin(&self, name: &BackupName, ring: &KeyRing, pinned: bool) -> Result<Item, BackupError> {
        self.remember(name, ring, |state| state.pinned = pinned)?;
        self.item(name, ring)
    }

    fn remember(
        &self,
        name: &BackupName,
        ring: &KeyRing,
        change: impl FnOnce(&mut State),
    ) -> Result<(), BackupError> {
        let mut item = self.item(name, ring)?;
        change(&mut item.state);
        item.state.write(&self.state_path(name), &item.header, ring)
    }

    /// Deletes what the policy lets go, and what killed writers left a day ago or longer. Files that are no backups of ours
    /// are not touched, nor counted.
    ///
    /// # Errors
    /// The folder cannot be read, or a file not deleted; what was deleted before stays so.
    pub fn clean_up(
        &self,
        _lock: &FolderLock,
        policy: Retention,
        ring: &KeyRing,
        now: DateTime<Utc>,
    ) -> Result<Cleaned, BackupError> {
        let listing = self.list(ring)?;
        let kept: Vec<Kept> = listing
            .items
            .into_iter()
            .map(|item| Kept {
                name: item.name,
                kind: item.header.kind,
                created_at: item.header.created_at,
                level: item.state.level,
                pinned: item.state.pinned,
            })
            .collect();
        let mut cleaned = Cleaned::default();
        for name in expired(&kept, policy, now) {
            let failed = BackupError::io("deleting a backup");
            fs::remove_file(self.root.join(name.file_name())).map_err(failed)?;
            let _ = fs::remove_file(self.state_path(&name)); // without its backup it says nothing
            cleaned.deleted.push(name);
        }
        let stale = SystemTime::from(now).checked_sub(STALE_PARTIAL);
        for file in self.files()? {
            let path = self.root.join(&file);
            let ours = file.strip_suffix(".partial").is_some_and(|stem| BackupName::parse(stem).is_ok());
            let changed = fs::symlink_metadata(&path).and_then(|found| found.modified()).ok();
            if ours && changed < stale && changed.is_some() {
                fs::remove_file(&path).map_err(BackupError::io("deleting an unfinished backup"))?;
                cleaned.partials += 1;
            }
        }
        Ok(cleaned)
    }

    /// Keeps a note in the folder, instead of what it said before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_note(&self, name: &str, text: &str) -> Result<(), BackupError> {
        write_durably(&self.root.join(name), text.as_bytes())
    }

    /// A note of [`write_note`](Self::write_note).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_note(&self, name: &str) -> Result<Option<String>, BackupError> {
        match fs::read_to_string(self.root.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BackupError::Io { what: "reading a note in the backup folder", source }),
        }
    }

    /// When the folder was made, where the file system says that.
    #[must_use]
    pub fn made_at(&self) -> Option<DateTime<Utc>> {
        fs::metadata(&self.root).and_then(|found| found.created()).ok().map(DateTime::from)
    }

    /// How a pass phrase became the key of the newest file that says so: for whoever has no database to ask.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn stretching(&self) -> Result<Option<Stretching>, BackupError> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for file in self.files()?.iter().filter(|file| file.ends_with(".plmb")) {
            let path = self.root.join(file);
            if let Ok(changed) = fs::symlink_metadata(&path).and_then(|found| found.modified()) {
                files.push((changed, path));
            }
        }
        files.sort();
        Ok(files.iter().rev().find_map(|(_, path)| read_stretching(path).ok().flatten()))
    }

    fn check_room(&self) -> Result<(), BackupError> {
        let mut last: Option<(SystemTime, u64)> = None;
        for file in self.files()?.iter().filter(|file| file.ends_with(".plmb")) {
            if let Ok(found) = fs::symlink_metadata(self.root.join(file))
                && let Ok(changed) = found.modified()
                && last.is_none_or(|(at, _)| changed > at)
            {
                last = Some((changed, found.len()));
            }
        }
        let needed = last.map_or(SMALLEST_ROOM, |(_, size)| (size + size / 3).max(SMALLEST_ROOM));
        let free = free_bytes(&self.root)?;
        if free < needed { Err(BackupError::NoSpace { needed, free }) } else { Ok(()) }
    }

    fn state_path(&self, name: &BackupName) -> PathBuf {
        self.root.join(format!("{name}.state"))
    }

    fn files(&self) -> Result<Vec<String>, BackupError> {
        let failed = || BackupError::io("reading the backup folder");
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed())? {
            names.extend(entry.map_err(failed())?.file_name().into_string()); // ours are all UTF-8
        }
        Ok(names)
    }
}

/// Bytes that this process may still write to the file system of a folder.
///
/// # Errors
/// It cannot be looked at.
pub fn free_bytes(folder: &Path) -> Result<u64, BackupError> {
    let space = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| BackupError::Io { what: "looking at the disk", source: error.into() })?;
    Ok(wide(space.blocks_available()).saturating_mul(wide(space.fragment_size())))
}

/// The fields of `statvfs` are 32 bits wide on some systems, 64 on others.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}

/// Replaces a small file, or makes it: whoever reads finds the old text or the new one.
pub(super) fn write_durably(path: &Path, text: &[u8]) -> Result<(), BackupError> {
    let failed = || BackupError::io("writing beside a backup");
    let new = path.with_extension("new");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed())?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed())?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(failed())?;
    fs::rename(&new, path).map_err(failed())?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BackupError::io("synchronising the backup folder"))
}

fn size_of(path: &Path) -> Result<u64, BackupError> {
    Ok(fs::symlink_metadata(path).map_err(BackupError::io("looking at the backup"))?.size())
}

fn name_of(request: &BackupRequest, tail: [u8; 2]) -> Result<BackupName, BackupError> {
    let at = request.now.format("%Y%m%dt%H%M%Sz");
    let text = format!("{}-{at}-{}", request.kind.as_str(), HEXLOWER.encode(&tail));
    BackupName::parse(&text).map_err(BackupError::from)
}
