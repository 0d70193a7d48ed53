//! Seals a file of any size in constant memory, opens it again, and shows how damage is told.
//!
//! `cargo run -p plimsoll-crypto --example sealed_file`

use std::error::Error;
use std::io::{Read, Write, sink};

use plimsoll_crypto::stream::{SEALED_CHUNK, StreamError};
use plimsoll_crypto::{
    KeyId, KeyRing, MasterKey, OpeningReader, OsRandom, SealingWriter, SecretKey, StreamKey,
};

/// Of this example: 8 bytes of key id and 32 bytes of salt. Nothing of it is secret, and none of it can be changed.
const HEADER_BYTES: usize = 40;

fn seal(ring: &KeyRing, mut data: impl Read) -> Result<Vec<u8>, Box<dyn Error>> {
    let salt = *SecretKey::generate(&mut OsRandom).expose();
    let header = [&ring.active().as_bytes()[..], &salt].concat();
    let key = StreamKey::derive(ring, ring.active(), &salt, "example", &header)?;
    let mut writer = SealingWriter::new(key, header);
    std::io::copy(&mut data, &mut writer)?;
    Ok(writer.finish()?)
}

fn open(ring: &KeyRing, file: &[u8], mut out: impl Write) -> Result<u64, Box<dyn Error>> {
    let (header, sealed) = file.split_at_checked(HEADER_BYTES).ok_or("no header")?;
    let id = KeyId::from_bytes(header[..8].try_into()?);
    let key = StreamKey::derive(ring, id, header[8..].try_into()?, "example", header)?;
    Ok(std::io::copy(&mut OpeningReader::new(key, sealed), &mut out)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let ring = KeyRing::new(&MasterKey::from_key(SecretKey::generate(&mut OsRandom))?);
    let file = seal(&ring, std::io::repeat(7).take(1_000_000))?;
    println!("1000000 bytes became {}, and {} came back", file.len(), open(&ring, &file, sink())?);

    let why = |file: &[u8]| match open(&ring, file, sink()) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(error) => {
            let own = error.downcast_ref().and_then(StreamError::of);
            own.map_or_else(|| error.to_string(), |error| error.to_string())
        }
    };
    println!("cut: {}", why(&file[..file.len() - 1]));
    println!("cut after a chunk: {}", why(&file[..HEADER_BYTES + 3 * SEALED_CHUNK]));
    println!("followed: {}", why(&[&file[..], b"more"].concat()));
    let flipped = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 1;
        file
    };
    println!("changed: {}", why(&flipped(500_000)));
    println!("another salt in the header: {}", why(&flipped(20)));
    println!("another key id in the header: {}", why(&flipped(0)));
    Ok(())
}
