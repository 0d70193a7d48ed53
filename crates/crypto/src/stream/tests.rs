use std::io::{Read, Write};

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::key_ring::tests::master;

const SALT: [u8; 32] = {
    let mut salt = [0; 32];
    let mut i = 0;
    while i < 32 {
        salt[i] = i as u8;
        i += 1;
    }
    salt
};
const PURPOSE: &str = "backup data";
const HEADER: &[u8] = br#"{"id":"backup"}"#;

fn ring() -> KeyRing {
    KeyRing::new(&master(100))
}

fn key() -> StreamKey {
    StreamKey::derive(&ring(), ring().active(), &SALT, PURPOSE, HEADER).unwrap()
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn seal(data: &[u8]) -> Vec<u8> {
    let mut writer = SealingWriter::new(key(), Vec::new());
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn open(sealed: &[u8]) -> Result<Vec<u8>, StreamError> {
    open_with(key(), sealed)
}

fn open_with(key: StreamKey, sealed: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut reader = OpeningReader::new(key, sealed);
    let mut out = Vec::new();
    let read = reader.read_to_end(&mut out).map_err(|error| StreamError::of(&error).unwrap());
    if let Err(error) = read {
        let again = reader.read(&mut [0]).unwrap_err();
        assert_eq!(StreamError::of(&again), Some(error), "a failure stays");
        assert_eq!(StreamError::of(&reader.finish().unwrap_err()), Some(error));
    }
    read.map(|_| out)
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// RFC 8439, section 2.8.2, through the cipher that seals chunks.
#[test]
fn the_cipher_agrees_with_rfc_8439() {
    use chacha20poly1305::aead::{Aead, Payload};
    let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
    let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
    let nonce: [u8; 12] = hex("070000004041424344454647").try_into().unwrap();
    let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let payload = Payload { msg: plaintext, aad: &hex("50515253c0c1c2c3c4c5c6c7") };
    let sealed = ChaCha20Poly1305::new_from_slice(&key).unwrap().encrypt(&nonce.into(), payload).unwrap();
    assert_eq!(
        HEXLOWER.encode(&sealed),
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
         3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
         92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
         3ff4def08e4b7a9de576d26586cec64b6116\
         1ae10b594f09e26a7e902ecbd0600691"
    );
}

/// Made apart with the Python package `cryptography` and another HKDF: what was written must open for ever.
#[test]
fn the_form_is_pinned() {
    assert_eq!(
        HEXLOWER.encode(key().0.expose()),
        "b11052b560efd05ffe22989b833e3212a6882cfce70661e22f19f684203e2f54"
    );
    let sealed = seal(&data(2 * 65_536 + 5));
    assert_eq!(sealed.len(), 196_656);
    assert_eq!(digest(&sealed), "68899317ced6227b7352fae22f925c9d0ab115fe8dbda61f233eee751219bbde");
    let empty = seal(&[]);
    assert_eq!(empty.len(), 65_552);
    assert_eq!(digest(&empty), "57ac92a15852b810680e93ab31594be70ec41a754cf87cc6cb552713f828e42a");
}

/// A buffer that grew would also leave plaintext behind where it was before.
#[test]
fn memory_is_one_chunk_for_any_length() {
    let data = data(10 * CHUNK + 5);
    for step in [1_000, CHUNK, data.len()] {
        let mut writer = SealingWriter::new(key(), Vec::new());
        for piece in data.chunks(step) {
            writer.write_all(piece).unwrap();
            assert_eq!(writer.buffer.capacity(), SEALED_CHUNK);
        }
        let sealed = writer.finish().unwrap();
        let mut reader = OpeningReader::new(key(), &sealed[..]);
        let mut piece = vec![0; step];
        while reader.read(&mut piece).unwrap() > 0 {
            assert_eq!(reader.buffer.capacity(), SEALED_CHUNK);
        }
    }
}

#[test]
fn any_length_around_whole_chunks_comes_back() {
    for chunks in 0..3 {
        for length in [chunks * CHUNK, chunks * CHUNK + 1, (chunks + 1) * CHUNK - 1] {
            let data = data(length);
            let sealed = seal(&data);
            assert_eq!(sealed.len() as u64, sealed_len(length as u64), "{length}");
            assert!(open(&sealed).unwrap() == data, "{length}");
        }
    }
    // Padding is told from data that looks like it.
    for data in [&[0x80][..], &[0x80, 0, 0], &[0; 9], &[0x80; CHUNK], &[0; CHUNK + 3]] {
        assert!(open(&seal(data)).unwrap() == data);
    }
}

#[test]
fn every_cut_is_told_as_a_cut() {
    let data = data(2 * CHUNK + 5);
    let sealed = seal(&data);
    let borders = (0..sealed.len()).step_by(SEALED_CHUNK).flat_map(|at| [at.saturating_sub(1), at, at + 1]);
    for length in (0..sealed.len()).step_by(997).chain(borders) {
        let chunk = (length / SEALED_CHUNK) as u32;
        assert_eq!(open(&sealed[..length]), Err(StreamError::Truncated { chunk }), "{length}");
    }
    let last = sealed.len() - 1;
    assert_eq!(open(&sealed[..last]), Err(StreamError::Truncated { chunk: 2 }));
    // A writer that was dropped leaves a cut stream, even when it ended with a chunk.
    let mut out = Vec::new();
    SealingWriter::new(key(), &mut out).write_all(&data[..2 * CHUNK]).unwrap();
    assert_eq!(open(&out), Err(StreamError::Truncated { chunk: 2 }));
}

#[test]
fn every_change_is_told_with_its_chunk() {
    let sealed = seal(&data(2 * CHUNK + 5));
    let at_borders = (0..3).flat_map(|chunk| {
        let start = chunk * SEALED_CHUNK;
        [start, start + CHUNK - 1, start + CHUNK, start + SEALED_CHUNK - 1]
    });
    for (i, at) in (0..sealed.len()).step_by(3_989).chain(at_borders).enumerate() {
        let mut changed = sealed.clone();
        changed[at] ^= 1 << (i % 8);
        let chunk = (at / SEALED_CHUNK) as u32;
        assert_eq!(open(&changed), Err(StreamError::Corrupt { chunk }), "{at}");
    }
}

#[test]
fn chunks_have_their_place_and_the_last_one_ends_it() {
    let data = data(3 * CHUNK + 5);
    let sealed = seal(&data);
    let chunks: Vec<&[u8]> = sealed.chunks(SEALED_CHUNK).collect();
    let join = |order: &[usize]| order.iter().map(|&i| chunks[i]).collect::<Vec<_>>().concat();
    let corrupt = |chunk| Err(StreamError::Corrupt { chunk });
    assert_eq!(open(&join(&[1, 0, 2, 3])), corrupt(0));
    assert_eq!(open(&join(&[0, 2, 1, 3])), corrupt(1));
    assert_eq!(open(&join(&[0, 0, 2, 3])), corrupt(1));
    assert_eq!(open(&join(&[0, 2, 3])), corrupt(1));
    assert_eq!(open(&join(&[0, 1, 3])), corrupt(2));
    assert_eq!(open(&join(&[3])), corrupt(0));
    assert_eq!(open(&join(&[0, 1, 2])), Err(StreamError::Truncated { chunk: 3 }));
    for more in [&[0][..], &[0; 16], chunks[0], chunks[3], &sealed] {
        assert_eq!(open(&[&sealed, more].concat()), Err(StreamError::TrailingData));
    }
    assert!(open(&join(&[0, 1, 2, 3])).unwrap() == data);
}

#[test]
fn another_key_salt_purpose_or_header_opens_nothing() {
    let sealed = seal(b"data");
    let two = ring().with_old(&master(101)).unwrap();
    let (active, old) = (two.active(), KeyRing::new(&master(101)).active());
    let other_salt = [1; 32];
    let keys = [
        StreamKey::derive(&two, old, &SALT, PURPOSE, HEADER),
        StreamKey::derive(&two, active, &other_salt, PURPOSE, HEADER),
        StreamKey::derive(&two, active, &SALT, "backup", HEADER),
        StreamKey::derive(&two, active, &SALT, PURPOSE, br#"{"id":"backuq"}"#),
        StreamKey::derive(&two, active, &SALT, PURPOSE, b""),
    ];
    for key in keys {
        assert_eq!(open_with(key.unwrap(), &sealed), Err(StreamError::Corrupt { chunk: 0 }));
    }
    assert_eq!(
        open_with(StreamKey::derive(&two, active, &SALT, PURPOSE, HEADER).unwrap(), &sealed),
        open(&sealed)
    );
    let stranger = KeyRing::new(&master(102)).active();
    let unknown = StreamKey::derive(&two, stranger, &SALT, PURPOSE, HEADER).unwrap_err();
    assert_eq!(unknown, KeyRingError::UnknownKey(stranger));
}

/// The counter is 32 bits: what would need another one is refused, and the last one still works.
#[test]
fn the_counter_never_comes_round() {
    let from = |next| Chunks { next, ..Chunks::new(&key()) };
    let mut writer = SealingWriter::at(from(u32::MAX - 1), Vec::new());
    writer.write_all(&data(CHUNK + 5)).unwrap();
    let sealed = writer.finish().unwrap();
    let mut back = Vec::new();
    OpeningReader::at(from(u32::MAX - 1), &sealed[..]).read_to_end(&mut back).unwrap();
    assert!(back == data(CHUNK + 5));

    let mut writer = SealingWriter::at(from(u32::MAX), Vec::new());
    writer.write_all(&data(CHUNK - 1)).unwrap();
    let error = writer.write_all(&[1, 2]).unwrap_err();
    assert_eq!(
        (StreamError::of(&error), error.kind()),
        (Some(StreamError::TooLong), io::ErrorKind::FileTooLarge)
    );
    assert_eq!(StreamError::of(&writer.write(&[3]).unwrap_err()), Some(StreamError::Broken));
    assert_eq!(StreamError::of(&writer.flush().unwrap_err()), Some(StreamError::Broken));
    assert_eq!(StreamError::of(&writer.finish().unwrap_err()), Some(StreamError::Broken));
    let read = OpeningReader::at(from(u32::MAX), &sealed[..SEALED_CHUNK]).read(&mut [0]).unwrap_err();
    assert_eq!(StreamError::of(&read), Some(StreamError::Corrupt { chunk: u32::MAX }));
}

/// Takes or gives a few bytes at a time, and fails in between.
struct Hesitant<T> {
    inner: T,
    step: usize,
    calls: usize,
    error: io::ErrorKind,
}

impl<T> Hesitant<T> {
    fn new(inner: T, error: io::ErrorKind) -> Self {
        Self { inner, step: 10_007, calls: 0, error }
    }

    fn stumble(&mut self) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) { Err(self.error.into()) } else { Ok(self.step) }
    }
}

impl<R: Read> Read for Hesitant<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = self.stumble()?.min(out.len());
        self.inner.read(&mut out[..step])
    }
}

