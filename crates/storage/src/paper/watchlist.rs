use chrono::{DateTime, Utc};
use plimsoll_paper_exchange::AccountId;
use uuid::Uuid;

/// A named list of symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchlist {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: AccountId,
    /// 1 to 64 characters.
    pub name: String,
    /// In the order in which they were added, each once.
    pub symbols: Vec<String>,
    /// When it was made; simulator time.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
