//! What a hook allows.

use chrono::{DateTime, TimeDelta, Utc};

use super::message::{Action, Message};
use super::reason::{Reason, Refusal};
use super::sizing::Sizing;
use super::ticker::{SymbolMap, symbol_of};
use crate::ids::Symbol;

/// So far ahead of ours a sender's clock may be.
pub const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(10);

/// The rules of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRules {
    /// What the sender calls symbols that are not told from its tickers.
    pub symbol_map: SymbolMap,
    /// Symbols that are traded; `None`: any.
    pub symbols: Option<Vec<Symbol>>,
    /// Actions that are taken; `None`: any.
    pub actions: Option<Vec<Action>>,
    /// How large orders are.
    pub sizing: Sizing,
    /// How old a signal may be; `None`: of any age.
    pub max_age: Option<TimeDelta>,
}

impl HookRules {
    /// The symbol that a message is about: by the hook's map, else as the ticker reads.
    ///
    /// # Errors
    /// [`Reason::UnknownSymbol`].
    pub fn symbol_of(&self, message: &Message) -> Result<Symbol, Refusal> {
        let (ticker, exchange) = (message.ticker.as_str(), message.exchange.as_deref());
        match self.symbol_map.get(ticker, exchange) {
            Some(symbol) => Ok(symbol.clone()),
            None => symbol_of(ticker, exchange),
        }
    }

    /// Whether a signal is of now, as far as it says when it was sent.
    ///
    /// # Errors
    /// [`Reason::Stale`], [`Reason::FromTheFuture`].
    pub fn check_age(&self, sent_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), Refusal> {
        let Some(sent_at) = sent_at else { return Ok(()) };
        let age = now.signed_duration_since(sent_at);
        if age < -CLOCK_SKEW {
            let detail = format!("it says that it was sent {} s from now", -age.num_seconds());
            return Err(Refusal::new(Reason::FromTheFuture, detail));
        }
        match self.max_age {
            Some(limit) if age > limit => {
                let detail =
                    format!("it is {} s old, the hook takes {} s", age.num_seconds(), limit.num_seconds());
                Err(Refusal::new(Reason::Stale, detail))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Reason::SymbolNotAllowed`].
    pub fn check_symbol(&self, symbol: &Symbol) -> Result<(), Refusal> {
        match &self.symbols {
            Some(symbols) if !symbols.contains(symbol) => Err(Refusal::new(
                Reason::SymbolNotAllowed,
                format!("{symbol} is not among the hook's symbols"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether any of these actions is taken: what closes a position is an exit and also an order on its side.
    ///
    /// # Errors
    /// [`Reason::ActionNotAllowed`].
    pub fn check_action(&self, any_of: &[Action]) -> Result<(), Refusal> {
        match &self.actions {
            Some(actions) if !any_of.iter().any(|action| actions.contains(action)) => {
                let name = any_of.first().map_or("nothing", |action| action.as_str());
                Err(Refusal::new(Reason::ActionNotAllowed, format!("{name} is not among the hook's actions")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> HookRules {
        HookRules {
            symbol_map: SymbolMap::default(),
            symbols: Some(vec!["SPY".parse().unwrap()]),
            actions: Some(vec![Action::Buy, Action::Exit]),
            sizing: Sizing::FromSignal,
            max_age: Some(TimeDelta::seconds(60)),
        }
    }

    #[test]
    fn age_is_counted_from_the_senders_clock_with_some_skew() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let at = |seconds: i64| Some(now + TimeDelta::seconds(seconds));
        let reason = |at| rules().check_age(at, now).map_err(|refusal| refusal.reason);
        assert_eq!(reason(None), Ok(()));
        for good in [-60, 0, 10] {
            assert_eq!(reason(at(good)), Ok(()), "{good}");
        }
        assert_eq!(reason(at(-61)), Err(Reason::Stale));
        assert_eq!(reason(at(11)), Err(Reason::FromTheFuture));
        let lax = HookRules { max_age: None, ..rules() };
        assert!(lax.check_age(at(-1_000_000), now).is_ok());
        assert!(lax.check_age(at(1_000_000), now).is_err(), "the future is never taken");
    }

    #[test]
    fn lists_allow_what_they_name() {
        assert!(rules().check_symbol(&"SPY".parse().unwrap()).is_ok());
        assert!(rules().check_symbol(&"AAPL".parse().unwrap()).is_err());
        assert!(rules().check_action(&[Action::Exit, Action::Sell]).is_ok());
        assert!(rules().check_action(&[Action::Sell]).is_err());
        let any = HookRules { symbols: None, actions: None, ..rules() };
        assert!(any.check_symbol(&"AAPL".parse().unwrap()).is_ok());
        assert!(any.check_action(&[Action::Sell]).is_ok());
    }
}
