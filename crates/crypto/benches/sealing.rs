//! Sealing and opening beside what the chacha20poly1305 crate alone needs for the same bytes, in processor time of the one
//! thread, so that other programs on the machine count little.
//! `just bench -p plimsoll-crypto --bench sealing` (arguments: `--rounds N`, `--millis N` of each side in a round).

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::Duration;

use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, XChaCha20Poly1305, XNonce};
use plimsoll_crypto::{
    Aad, CryptoRng, DataKey, KeyRing, MasterKey, OpeningReader, OsRandom, SealingWriter, SecretKey,
    StreamKey, open, seal, stream,
};

use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HELP: &str = "arguments: --rounds N (15), --millis N of each side in a round (100)";
const KIB: usize = 1024;
const STREAM: usize = 8 * 1024 * KIB;

struct Arguments {
    rounds: usize,
    time: Duration,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut this = Self { rounds: 15, time: Duration::from_millis(100) };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value; {HELP}"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--rounds" => this.rounds = value()?.parse()?,
                "--millis" => this.time = Duration::from_millis(value()?.parse()?),
                _ => return Err(HELP.into()),
            }
        }
        if this.rounds == 0 || this.time.is_zero() { Err(HELP.into()) } else { Ok(this) }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut rng = OsRandom;
    let installation = KeyRing::new(&MasterKey::from_key(SecretKey::generate(&mut rng))?);
    let ring = DataKey::generate(&mut rng).ring(&installation);
    let raw = XChaCha20Poly1305::new_from_slice(SecretKey::generate(&mut rng).expose())?;
    println!("{:<34} {:>12} {:>12} {:>7} {:>15}", "per operation", "ours", "crate", "ratio", "of the rounds");
    small(&arguments, "1 KiB", &ring, &raw, &vec![7; KIB]);
    small(&arguments, "64 bytes", &ring, &raw, &[7; 64]);
    large(&arguments, &ring)
}

fn small(arguments: &Arguments, size: &str, ring: &KeyRing, raw: &XChaCha20Poly1305, text: &[u8]) {
    let place = Aad { table: "broker_credentials", column: "api_secret", row: "42:alpaca", owner: Some(42) };
    let raw_seal = || {
        let nonce = random_nonce(&mut OsRandom);
        let sealed = raw.encrypt(&nonce, text).expect("the plaintext is short");
        (nonce, sealed)
    };
    compare(
        arguments,
        &format!("seal {size}"),
        || drop(black_box(seal(ring, &place, black_box(text), &mut OsRandom))),
        || drop(black_box(raw_seal())),
    );
    let (ours, (nonce, theirs)) = (seal(ring, &place, text, &mut OsRandom), raw_seal());
    compare(
        arguments,
        &format!("open {size}"),
        || drop(black_box(open(ring, &place, black_box(&ours)).expect("just sealed"))),
        || drop(black_box(raw.decrypt(&nonce, black_box(&theirs[..])).expect("just sealed"))),
    );
}

/// A stream in memory beside the bare cipher over the same chunks, in one buffer.
fn large(arguments: &Arguments, ring: &KeyRing) -> Result<()> {
    let key = || {
        let salt = *SecretKey::generate(&mut OsRandom).expose();
        StreamKey::derive(ring, ring.active(), &salt, "bench", b"").expect("the ring's own key")
    };
    let text = vec![7; STREAM];
    let bare = ChaCha20Poly1305::new_from_slice(SecretKey::generate(&mut OsRandom).expose())?;
    let sealed_chunk = bare.encrypt(&[0; 12].into(), &text[..stream::CHUNK])?;
    compare(
        arguments,
        "seal a stream of 8 MiB",
        || {
            let mut writer = SealingWriter::new(key(), std::io::sink());
            writer.write_all(black_box(&text)).expect("a sink takes all");
            writer.finish().expect("a sink takes all");
        },
        || {
            for chunk in black_box(&text).chunks(stream::CHUNK) {
                drop(black_box(bare.encrypt(&[0; 12].into(), chunk)));
            }
        },
    );
    let salt = [7; 32];
    let same_key =
        || StreamKey::derive(ring, ring.active(), &salt, "bench", b"").expect("the ring's own key");
    let mut writer = SealingWriter::new(same_key(), Vec::new());
    writer.write_all(&text)?;
    let sealed = writer.finish()?;
    let mut piece = vec![0; stream::CHUNK];
    compare(
        arguments,
        "open a stream of 8 MiB",
        || {
            let mut reader = OpeningReader::new(same_key(), black_box(&sealed[..]));
            while reader.read(&mut piece).expect("just sealed") > 0 {}
        },
        || {
            for _ in 0..STREAM / stream::CHUNK {
                drop(black_box(bare.decrypt(&[0; 12].into(), black_box(&sealed_chunk[..]))));
            }
        },
    );
    Ok(())
}

fn random_nonce<R: CryptoRng + ?Sized>(rng: &mut R) -> XNonce {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    nonce.into()
}

/// Measures both sides in turns, and prints the medians of the rounds: time of one operation, and how much of the crate's
/// rate is left (above 1: faster).
fn compare(arguments: &Arguments, what: &str, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
    let half = arguments.time / 2;
    let (mut our_times, mut their_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let first = per_operation(half, &mut ours);
        let their_time = per_operation(arguments.time, &mut theirs);
        let our_time = (first + per_operation(half, &mut ours)) / 2.0;
        our_times.push(our_time);
        their_times.push(their_time);
        ratios.push(their_time / our_time);
    }
    let (lowest, ratio, highest) = spread(&mut ratios);
    println!(
        "{what:<34} {:>9.2} µs {:>9.2} µs {ratio:>7.2} {:>15}",
        spread(&mut our_times).1,
        spread(&mut their_times).1,
        format!("{lowest:.2}–{highest:.2}"),
    );
}

/// Microseconds of processor time of one call.
fn per_operation(time: Duration, work: &mut impl FnMut()) -> f64 {
    let mut calls = 0u32;
    let start = processor_time();
    loop {
        for _ in 0..8 {
            work();
        }
        calls += 8;
        let taken = processor_time().saturating_sub(start);
        if taken >= time {
            return taken.as_secs_f64() * 1e6 / f64::from(calls);
        }
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("the clock began at zero")
}

/// Lowest, median and highest.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
