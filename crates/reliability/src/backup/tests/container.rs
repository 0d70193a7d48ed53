//! What stands in a file, and what every damage to it is called.

use std::fs;
use std::io::Write;

use data_encoding::HEXLOWER;
use plimsoll_crypto::SealingWriter;
use plimsoll_crypto::stream::SEALED_CHUNK;
use proptest::prelude::*;

use super::super::content::Nowhere;
use super::super::read::read_rest;
use super::super::rows::RowCounter;
use super::super::write::write_file;
use super::*;

fn header(memory: &Memory, ring: &KeyRing) -> Header {
    Header {
        name: "manual-20261118t000000z-0001".to_owned(),
        kind: BackupKind::Manual,
        created_at: now(),
        description: Some("before the \"great\" change\n".to_owned()),
        app_version: "0.1.0".to_owned(),
        snapshot: memory.facts.clone(),
        zstd_level: 3,
        chunk_bytes: 65_536,
        key_id: ring.active().to_string(),
        salt: HEXLOWER.encode(&[9; 32]),
    }
}

fn sealed(memory: &Memory, ring: &KeyRing) -> (Vec<u8>, Totals) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let totals = write_file(&path, &header(memory, ring), ring, &mut memory.clone(), &meter()).unwrap();
    (fs::read(path).unwrap(), totals)
}

fn opened(file: &[u8], ring: &KeyRing, target: &mut dyn RestoreTarget) -> Result<Totals, BackupError> {
    let mut rest = file;
    let (header, key) = Header::open(&mut rest, ring)?;
    read_rest(rest, key, &header, target, &meter())
}

fn head_len(file: &[u8]) -> usize {
    14 + u32::from_be_bytes(file[10..14].try_into().unwrap()) as usize + 32
}

#[test]
fn everything_comes_back_as_it_was() {
    let ring = ring(1);
    for piece in [1, 7_001, 1 << 20] {
        let memory = Memory { piece, ..Memory::usual() };
        let (file, totals) = sealed(&memory, &ring);
        let mut taken = Taken::default();
        assert_eq!(opened(&file, &ring, &mut taken).unwrap(), totals);
        let names = ["orders", "fills", "users"].map(str::to_owned);
        let expected: Vec<_> = names.into_iter().zip(memory.rows.clone()).collect();
        assert!(taken.rows == expected && taken.sequences == memory.sequences);
        let rows: Vec<u64> = totals.tables.iter().map(|table| table.rows).collect();
        assert_eq!((rows, totals.rows()), (vec![40, 0, 2], 42));
        let (read, _) = Header::open(&mut &file[..], &ring).unwrap();
        assert_eq!(read, header(&memory, &ring));
    }
}

#[test]
fn a_file_holds_nothing_readable_of_its_content() {
    let memory =
        Memory::new(vec![("users", 1, copy_form(&vec![vec![Some(b"ada@example.com".to_vec())]; 50]))]);
    let (file, _) = sealed(&memory, &ring(1));
    assert!(!file.windows(11).any(|window| window == b"ada@example"));
}

/// 1,000 lengths, the borders of header and chunks among them.
#[test]
fn every_cut_is_called_truncated() {
    let ring = ring(1);
    let (file, _) = sealed(&Memory::usual(), &ring);
    let head = head_len(&file);
    assert!(file.len() > head + 2 * SEALED_CHUNK);
    let borders = (head..=file.len()).step_by(SEALED_CHUNK).flat_map(|at| [at - 1, at, at + 1]);
    let spread = (0..1_000).map(|at| at * file.len() / 1_000);
    for length in (0..64).chain(spread).chain(borders).filter(|length| *length < file.len()) {
        let error = opened(&file[..length], &ring, &mut Nowhere).unwrap_err();
        assert!(matches!(error, BackupError::Truncated), "{length}: {error}");
    }
}

