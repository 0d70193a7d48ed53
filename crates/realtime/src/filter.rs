//! Which kinds of events a client wants.

use plimsoll_core_domain::stream::EventKind;

/// A set of event kinds. At first it holds everything; the first list given to [`subscribe`](Self::subscribe) replaces
/// that, later ones add to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// One bit per kind, by its place in `EventKind`.
    kinds: u32,
    chosen: bool,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self { kinds: ALL, chosen: false }
    }
}

const ALL: u32 = (1 << EventKind::ALL.len()) - 1;

fn bits(kinds: &[EventKind]) -> u32 {
    kinds.iter().fold(0, |set, kind| set | 1 << *kind as u32)
}

impl EventFilter {
    /// Whether events of that kind are wanted.
    #[must_use]
    pub fn contains(&self, kind: EventKind) -> bool {
        self.kinds & bits(&[kind]) != 0
    }

    /// Asks for these kinds; `None` for everything.
    pub fn subscribe(&mut self, kinds: Option<&[EventKind]>) {
        match kinds {
            None => *self = Self::default(),
            Some(kinds) if self.chosen => self.kinds |= bits(kinds),
            Some(kinds) => *self = Self { kinds: bits(kinds), chosen: true },
        }
    }

    /// Asks for these kinds no longer; `None` for none at all.
    pub fn unsubscribe(&mut self, kinds: Option<&[EventKind]>) {
        let gone = kinds.map_or(ALL, bits);
        *self = Self { kinds: self.kinds & !gone, chosen: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::*;

    fn wanted(filter: EventFilter) -> Vec<EventKind> {
        EventKind::ALL.into_iter().filter(|kind| filter.contains(*kind)).collect()
    }

    #[test]
    fn everything_until_a_list_is_given_then_lists_add_up() {
        let mut filter = EventFilter::default();
        assert_eq!(wanted(filter), EventKind::ALL);
        filter.subscribe(Some(&[OrderFilled]));
        assert_eq!(wanted(filter), [OrderFilled]);
        filter.subscribe(Some(&[ReconciliationFinished, OrderFilled]));
        assert_eq!(wanted(filter), [OrderFilled, ReconciliationFinished]);
        filter.unsubscribe(Some(&[OrderFilled]));
        assert_eq!(wanted(filter), [ReconciliationFinished]);
        filter.subscribe(None);
        assert_eq!(wanted(filter), EventKind::ALL);
    }

    #[test]
    fn unsubscribing_narrows_the_default_and_may_empty_it() {
        let mut filter = EventFilter::default();
        filter.unsubscribe(Some(&[PnlUpdated]));
        assert_eq!(wanted(filter).len(), EventKind::ALL.len() - 1);
        filter.unsubscribe(None);
        assert!(wanted(filter).is_empty());
        filter.subscribe(Some(&[PnlUpdated]));
        assert_eq!(wanted(filter), [PnlUpdated]);
    }
}
