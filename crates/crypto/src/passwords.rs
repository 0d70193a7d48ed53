//! Login passwords: argon2id in PHC strings, normalised to NFC and otherwise exactly as typed.
//!
//! One hash takes 100–250 ms of a core and `memory_kib` of memory: run it off the async workers, off any transaction and
//! behind a bound on how many run at once.

use std::fmt;
use std::sync::Mutex;

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::CryptoRng;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use memory::HashMemory;

mod memory;

/// Longest password in bytes (UTF-8, after NFC) that [`Passwords::hash`] takes.
pub const MAX_PASSWORD_BYTES: usize = 1024;

const SALT_BYTES: usize = 16;
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 12_288..=4_194_304;
const ITERATIONS: std::ops::RangeInclusive<u32> = 1..=100;
const PARALLELISM: std::ops::RangeInclusive<u32> = 1..=16;

/// Cost of one argon2id hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes. They run one after another here, so more than one only costs time.
    pub parallelism: u32,
}

impl HashParams {
    /// The weakest cost that is accepted, for tests and very small machines (OWASP ASVS 5.0, appendix C).
    pub const MINIMUM: Self = Self { memory_kib: 12_288, iterations: 3, parallelism: 1 };

    /// Refuses what is weaker than the accepted minimum (at least 12 MiB with 3 passes, 19 MiB with 2 or 46 MiB with
    /// 1) or beyond reason (over 4 GiB, 100 passes or 16 lanes).
    fn check(self) -> Result<Params, HashParamsError> {
        let fewest_passes = match self.memory_kib {
            47_104.. => 1,
            19_456.. => 2,
            _ => 3,
        };
        let sane = MEMORY_KIB.contains(&self.memory_kib)
            && ITERATIONS.contains(&self.iterations)
            && PARALLELISM.contains(&self.parallelism);
        if !sane || self.iterations < fewest_passes {
            return Err(HashParamsError(self));
        }
        Params::new(self.memory_kib, self.iterations, self.parallelism, None)
            .map_err(|_| HashParamsError(self))
    }
}

/// 64 MiB, 3 passes, 1 lane.
impl Default for HashParams {
    fn default() -> Self {
        Self { memory_kib: 65_536, iterations: 3, parallelism: 1 }
    }
}

/// The cost is below the accepted minimum or beyond reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "argon2id with {} KiB, {} iterations and {} lanes is refused: at least 12288 KiB with 3 iterations, 19456 with 2 or \
     47104 with 1 is needed; at most 4194304 KiB, 100 iterations and 16 lanes",
    .0.memory_kib, .0.iterations, .0.parallelism
)]
pub struct HashParamsError(pub HashParams);

/// Why a password cannot be hashed or a stored hash not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Longer than [`MAX_PASSWORD_BYTES`].
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// The stored text is no argon2 PHC string.
    #[error("the stored password hash is not readable")]
    MalformedHash,
}

/// A stored password hash: an argon2 PHC string such as `$argon2id$v=19$m=65536,t=3,p=1$…$…`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Reads a stored hash.
    ///
    /// # Errors
    ///
    /// [`PasswordError::MalformedHash`] unless it is an argon2 PHC string with salt and output.
    pub fn parse(stored: impl Into<String>) -> Result<Self, PasswordError> {
        let stored = stored.into();
        let phc = phc::PasswordHash::new(&stored).map_err(|_| PasswordError::MalformedHash)?;
        let complete = Algorithm::try_from(phc.algorithm.as_str()).is_ok()
            && Params::try_from(&phc).is_ok()
            && phc.salt.is_some()
            && phc.hash.is_some();
        if complete { Ok(Self(stored)) } else { Err(PasswordError::MalformedHash) }
    }

    /// The PHC string, to be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn phc(&self) -> phc::PasswordHash {
        phc::PasswordHash::new(&self.0).expect("checked when it was made")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

/// Hashes and verifies passwords with one set of parameters.
pub struct Passwords {
    params: Params,
    dummy: PasswordHash,
    /// `None`: each hash has memory of its own.
    kept: Option<Mutex<HashMemory>>,
}

/// A clone keeps no memory.
impl Clone for Passwords {
    fn clone(&self) -> Self {
        Self { params: self.params.clone(), dummy: self.dummy.clone(), kept: None }
    }
}

