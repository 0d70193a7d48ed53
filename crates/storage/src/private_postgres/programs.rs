//! Finding installed PostgreSQL server programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{StartError, install_line};

/// The oldest major version whose features the migrations and settings need.
const OLDEST: u32 = 14;

/// Folders that hold versioned installations: (parent, how the child's name starts, what follows it).
const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// A folder with `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) bin: PathBuf,
    pub(super) major: u32,
}

/// Chooses the server programs: of the major version `wanted`, else the newest.
///
/// `bin` (the value of PG_BIN) is the only place looked at when given; `path_var` is the value of PATH.
pub(super) fn find(
    bin: Option<&Path>,
    path_var: &str,
    cluster: Option<(&Path, u32)>,
) -> Result<Programs, StartError> {
    let (places, looked) = match bin {
        Some(bin) => (vec![bin.to_owned()], format!("PG_BIN is {}", bin.display())),
        None => (
            places(path_var),
            "sought in /usr/lib/postgresql/*/bin and its like, PATH and pg_config".to_owned(),
        ),
    };
    let mut found: Vec<Programs> = Vec::new();
    for bin in places {
        let Some(major) = major_in(&bin) else { continue };
        if major >= OLDEST && !found.iter().any(|programs| programs.major == major) {
            found.push(Programs { bin, major });
        }
    }
    found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
    if found.is_empty() {
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        return Err(StartError::NoServerPrograms { looked, install: install_line(&os_release).to_owned() });
    }
    let Some((folder, needed)) = cluster else { return Ok(found.swap_remove(0)) };
    match found.iter().position(|programs| programs.major == needed) {
        Some(at) => Ok(found.swap_remove(at)),
        None => {
            let majors: Vec<String> = found.iter().map(|programs| programs.major.to_string()).collect();
            Err(StartError::WrongMajor { cluster: folder.to_owned(), needed, found: majors.join(", ") })
        }
    }
}

fn places(path_var: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, start, inside) in VERSIONED {
        let children = fs::read_dir(parent).into_iter().flatten().flatten();
        places.extend(
            children
                .filter(|c| c.file_name().to_string_lossy().starts_with(start))
                .map(|c| c.path().join(inside)),
        );
    }
    let on_path: Vec<PathBuf> = std::env::split_paths(path_var).filter(|dir| dir.is_absolute()).collect();
    places.extend(on_path.iter().cloned());
    if let Some(pg_config) = on_path.iter().map(|dir| dir.join("pg_config")).find(|program| program.is_file())
    {
        let output = Command::new(pg_config).arg("--bindir").stdin(Stdio::null()).output();
        if let Ok(output) = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            && !output.is_empty()
        {
            places.push(PathBuf::from(output));
        }
    }
    places
}

/// The major version of the programs in `bin`, when both are there and say so.
fn major_in(bin: &Path) -> Option<u32> {
    if !bin.join("initdb").is_file() || !bin.join("postgres").is_file() {
        return None;
    }
    // as root this is allowed: it only prints
    let output = Command::new(bin.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.13 (Debian …)`, `… 18beta1`.
fn parse_version(text: &str) -> Option<u32> {
    let version = text.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder whose `postgres` prints a version: what an installation looks like to the search.
    fn fake(root: &Path, name: &str, version: &str) -> PathBuf {
        let bin = root.join(name);
        fs::create_dir_all(&bin).unwrap();
        for program in ["initdb", "postgres"] {
            let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n");
            fs::write(bin.join(program), script).unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("bash: postgres: not found"), None);
    }

    #[test]
    fn an_explicit_folder_is_the_only_one_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let good = fake(root.path(), "good", "17.2");
        assert_eq!(find(Some(&good), "", None).unwrap(), Programs { bin: good, major: 17 });
        let error = find(Some(&root.path().join("none")), "", None).unwrap_err();
        assert!(matches!(error, StartError::NoServerPrograms { .. }), "{error}");
        assert!(error.to_string().contains("PG_BIN is"), "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn an_existing_cluster_decides_the_version() {
        let root = tempfile::tempdir().unwrap();
        let bin = fake(root.path(), "bin", "99.1");
        let cluster = root.path().join("postgres");
        assert_eq!(find(Some(&bin), "", Some((&cluster, 99))).unwrap().major, 99);
        match find(Some(&bin), "", Some((&cluster, 13))).unwrap_err() {
            StartError::WrongMajor { needed: 13, found, .. } => assert_eq!(found, "99"),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn too_old_programs_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let old = fake(root.path(), "old", "9.6.24");
        assert!(matches!(find(Some(&old), "", None), Err(StartError::NoServerPrograms { .. })));
    }

    #[test]
    fn the_path_is_searched() {
        let root = tempfile::tempdir().unwrap();
        let bin = fake(root.path(), "bin", "98.0");
        let programs = find(None, &format!("relative:{}", bin.display()), None).unwrap();
        assert_eq!(programs, Programs { bin, major: 98 });
    }
}
