use std::collections::HashSet;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use super::MemoryStore;
use crate::challenges::Challenge;
use crate::ports::UnfinishedStore;
use crate::unfinished::Unfinished;

/// Challenges that were told of.
pub(super) type Told = HashSet<Uuid>;

impl UnfinishedStore for MemoryStore {
    fn unfinished_challenges(
        &mut self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError> {
        self.call()?;
        let all: Vec<Challenge> = self.factors.challenges.iter().map(|(_, c)| c.clone()).collect();
        let repeated = |one: &Challenge| {
            all.iter().any(|other| {
                other.user == one.user
                    && other.ip == one.ip
                    && other.ended_at.is_some()
                    && other.created_at > one.created_at
            })
        };
        let mut due: Vec<Unfinished> = all
            .iter()
            .filter(|c| c.ended_at.is_none() && c.created_at <= until && !self.told.contains(&c.id))
            .map(|c| Unfinished { challenge: c.clone(), repeated: repeated(c) })
            .collect();
        due.sort_by_key(|unfinished| unfinished.challenge.created_at);
        due.truncate(limit);
        Ok(due)
    }

    fn mark_challenge_told(
        &mut self,
        user: UserId,
        challenge: Uuid,
        _at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let open = |c: &Challenge| c.user == user && c.id == challenge && c.ended_at.is_none();
        let known = self.factors.challenges.iter().any(|(_, c)| open(c));
        Ok(known && self.told.insert(challenge))
    }
}
