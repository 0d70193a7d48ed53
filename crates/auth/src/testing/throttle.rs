use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::StoreError;

use super::MemoryStore;
use crate::ports::ThrottleStore;
use crate::throttle::{Limit, Verdict};

/// Theoretical arrival times (the generic cell rate algorithm) by kind and key.
pub(super) type Buckets = HashMap<(String, Vec<u8>), DateTime<Utc>>;

impl ThrottleStore for MemoryStore {
    fn take(
        &mut self,
        kind: &str,
        key: &[u8],
        limit: Limit,
        now: DateTime<Utc>,
    ) -> Result<Verdict, StoreError> {
        self.call()?;
        let each = limit.per / i32::try_from(limit.count.max(1)).unwrap_or(i32::MAX);
        let room = each * i32::try_from(limit.burst.max(1) - 1).unwrap_or(i32::MAX);
        let at = self.throttles.entry((kind.to_owned(), key.to_vec())).or_insert(now);
        let from = (*at).max(now);
        if from - now > room {
            let wait: TimeDelta = from - now - room;
            return Ok(Verdict::Blocked { retry_after: wait.to_std().unwrap_or(Duration::ZERO) });
        }
        *at = from + each;
        Ok(Verdict::Allowed)
    }
}
