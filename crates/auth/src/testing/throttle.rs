use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::StoreError;

use super::MemoryStore;
use crate::ports::ThrottleStore;
use crate::throttle::{FailureRule, Limit, Verdict};

type Key = (String, Vec<u8>);

/// What is counted, by kind and key.
#[derive(Debug, Default, Clone)]
pub(super) struct Buckets {
    /// Theoretical arrival times (the generic cell rate algorithm).
    arrivals: HashMap<Key, DateTime<Utc>>,
    /// Failures, the time of the last one, and until when they block.
    failures: HashMap<Key, (u32, DateTime<Utc>, DateTime<Utc>)>,
}

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
        let at = self.throttles.arrivals.entry((kind.to_owned(), key.to_vec())).or_insert(now);
        let from = (*at).max(now);
        if from - now > room {
            let wait: TimeDelta = from - now - room;
            return Ok(Verdict::Blocked { retry_after: wait.to_std().unwrap_or(Duration::ZERO) });
        }
        *at = from + each;
        Ok(Verdict::Allowed)
    }

    fn count_failure(
        &mut self,
        kind: &str,
        key: &[u8],
        rule: FailureRule,
        now: DateTime<Utc>,
    ) -> Result<Verdict, StoreError> {
        self.call()?;
        let failures = &mut self.throttles.failures;
        let (count, last, until) = failures.entry((kind.to_owned(), key.to_vec())).or_insert((0, now, now));
        if *until > now {
            return Ok(Verdict::Blocked { retry_after: (*until - now).to_std().unwrap_or_default() });
        }
        *count = if now - (*last).max(*until) > rule.window { 1 } else { *count + 1 };
        (*last, *until) = (now, now + rule.block_after(*count));
        Ok(Verdict::Allowed)
    }

    fn clear(&mut self, kind: &str, key: &[u8]) -> Result<bool, StoreError> {
        self.call()?;
        let key = (kind.to_owned(), key.to_vec());
        let counted = self.throttles.failures.remove(&key).is_some();
        Ok(self.throttles.arrivals.remove(&key).is_some() || counted)
    }
}
