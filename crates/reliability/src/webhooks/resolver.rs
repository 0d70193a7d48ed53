//! Looks names up, and lets through only what may be connected to.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::Guard;

/// A name leads to an address that may not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name leads to an address that may not be connected to")]
pub(crate) struct AddressRefused;

/// The name is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is not known")]
pub(crate) struct NameUnknown;

/// Where names are looked up: another one in tests.
pub(crate) type Lookup = dyn Fn(String) -> LookedUp + Send + Sync;
/// The addresses of a name.
pub(crate) type LookedUp =
    std::pin::Pin<Box<dyn std::future::Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

/// The system's resolver.
pub(crate) fn system() -> Arc<Lookup> {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }))
}

/// The resolver of a client whose connections are all encrypted, or all not. The connection is made to the addresses that
/// it answers, so that what was checked is what is connected to. One refused address refuses the name.
pub(crate) struct GuardedResolver {
    pub(crate) guard: Guard,
    pub(crate) encrypted: bool,
    pub(crate) lookup: Arc<Lookup>,
}

impl GuardedResolver {
    fn check(
        &self,
        found: std::io::Result<Vec<SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = found.map_err(|_| NameUnknown)?;
        if found.is_empty() {
            return Err(NameUnknown.into());
        }
        if found.iter().all(|address| self.guard.permits(address.ip(), self.encrypted)) {
            Ok(found)
        } else {
            Err(AddressRefused.into())
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let looking = (self.lookup)(name.as_str().to_owned());
        let this =
            Self { guard: self.guard.clone(), encrypted: self.encrypted, lookup: Arc::clone(&self.lookup) };
        Box::pin(async move {
            let addresses = this.check(looking.await)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
