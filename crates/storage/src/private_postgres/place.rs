//! Where the cluster and its socket lie.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::{StartError, io, unusable};

/// Names the cluster's folder where that is not in the data folder.
pub(super) const LOCATION_FILE: &str = "postgres.location";

/// A socket's path may have 107 bytes, and `/.s.PGSQL.5432` follows the folder.
const LONGEST_SOCKET_FOLDER: usize = 90;

/// Makes the data folder if it is missing and gives its real path.
pub(super) fn data_dir(path: &Path) -> Result<PathBuf, StartError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(unusable(path, "it is not a folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
        }
        Err(error) => return Err(unusable(path, error)),
    }
    fs::canonicalize(path).map_err(|error| unusable(path, error))
}

/// The cluster that an earlier start made for this data folder, if one is there.
pub(super) fn existing(data_dir: &Path) -> Result<Option<PathBuf>, StartError> {
    let inside = data_dir.join("postgres");
    let elsewhere = match fs::read_to_string(data_dir.join(LOCATION_FILE)) {
        Ok(text) => Some(PathBuf::from(text.trim_end_matches('\n'))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(&data_dir.join(LOCATION_FILE), error)),
    };
    if let Some(cluster) = elsewhere {
        if !cluster.is_absolute() {
            return Err(unusable(&data_dir.join(LOCATION_FILE), "it does not hold an absolute path"));
        }
        return if cluster.join("PG_VERSION").is_file() {
            Ok(Some(cluster))
        } else if cluster.exists() {
            Err(unusable(&cluster, format!("{LOCATION_FILE} names it, and it is no PostgreSQL cluster")))
        } else {
            Err(unusable(
                &cluster,
                format!(
                    "{LOCATION_FILE} names it, and it is gone; remove {LOCATION_FILE} to start with an empty one"
                ),
            ))
        };
    }
    match fs::read_dir(&inside) {
        Ok(_) if inside.join("PG_VERSION").is_file() => Ok(Some(inside)),
        Ok(mut entries) => match entries.next() {
            None => Ok(None),
            Some(_) => Err(unusable(&inside, "it holds files, and they are no PostgreSQL cluster")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&inside, error)),
    }
}

/// The major version in a cluster's PG_VERSION.
pub(super) fn major_of(cluster: &Path) -> Result<u32, StartError> {
    let text = fs::read_to_string(cluster.join("PG_VERSION")).map_err(|error| unusable(cluster, error))?;
    text.trim().parse().map_err(|_| unusable(cluster, "its PG_VERSION is no number"))
}

/// Where a new cluster goes: into the data folder, or, where `account` cannot enter that, into `state_dir` under a
/// name made from the data folder's path. No permission of the user's folder is changed either way.
pub(super) fn new_cluster(
    data_dir: &Path,
    account: Account,
    state_dir: &Path,
) -> Result<PathBuf, StartError> {
    if account.can_enter(data_dir).map_err(io("running /bin/sh"))? {
        return Ok(data_dir.join("postgres"));
    }
    if !account.switch {
        return Err(unusable(data_dir, "it cannot be entered"));
    }
    let name = format!("{:016x}", fnv1a(data_dir.as_os_str().as_encoded_bytes()));
    make_folder(state_dir, 0o755).map_err(|error| unusable(state_dir, error))?;
    Ok(state_dir.join(name))
}

/// Writes down that the cluster lies outside the data folder; does nothing when it lies inside.
pub(super) fn record_location(data_dir: &Path, cluster: &Path) -> Result<(), StartError> {
    if cluster.starts_with(data_dir) {
        return Ok(());
    }
    let (file, partial) = (data_dir.join(LOCATION_FILE), data_dir.join("postgres.location.partial"));
    let write = || -> io::Result<()> {
        let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        out.write_all(cluster.as_os_str().as_encoded_bytes())?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        fs::rename(&partial, &file)?;
        sync_folder(data_dir)
    };
    write().map_err(|error| unusable(&file, error))
}