impl Passwords {
    /// Checks the parameters and makes the dummy hash, at the cost of one hash.
    ///
    /// # Errors
    ///
    /// [`HashParamsError`] for parameters out of bounds.
    pub fn new<R: CryptoRng + ?Sized>(params: HashParams, rng: &mut R) -> Result<Self, HashParamsError> {
        let params = params.check()?;
        let mut unknowable = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *unknowable);
        let dummy = hash_bytes(&params, &*unknowable, &mut HashMemory::default(), rng);
        Ok(Self { params, dummy, kept: None })
    }

    /// The same, for a thread that computes many hashes one after another: their memory is kept from one to the next,
    /// which saves the time of getting it from the system. Another thread that comes in between has memory of its own.
    #[must_use]
    pub fn keeping_memory(&self) -> Self {
        Self { kept: Some(Mutex::default()), ..self.clone() }
    }

    /// Wipes and gives back what [`Passwords::keeping_memory`] keeps; the next hash gets it anew.
    pub fn release_memory(&self) {
        if let Some(kept) = &self.kept
            && let Ok(mut kept) = kept.try_lock()
        {
            *kept = HashMemory::default();
        }
    }

    fn with_memory<T>(&self, compute: impl FnOnce(&mut HashMemory) -> T) -> T {
        match self.kept.as_ref().and_then(|kept| kept.try_lock().ok()) {
            Some(mut kept) => compute(&mut kept),
            None => compute(&mut HashMemory::default()),
        }
    }

    /// The parameters of new hashes.
    #[must_use]
    pub fn params(&self) -> HashParams {
        HashParams {
            memory_kib: self.params.m_cost(),
            iterations: self.params.t_cost(),
            parallelism: self.params.p_cost(),
        }
    }

    /// Hashes a password with a salt of its own.
    ///
    /// # Errors
    ///
    /// [`PasswordError::TooLong`]. Any other rule for passwords is the caller's.
    pub fn hash<R: CryptoRng + ?Sized>(
        &self,
        password: &SecretString,
        rng: &mut R,
    ) -> Result<PasswordHash, PasswordError> {
        let password = normalise(password);
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        Ok(self.with_memory(|memory| hash_bytes(&self.params, password.as_bytes(), memory, rng)))
    }

    /// Whether the password is the one behind the stored hash. The hash's own parameters are used.
    ///
    /// `None` stands for an unknown user: it costs one real hash with the current parameters and is always `false`.
    #[must_use]
    pub fn verify(&self, password: &SecretString, stored: Option<&PasswordHash>) -> bool {
        let password = normalise(password);
        let hash = stored.unwrap_or(&self.dummy).phc();
        let matches = self.with_memory(|memory| matches(&hash, password.as_bytes(), memory));
        matches && stored.is_some()
    }

    /// Whether a hash should be made anew at the next successful login: another algorithm, or less than today's cost.
    #[must_use]
    pub fn needs_upgrade(&self, stored: &PasswordHash) -> bool {
        let phc = stored.phc();
        let current = Params::try_from(&phc).is_ok_and(|params| {
            params.m_cost() >= self.params.m_cost()
                && params.t_cost() >= self.params.t_cost()
                && params.p_cost() == self.params.p_cost()
        });
        let algorithm = Algorithm::try_from(phc.algorithm.as_str());
        !current || algorithm != Ok(Algorithm::Argon2id) || phc.version != Some(Version::V0x13.into())
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("params", &self.params()).finish_non_exhaustive()
    }
}

fn normalise(password: &SecretString) -> Zeroizing<String> {
    let typed = password.expose_secret();
    let mut normal = Zeroizing::new(String::with_capacity(typed.len() * 3));
    normal.extend(typed.nfc());
    normal
}

fn hash_bytes<R: CryptoRng + ?Sized>(
    params: &Params,
    password: &[u8],
    memory: &mut HashMemory,
    rng: &mut R,
) -> PasswordHash {
    let mut salt = [0; SALT_BYTES];
    rng.fill_bytes(&mut salt);
    let hash = new_hash(params, password, &salt, memory)
        .expect("parameters and salt were checked, and the password is short");
    PasswordHash(hash.to_string())
}

fn new_hash(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    memory: &mut HashMemory,
) -> argon2::password_hash::Result<phc::PasswordHash> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    memory.compute(&argon2, password, salt, &mut output)?;
    Ok(phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(&output)?),
    })
}

/// Whether the password is the one behind the hash, in time that does not depend on where the two differ.
fn matches(hash: &phc::PasswordHash, password: &[u8], memory: &mut HashMemory) -> bool {
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return false };
    let Ok(algorithm) = Algorithm::try_from(hash.algorithm.as_str()) else { return false };
    let Ok(params) = Params::try_from(hash) else { return false };
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
    let Ok(version) = version else { return false };
    let mut output = [0; Output::MAX_LENGTH];
    let output = &mut output[..expected.len()];
    let computed = memory.compute(&Argon2::new(algorithm, version, params), password, salt, output);
    computed.is_ok() && output.ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests;
