//! Price ticks: of each kind and symbol the latest wins, and a session gets one per interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_core_domain::stream::EventKind;
use plimsoll_core_domain::{Symbol, UserId};

/// What a moved price changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickKind {
    /// A position's value: sent as `position_updated`.
    Position,
    /// Profit and loss: sent as `pnl_updated`.
    Pnl,
}

impl TickKind {
    /// The kind of event that carries it.
    #[must_use]
    pub fn event_kind(self) -> EventKind {
        match self {
            Self::Position => EventKind::PositionUpdated,
            Self::Pnl => EventKind::PnlUpdated,
        }
    }
}

/// A price tick for one user.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Whose.
    pub user: UserId,
    /// What changed.
    pub kind: TickKind,
    /// Which symbol's; `None` for what covers all of them. Of one kind and symbol the latest tick wins.
    pub symbol: Option<Symbol>,
    /// The event's `data`, JSON text.
    pub data: Arc<str>,
    /// When the price moved.
    pub at: DateTime<Utc>,
}

/// The ticks that one session has still to send.
#[derive(Debug, Default)]
pub(super) struct TickBoard(BTreeMap<(EventKind, Option<Symbol>), Slot>);

#[derive(Debug, Default)]
struct Slot {
    latest: Option<Bytes>,
    sent: Option<Instant>,
}

/// What a board has for its session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Text(Bytes),
    At(Instant),
    Nothing,
}

impl TickBoard {
    pub(super) fn put(&mut self, kind: EventKind, symbol: Option<&Symbol>, text: &Bytes) {
        self.0.entry((kind, symbol.cloned())).or_default().latest = Some(text.clone());
    }

    /// Drops what a durable event of that kind has made old.
    pub(super) fn discard(&mut self, kind: EventKind) {
        for ((of, _), slot) in &mut self.0 {
            if *of == kind {
                slot.latest = None;
            }
        }
    }

    pub(super) fn take(&mut self, now: Instant, interval: Duration) -> Due {
        let mut soonest = None;
        for slot in self.0.values_mut() {
            let Some(text) = &slot.latest else { continue };
            let due = slot.sent.map_or(now, |sent| sent + interval);
            if due <= now {
                let text = text.clone();
                *slot = Slot { latest: None, sent: Some(now) };
                return Due::Text(text);
            }
            soonest = Some(soonest.map_or(due, |other: Instant| other.min(due)));
        }
        // A slot that waits for nothing and holds nothing back is forgotten: symbols come and go.
        self.0.retain(|_, slot| slot.latest.is_some() || slot.sent.is_some_and(|sent| now < sent + interval));
        soonest.map_or(Due::Nothing, Due::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::{PnlUpdated, PositionUpdated};

    const INTERVAL: Duration = Duration::from_millis(250);

    fn text(due: Due) -> String {
        match due {
            Due::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_latest_wins_and_four_a_second_go_out_per_symbol() {
        let (aapl, spy) = (Symbol::new("AAPL").unwrap(), Symbol::new("SPY").unwrap());
        let start = Instant::now();
        let mut board = TickBoard::default();
        assert_eq!(board.take(start, INTERVAL), Due::Nothing);
        for n in 0..3 {
            board.put(PositionUpdated, Some(&aapl), &format!("aapl {n}").into());
        }
        board.put(PositionUpdated, Some(&spy), &"spy".into());
        assert_eq!(text(board.take(start, INTERVAL)), "aapl 2");
        assert_eq!(text(board.take(start, INTERVAL)), "spy");
        assert_eq!(board.take(start, INTERVAL), Due::Nothing);

        let mut sent = 0;
        for ms in 0..1_000 {
            let now = start + Duration::from_millis(ms);
            board.put(PositionUpdated, Some(&aapl), &ms.to_string().into());
            match board.take(now, INTERVAL) {
                Due::Text(text) => {
                    sent += 1;
                    assert_eq!(text, ms.to_string(), "the value of that moment");
                }
                Due::At(at) => assert!(at > now && at <= now + INTERVAL),
                Due::Nothing => panic!("a tick waits"),
            }
        }
        assert_eq!(sent, 3, "and the one at the start makes four");
    }

    #[test]
    fn a_durable_event_drops_ticks_of_its_kind_only() {
        let mut board = TickBoard::default();
        let now = Instant::now();
        board.put(PositionUpdated, None, &"old".into());
        board.put(PnlUpdated, None, &"pnl".into());
        board.discard(PositionUpdated);
        assert_eq!(text(board.take(now, INTERVAL)), "pnl");
        assert_eq!(board.take(now, INTERVAL), Due::Nothing);
    }

    #[test]
    fn slots_without_use_are_forgotten() {
        let mut board = TickBoard::default();
        let now = Instant::now();
        board.put(PnlUpdated, None, &"x".into());
        board.take(now, INTERVAL);
        board.take(now, INTERVAL);
        assert_eq!(board.0.len(), 1, "it still holds the next tick back");
        board.take(now + INTERVAL, INTERVAL);
        assert!(board.0.is_empty());
    }
}