/// 5,000 bits over the whole file, and every bit of its first bytes.
#[test]
fn every_flipped_bit_is_refused_and_called_what_it_is() {
    let ring = ring(1);
    let (mut file, _) = sealed(&Memory::usual(), &ring);
    let head = head_len(&file);
    let key_id = ring.active().to_string();
    let text = String::from_utf8_lossy(&file[..head - 32]).into_owned();
    let key_at = file.windows(key_id.len()).position(|window| window == key_id.as_bytes()).unwrap();
    assert!(text.contains(&key_id));
    let bits = file.len() * 8;
    let spread = (0..5_000).map(|at| at * bits / 5_000);
    let header_bits = (0..head * 8).step_by(11);
    for bit in (0..200).chain(header_bits).chain(spread) {
        let at = bit / 8;
        file[at] ^= 1 << (bit % 8);
        let error = opened(&file, &ring, &mut Nowhere).unwrap_err();
        file[at] ^= 1 << (bit % 8);
        let right = match at {
            0..8 => matches!(error, BackupError::NotABackup),
            8..10 => matches!(error, BackupError::UnsupportedVersion { version } if version != VERSION),
            10..14 => matches!(error, BackupError::Truncated | BackupError::TamperedHeader),
            at if at < head => {
                let of_key = (key_at..key_at + key_id.len()).contains(&at);
                matches!(error, BackupError::TamperedHeader)
                    || (of_key && matches!(error, BackupError::WrongKey { .. }))
            }
            at => {
                let expected = ((at - head) / SEALED_CHUNK) as u32;
                matches!(error, BackupError::Corrupt { chunk } if chunk == expected)
            }
        };
        assert!(right, "bit {bit}: {error}");
    }
    assert!(opened(&file, &ring, &mut Nowhere).is_ok(), "and nothing is left changed");
}

#[test]
fn what_follows_a_backup_is_refused() {
    let ring = ring(1);
    let (file, _) = sealed(&Memory::usual(), &ring);
    let head = head_len(&file);
    for more in [&[0][..], &[0x80], &file[head..head + SEALED_CHUNK], &file] {
        let error = opened(&[&file, more].concat(), &ring, &mut Nowhere).unwrap_err();
        assert!(matches!(error, BackupError::TrailingData), "{error}");
    }
}

#[test]
fn another_key_is_told_from_damage_and_an_old_one_still_reads() {
    let (file, _) = sealed(&Memory::usual(), &ring(1));
    let error = opened(&file, &ring(2), &mut Nowhere).unwrap_err();
    let BackupError::WrongKey { key_id } = &error else { panic!("{error}") };
    assert_eq!(*key_id, ring(1).active().to_string());
    assert_eq!(error.code(), Some("backup_wrong_key"));
    let both = ring(2).with_old(&master(1)).unwrap();
    assert!(opened(&file, &both, &mut Nowhere).is_ok());
}

#[test]
fn the_content_of_one_file_does_not_open_under_the_header_of_another() {
    let ring = ring(1);
    let memory = Memory::usual();
    let (one, _) = sealed(&memory, &ring);
    let mut other = memory.clone();
    other.facts.database = "other".to_owned();
    let (two, _) = sealed(&other, &ring);
    let mixed = [&one[..head_len(&one)], &two[head_len(&two)..]].concat();
    let error = opened(&mixed, &ring, &mut Nowhere).unwrap_err();
    assert!(matches!(error, BackupError::Corrupt { chunk: 0 }), "{error}");
}

#[test]
fn a_later_form_is_refused_as_such() {
    let ring = ring(1);
    let (mut file, _) = sealed(&Memory::usual(), &ring);
    file[8..10].copy_from_slice(&2_u16.to_be_bytes());
    let error = opened(&file, &ring, &mut Nowhere).unwrap_err();
    assert!(matches!(error, BackupError::UnsupportedVersion { version: 2 }));
    assert_eq!(error.code(), Some("backup_unsupported_version"));
}

/// A sealed file with this content: whoever has the key can write what they like, and it is still not believed.
fn forged(memory: &Memory, content: &[u8]) -> Result<Totals, BackupError> {
    let ring = ring(1);
    let (mut file, key) = header(memory, &ring).seal(&ring).unwrap();
    let mut sealing = SealingWriter::new(key, &mut file);
    sealing.write_all(&zstd::encode_all(content, 3).unwrap()).unwrap();
    sealing.finish().unwrap();
    opened(&file, &ring, &mut Nowhere)
}