/// Where the socket folder of `data_dir` lies: short, apart from the data, the same at each start.
pub(super) fn socket_folder(
    data_dir: &Path,
    account: Account,
    runtime_dir: Option<&Path>,
    temp_dir: &Path,
) -> Result<PathBuf, StartError> {
    let hash = format!("{:08x}", fnv1a(data_dir.as_os_str().as_encoded_bytes()) as u32);
    // root's runtime folder is closed to the account that the server runs as
    let runtime = runtime_dir.filter(|dir| !account.switch && dir.is_absolute() && dir.is_dir());
    let short = |path: &PathBuf| path.as_os_str().len() <= LONGEST_SOCKET_FOLDER;
    let in_temp = format!("plimsoll-{}-{hash}", account.uid);
    [
        runtime.map(|dir| dir.join(format!("plimsoll-{hash}"))),
        Some(temp_dir.join(&in_temp)),
        Some(Path::new("/tmp").join(&in_temp)),
    ]
    .into_iter()
    .flatten()
    .find(short)
    .ok_or_else(|| StartError::SocketFolder {
        path: temp_dir.to_owned(),
        reason: "its path is too long".to_owned(),
    })
}

/// Makes the socket folder, 0700 and the account's; refuses one that is someone else's.
pub(super) fn make_socket_folder(path: &Path, account: Account) -> Result<(), StartError> {
    let refuse = |reason: String| StartError::SocketFolder { path: path.to_owned(), reason };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => account.own(path).map_err(|error| refuse(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refuse(error.to_string())),
    }
    let found = fs::symlink_metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !found.is_dir() {
        return Err(refuse("it is not a folder".to_owned()));
    }
    if found.uid() != account.uid {
        return Err(refuse(format!("it belongs to account {}", found.uid())));
    }
    if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(|error| refuse(error.to_string()))?;
    }
    Ok(())
}

/// A folder that is there afterwards, made with `mode` if it was not.
pub(super) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).recursive(true).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename or a new file in `folder` last.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// FNV-1a, 64 bits: a name that stays the same over releases and platforms. Not for secrets.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Account {
        let own = nix::unistd::geteuid().as_raw();
        Account { uid: own, gid: nix::unistd::getegid().as_raw(), switch: false }
    }

    #[test]
    fn fnv1a_gives_the_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_file_in_place_of_the_data_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("data");
        fs::write(&file, "").unwrap();
        assert!(matches!(data_dir(&file), Err(StartError::DataDirUnusable { .. })));
        assert!(matches!(data_dir(&file.join("below")), Err(StartError::DataDirUnusable { .. })));
        assert!(data_dir(&root.path().join("a/b")).unwrap().is_dir(), "a missing one is made");
    }

    #[test]
    fn foreign_files_in_the_cluster_folder_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(existing(root.path()).unwrap(), None);
        fs::create_dir(root.path().join("postgres")).unwrap();
        assert_eq!(existing(root.path()).unwrap(), None, "an empty folder will do");
        fs::write(root.path().join("postgres/letter.txt"), "dear").unwrap();
        assert!(matches!(existing(root.path()), Err(StartError::DataDirUnusable { .. })));
        fs::write(root.path().join("postgres/PG_VERSION"), "15\n").unwrap();
        assert_eq!(existing(root.path()).unwrap(), Some(root.path().join("postgres")));
        assert_eq!(major_of(&root.path().join("postgres")).unwrap(), 15);
    }

    #[test]
    fn the_location_file_is_followed_and_never_quietly_replaced() {
        let root = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (root.path().join("data"), root.path().join("elsewhere"));
        fs::create_dir(&data).unwrap();
        record_location(&data, &elsewhere).unwrap();
        assert!(matches!(existing(&data), Err(StartError::DataDirUnusable { .. })), "the cluster is gone");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(existing(&data).unwrap(), Some(elsewhere));
        record_location(&data, &data.join("postgres")).unwrap();
        fs::write(data.join(LOCATION_FILE), "not/absolute\n").unwrap();
        assert!(matches!(existing(&data), Err(StartError::DataDirUnusable { .. })));
    }

    #[test]
    fn the_socket_folder_is_short_and_ours() {
        let root = tempfile::tempdir().unwrap();
        let folder = socket_folder(Path::new("/data"), me(), Some(root.path()), Path::new("/tmp")).unwrap();
        assert_eq!(folder.parent(), Some(root.path()));
        let long = PathBuf::from(format!("/{}", "x".repeat(95)));
        let folder = socket_folder(Path::new("/data"), me(), None, &long).unwrap();
        assert!(folder.starts_with("/tmp"), "{folder:?}");

        let folder = root.path().join("socket");
        make_socket_folder(&folder, me()).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        make_socket_folder(&folder, me()).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let stranger = Account { uid: me().uid + 1, ..me() };
        assert!(matches!(make_socket_folder(&folder, stranger), Err(StartError::SocketFolder { .. })));
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(matches!(make_socket_folder(&link, me()), Err(StartError::SocketFolder { .. })));
    }
}