impl<W: Write> Write for Hesitant<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let step = self.stumble()?.min(data.len());
        self.inner.write(&data[..step])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[test]
fn interruptions_change_nothing_and_a_reader_may_be_asked_again() {
    let data = data(2 * CHUNK + 5);
    let mut writer = SealingWriter::new(key(), Hesitant::new(Vec::new(), io::ErrorKind::Interrupted));
    writer.write_all(&data).unwrap();
    writer.flush().unwrap();
    let sealed = writer.finish().unwrap().inner;
    assert!(sealed == seal(&data));

    for error in [io::ErrorKind::Interrupted, io::ErrorKind::TimedOut] {
        let mut reader = OpeningReader::new(key(), Hesitant::new(&sealed[..], error));
        let (mut out, mut piece) = (Vec::new(), [0; 4_000]);
        loop {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => out.extend_from_slice(&piece[..read]),
                Err(failed) => assert_eq!((failed.kind(), StreamError::of(&failed)), (error, None)),
            }
        }
        assert!(out == data, "{error}");
    }
}

#[test]
fn a_failed_write_breaks_the_stream() {
    let mut out = [0; SEALED_CHUNK + 7];
    let mut writer = SealingWriter::new(key(), &mut out[..]);
    writer.write_all(&data(CHUNK)).unwrap();
    let error = writer.write_all(&data(CHUNK)).unwrap_err();
    assert_eq!((error.kind(), StreamError::of(&error)), (io::ErrorKind::WriteZero, None));
    assert_eq!(StreamError::of(&writer.write(b"more").unwrap_err()), Some(StreamError::Broken));
    assert_eq!(StreamError::of(&writer.finish().unwrap_err()), Some(StreamError::Broken));
    assert_eq!(open(&out), Err(StreamError::Truncated { chunk: 1 }));
}