/// The honest content of one table, in its parts.
fn parts(memory: &Memory) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let rows = &memory.rows[0];
    let mut table = b"T\0\0\0\0".to_vec();
    table.extend((rows.len() as u32).to_be_bytes());
    table.extend(rows);
    table.extend([0; 4]);
    let digest = <sha2::Sha256 as sha2::Digest>::digest(rows);
    let mut end = 1_u64.to_be_bytes().to_vec();
    end.extend((rows.len() as u64).to_be_bytes());
    end.extend(digest);
    let text = |tag: u8, json: String| {
        let mut out = vec![tag];
        out.extend((json.len() as u32).to_be_bytes());
        out.extend(json.into_bytes());
        out
    };
    let empty = HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(b"[]"));
    let (hex, length) = (HEXLOWER.encode(&digest), rows.len());
    let mut rest = text(b'S', "[]".to_owned());
    rest.extend(text(
        b'E',
        format!(
            r#"{{"tables":[{{"name":"t","rows":1,"bytes":{length},"sha256":"{hex}"}}],"sequences":"{empty}"}}"#
        ),
    ));
    (table, end, rest)
}

#[test]
fn forged_counts_lengths_and_lists_are_refused() {
    let memory = Memory::new(vec![("t", 1, copy_form(&[vec![Some(b"x".to_vec())]]))]);
    let (table, end, rest) = parts(&memory);
    assert_eq!(forged(&memory, &[&table[..], &end, &rest].concat()).unwrap().rows(), 1);
    let refused = |why: &str, content: Vec<u8>| {
        let error = forged(&memory, &content).unwrap_err();
        assert!(matches!(error, BackupError::Inconsistent(_)), "{why}: {error}");
    };
    let changed = |part: &[u8], at: usize, to: &[u8]| {
        let mut part = part.to_vec();
        part[at..at + to.len()].copy_from_slice(to);
        part
    };
    refused("no content", Vec::new());
    refused("another place", [&changed(&table, 4, &[1])[..], &end, &rest].concat());
    refused("a block of 4 GiB", [&changed(&table, 5, &[0xff; 4])[..], &end, &rest].concat());
    refused("a block that runs on", [&changed(&table, 5, &[0, 0, 0xf, 0xff])[..], &end, &rest].concat());
    refused("more rows", [&table[..], &changed(&end, 7, &[2]), &rest].concat());
    refused("more bytes", [&table[..], &changed(&end, 8, &[1]), &rest].concat());
    refused("another checksum", [&table[..], &changed(&end, 16, &[0, 0, 0, 0, 0]), &rest].concat());
    refused("a list of 4 GiB", [&table[..], &end, &changed(&rest, 1, &[0xff; 4])].concat());
    refused("a list that breaks off", [&table[..], &end, &rest[..rest.len() - 1]].concat());
    refused("sequences that are none", [&table[..], &end, &changed(&rest, 5, b"{}")].concat());
    let lie = String::from_utf8_lossy(&rest).replace("\"rows\":1", "\"rows\":2").into_bytes();
    refused("another manifest", [&table[..], &end, &lie].concat());
    refused("something after the manifest", [&table[..], &end, &rest, b"x"].concat());
    refused("the table twice", [&table[..], &end, &table, &end, &rest].concat());
}

#[test]
fn rows_are_counted_in_pieces_of_any_size_and_must_end() {
    let rows = copy_form(&vec![vec![Some(vec![1; 300]), None, Some(Vec::new())]; 5]);
    for step in [1, 2, 3, 5, 19, 1_000] {
        let mut counter = RowCounter::new(3);
        rows.chunks(step).for_each(|piece| counter.follow(piece).unwrap());
        assert_eq!(counter.finish().unwrap(), 5, "{step}");
        assert!(counter.follow(&[0]).is_err(), "nothing follows");
    }
    for length in 0..rows.len() {
        let mut counter = RowCounter::new(3);
        counter.follow(&rows[..length]).unwrap();
        assert!(counter.finish().is_err(), "{length}: broken off");
    }
    for (columns, bad) in [
        (3, b"PGCOPY\n\xff\r\n\x01\0\0\0\0\0\0\0\0\xff\xff".to_vec()),
        (3, b"PGCOPY\n\xff\r\n\0\0\0\0\x01\0\0\0\0\xff\xff".to_vec()),
        (2, rows.clone()),
        (1, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xfe".to_vec()),
    ] {
        assert!(RowCounter::new(columns).follow(&bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_at_all_open(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), like_ours: bool) {
        let head = if like_ours { &b"plmb\r\n\x1a\n\0\x01\0\0\0\x10"[..] } else { &[] };
        prop_assert!(opened(&[head, &bytes].concat(), &ring(1), &mut Nowhere).is_err());
    }

    #[test]
    fn no_content_at_all_is_believed(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(forged(&Memory::usual(), &bytes).is_err());
    }
}