#[test]
fn finishing_a_reader_checks_what_was_not_read() {
    let sealed = seal(&data(2 * CHUNK));
    let finish = |sealed: &[u8], read: usize| {
        let mut reader = OpeningReader::new(key(), sealed);
        reader.read_exact(&mut vec![0; read]).unwrap();
        reader.finish().map(|rest| rest.len()).map_err(|error| StreamError::of(&error).unwrap())
    };
    for read in [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
        assert_eq!(finish(&sealed, read), Ok(0));
        let cut = finish(&sealed[..2 * SEALED_CHUNK], read);
        assert_eq!(cut, Err(StreamError::Truncated { chunk: 2 }));
        assert_eq!(finish(&[&sealed[..], &[0]].concat(), read), Err(StreamError::TrailingData));
    }
}

#[test]
fn errors_have_kinds_and_debug_shows_no_key() {
    let mut reader = OpeningReader::new(key(), &b"cut"[..]);
    assert_eq!(reader.read(&mut []).unwrap(), 0, "no room, nothing read");
    let error = reader.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(error.to_string(), "the sealed stream is truncated: it ends in or before chunk 0");
    assert_eq!(StreamError::of(&io::Error::other("another")), None);
    assert_eq!(format!("{:?}", key()), "StreamKey(SecretKey(redacted))");
    assert_eq!(format!("{reader:?}"), "OpeningReader { chunk: 0, .. }");
    assert_eq!(format!("{:?}", SealingWriter::new(key(), Vec::new())), "SealingWriter { chunk: 0, .. }");
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..300usize,
        (0..4usize, 0..40usize).prop_map(|(chunks, off)| (chunks * CHUNK + off).saturating_sub(20)),
        0..3 * CHUNK,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_it_is_written_and_read_makes_no_difference(
        length in lengths(),
        writes in proptest::collection::vec(1..CHUNK + 100, 1..8),
        reads in proptest::collection::vec(1..CHUNK + 100, 1..8),
    ) {
        let data = data(length);
        let mut writer = SealingWriter::new(key(), Vec::new());
        let (mut left, mut sizes) = (&data[..], writes.iter().cycle());
        while !left.is_empty() {
            let (now, later) = left.split_at(left.len().min(*sizes.next().unwrap()));
            writer.write_all(now).unwrap();
            left = later;
        }
        let sealed = writer.finish().unwrap();
        prop_assert!(sealed == seal(&data));

        let mut reader = OpeningReader::new(key(), &sealed[..]);
        let (mut out, mut sizes) = (Vec::new(), reads.iter().cycle());
        loop {
            let mut piece = vec![0; *sizes.next().unwrap()];
            let read = reader.read(&mut piece).unwrap();
            if read == 0 {
                break;
            }
            out.extend_from_slice(&piece[..read]);
        }
        prop_assert!(out == data);
    }

    #[test]
    fn no_bytes_at_all_open(bytes in proptest::collection::vec(any::<u8>(), 0..2 * SEALED_CHUNK)) {
        prop_assert!(open(&bytes).is_err());
    }

    #[test]
    fn cut_and_changed_streams_never_open(length in lengths(), cut: prop::sample::Index, at: prop::sample::Index, bit in 0..8u8) {
        let mut sealed = seal(&data(length));
        let cut = cut.index(sealed.len());
        prop_assert_eq!(open(&sealed[..cut]), Err(StreamError::Truncated { chunk: (cut / SEALED_CHUNK) as u32 }));
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert_eq!(open(&sealed), Err(StreamError::Corrupt { chunk: (at / SEALED_CHUNK) as u32 }));
    }
}
