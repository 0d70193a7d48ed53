//! What a signal says, whichever service's names it uses.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::fields::{Fields, Value};
use super::number::parse_number;
use super::reason::{Reason, Refusal};
use crate::money::{PRICE_SCALE, Price};
use crate::order::{OrderType, Side, TimeInForce};

/// The longest text of a field that is used.
const MAX_TEXT: usize = 200;

/// What the sender wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Units up.
    Buy,
    /// Units down.
    Sell,
    /// Whatever is held is closed.
    Exit,
    /// The hook's own open orders in the symbol are canceled; nothing is ordered.
    Cancel,
    /// More of what is held already, on whichever side; nothing where nothing is held.
    Add,
}

impl Action {
    /// The actions that a hook's rules name; to add is to buy or to sell.
    pub const RULED: [Self; 4] = [Self::Buy, Self::Sell, Self::Exit, Self::Cancel];

    /// The word in answers, rules and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
            Self::Exit => "exit",
            Self::Cancel => "cancel",
            Self::Add => "add",
        }
    }

    /// The action of an order on this side.
    #[must_use]
    pub const fn of_side(side: Side) -> Self {
        match side {
            Side::Buy => Self::Buy,
            Side::Sell => Self::Sell,
        }
    }
}

impl std::str::FromStr for Action {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::RULED.into_iter().find(|action| action.as_str() == text);
        known.ok_or("an action is buy, sell, exit or cancel")
    }
}

/// A position without its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Units are held.
    Long,
    /// Units are owed.
    Short,
    /// Nothing.
    Flat,
}

/// A position as the sender states it. It tells of the chart's simulated broker: a wish, not a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Which way.
    pub stance: Stance,
    /// How many units, not negative; zero when flat. `None`: not said.
    pub size: Option<Decimal>,
}

impl Stated {
    /// With a sign; `None` while the size is not said.
    #[must_use]
    pub fn signed(self) -> Option<Decimal> {
        match self.stance {
            Stance::Flat => Some(Decimal::ZERO),
            Stance::Long => self.size,
            Stance::Short => self.size.map(|size| -size),
        }
    }
}

/// Where an exit order of the entry's lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitAt {
    /// At this price.
    Price(Price),
    /// So many per cent from the signal's price, to the gaining or losing side.
    Percent(Decimal),
}

/// A signal, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's own id of it.
    pub id: Option<String>,
    /// As the sender writes it.
    pub ticker: String,
    /// As the sender writes it.
    pub exchange: Option<String>,
    /// What is to be done; with a position stated, how the sender got there.
    pub action: Option<Action>,
    /// Units of the order, greater than zero.
    pub quantity: Option<Decimal>,
    /// The position that the sender wants to stand at.
    pub position: Option<Stated>,
    /// The position that the sender stood at before.
    pub previous: Option<Stated>,
    /// The sender's price, for sizing and for exits in per cent.
    pub price: Option<Price>,
    /// What makes the order trade; never `trailing_stop`.
    pub order_type: OrderType,
    /// Of a limit or stop-limit order.
    pub limit_price: Option<Price>,
    /// Of a stop or stop-limit order.
    pub stop_price: Option<Price>,
    /// How long it stands, where that is said.
    pub time_in_force: Option<TimeInForce>,
    /// The exit with a gain.
    pub take_profit: Option<ExitAt>,
    /// The exit with a loss.
    pub stop_loss: Option<ExitAt>,
    /// When the bar began; never used for the signal's age.
    pub bar_time: Option<DateTime<Utc>>,
    /// When the sender sent it.
    pub sent_at: Option<DateTime<Utc>>,
    /// What the sender calls the order.
    pub order_name: Option<String>,
    /// What the sender says of it.
    pub comment: Option<String>,
}

fn invalid(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::InvalidField, format!("{field} {why}"))
}

/// The fields under their names.
struct Reader<'a>(&'a Fields);

impl Reader<'_> {
    fn text(&self, names: &[&str]) -> Result<Option<String>, Refusal> {
        let text = match self.0.one_of(names)? {
            None => return Ok(None),
            Some(Value::Text(text) | Value::Plain(text)) => text.trim(),
            Some(_) => return Err(invalid(names[0], "must be a text or a number")),
        };
        if text.len() > MAX_TEXT {
            return Err(invalid(names[0], format_args!("is longer than {MAX_TEXT} bytes")));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn number(&self, names: &[&str]) -> Result<Option<Decimal>, Refusal> {
        let Some(text) = self.text(names)? else { return Ok(None) };
        if matches!(text.as_str(), "null" | "na") {
            return Ok(None);
        }
        number(names[0], &text).map(Some)
    }

    /// A price; zero is how some services say that there is none.
    fn price(&self, names: &[&str]) -> Result<Option<Price>, Refusal> {
        let Some(value) = self.number(names)? else { return Ok(None) };
        price(names[0], value)
    }

    fn time(&self, names: &[&str]) -> Result<Option<DateTime<Utc>>, Refusal> {
        let Some(text) = self.text(names)? else { return Ok(None) };
        let bad = || invalid(names[0], "must be a time such as 2026-11-03T15:31:00Z, or UNIX seconds");
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let at = match text.len() {
                9 | 10 => text.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
                12 | 13 => text.parse().ok().and_then(DateTime::from_timestamp_millis),
                _ => None,
            };
            return at.map(Some).ok_or_else(bad);
        }
        let at = DateTime::parse_from_rfc3339(&text).map_err(|_| bad())?;
        Ok(Some(crate::clock::to_micros(at.with_timezone(&Utc))))
    }

    /// A position by its word, by a size with a sign, and by one without (`absolute`), which says nothing alone.
    fn position(
        &self,
        words: &[&str],
        signed: &[&str],
        absolute: &[&str],
    ) -> Result<Option<Stated>, Refusal> {
        let (word, signed_size, bare) = (self.text(words)?, self.number(signed)?, self.number(absolute)?);
        if let (Some(size), Some(bare)) = (signed_size, bare)
            && size.abs() != bare.abs()
        {
            let detail = format!("{} and {} say different things", signed[0], absolute[0]);
            return Err(Refusal::new(Reason::Contradiction, detail));
        }
        let size = signed_size.or(bare);
        let stance = match word.map(|word| word.to_lowercase()).as_deref() {
            None if signed_size.is_none() && bare.is_some_and(|bare| !bare.is_zero()) => {
                let detail = format!("{} says not which way: {} is missing", absolute[0], words[0]);
                return Err(Refusal::new(Reason::MissingField, detail));
            }
            None => {
                // A size alone has a sign.
                return Ok(size.map(|size| Stated {
                    stance: match size {
                        size if size.is_zero() => Stance::Flat,
                        size if size.is_sign_negative() => Stance::Short,
                        _ => Stance::Long,
                    },
                    size: Some(size.abs()),
                }));
            }
            Some("long" | "bullish") => Stance::Long,
            Some("short" | "bearish") => Stance::Short,
            Some("flat" | "neutral") => Stance::Flat,
            Some(_) => return Err(invalid(words[0], "must be long, short or flat")),
        };
        let signs_agree = size.is_none_or(|size| match stance {
            Stance::Long => !size.is_sign_negative() || size.is_zero(),
            Stance::Short => true,
            Stance::Flat => size.is_zero(),
        });
        if !signs_agree {
            let detail = format!("{} and the position's size say different things", words[0]);
            return Err(Refusal::new(Reason::Contradiction, detail));
        }
        if stance != Stance::Flat && size.is_some_and(|size| size.is_zero()) {
            return Err(Refusal::new(Reason::InvalidSize, "the position's size is zero, and it is not flat"));
        }
        Ok(Some(Stated { stance, size: size.map(|size| size.abs()) }))
    }

    /// The position before; a size without a word says nothing that could be used.
    fn previous(&self) -> Result<Option<Stated>, Refusal> {
        let words = ["previous", "prevmarketposition", "strategyprevmarketposition"];
        let absolute = ["prevmarketpositionsize", "strategyprevmarketpositionsize"];
        let known = self.text(&words)?.is_some() || self.number(&["previoussize"])?.is_some();
        if known { self.position(&words, &["previoussize"], &absolute) } else { Ok(None) }
    }

    /// `{"percent": 5}`, `{"price": 101.5}`, or the price alone.
    fn exit(&self, name: &'static str, prices: &[&str]) -> Result<Option<ExitAt>, Refusal> {
        let fields = match self.0.one_of(&[name])? {
            None => return Ok(None),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Ok(self.price(&[name])?.map(ExitAt::Price)),
        };
        let read = |key: &str| match fields.get(key) {
            None | Some(Value::Nothing) => Ok(None),
            Some(Value::Text(text) | Value::Plain(text)) => number(name, text).map(Some),
            Some(_) => Err(invalid(name, "holds what is no number")),
        };
        for (key, value) in fields {
            let known = key == "percent"
                || prices.contains(&key.as_str())
                || (key == "type"
                    && matches!(value, Value::Text(word) if matches!(word.as_str(), "stop" | "limit")));
            if !known {
                let detail = format!("{name} holds {key:?}: a percent or a price can be followed");
                return Err(Refusal::new(Reason::Unsupported, detail));
            }
        }
        let percent = read("percent")?;
        let mut at = None;
        for key in prices {
            at = at.or(read(key)?.map(|value| price(name, value)).transpose()?.flatten());
        }
        match (percent, at) {
            (Some(_), Some(_)) => {
                Err(Refusal::new(Reason::Contradiction, format!("{name} has a percent and a price")))
            }
            (Some(percent), None) if percent <= Decimal::ZERO || percent >= Decimal::ONE_HUNDRED => {
                Err(invalid(name, "must be more than 0 and less than 100 per cent"))
            }
            (Some(percent), None) => Ok(Some(ExitAt::Percent(percent))),
            (None, at) => Ok(at.map(ExitAt::Price)),
        }
    }
}

fn number(field: &str, text: &str) -> Result<Decimal, Refusal> {
    parse_number(text).map_err(|error| Refusal::new(Reason::InvalidNumber, format!("{field}: {error}")))
}

fn price(field: &str, value: Decimal) -> Result<Option<Price>, Refusal> {
    if value.is_zero() {
        return Ok(None);
    }
    // A computed price may have more digits than any price that is kept.
    let rounded = value.round_dp(PRICE_SCALE);
    let price = Price::new(rounded);
    price.map(Some).map_err(|error| Refusal::new(Reason::InvalidNumber, format!("{field}: {error}")))
}

impl Message {
    /// Reads the fields of a signal: `TradingView`'s placeholders, and the common names of `OpenAlgo` and `TradersPost`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(fields: &Fields) -> Result<Self, Refusal> {
        if fields.has_placeholder() {
            return Err(Refusal::new(
                Reason::UnfilledPlaceholder,
                "a placeholder in {{ }} was not filled in",
            ));
        }
        let of = Reader(fields);
        let ticker = of
            .text(&["ticker", "symbol"])?
            .ok_or_else(|| Refusal::new(Reason::MissingField, "ticker (or symbol) is missing"))?;
        let (action, wish) = action(of.text(&["action", "strategyorderaction", "side"])?.as_deref())?;
        let position = of.position(
            &["position", "marketposition", "sentiment", "strategymarketposition"],
            &["positionsize", "strategypositionsize"],
            &["marketpositionsize", "strategymarketpositionsize"],
        )?;
        let position = match (action, wish, position) {
            (Some(Action::Exit), _, None) => Some(Stated { stance: Stance::Flat, size: Some(Decimal::ZERO) }),
            (Some(Action::Exit), _, Some(stated)) if stated.stance != Stance::Flat => {
                let detail = "the action closes, and the position is not flat";
                return Err(Refusal::new(Reason::Contradiction, detail));
            }
            // They say what to do with open orders, or with what is held: not where to stand.
            (Some(Action::Cancel | Action::Add), _, _) => None,
            (_, Some(wish), Some(stated)) if stated.stance != wish => {
                let detail = "action and position say different things";
                return Err(Refusal::new(Reason::Contradiction, detail));
            }
            (_, Some(wish), None) => Some(Stated { stance: wish, size: None }),
            (_, _, stated) => stated,
        };
        if action.is_none() && position.is_none() {
            return Err(Refusal::new(Reason::MissingField, "action is missing"));
        }
        let quantity = of.number(&["quantity", "qty", "contracts", "strategyordercontracts"])?;
        let quantity = match quantity {
            Some(quantity) if quantity.is_sign_negative() && !quantity.is_zero() => {
                return Err(Refusal::new(Reason::InvalidSize, "quantity is negative"));
            }
            // Beside a target some services send a quantity of nothing.
            Some(quantity)
                if quantity.is_zero() && (position.is_some() || action == Some(Action::Cancel)) =>
            {
                None
            }
            Some(quantity) if quantity.is_zero() => {
                return Err(Refusal::new(Reason::InvalidSize, "quantity is zero"));
            }
            other => other,
        };
        let mut price = None;
        for name in ["price", "signalprice", "strategyorderprice", "close"] {
            price = price.or(of.price(&[name])?);
        }
        let order_type = order_type(of.text(&["ordertype", "pricetype"])?.as_deref())?;
        let limit_price = of.price(&["limitprice"])?.or(price);
        let stop_price = of.price(&["stopprice", "triggerprice"])?;
        let (limits, stops) = (
            matches!(order_type, OrderType::Limit | OrderType::StopLimit),
            matches!(order_type, OrderType::Stop | OrderType::StopLimit),
        );
        let time_in_force = of.text(&["timeinforce", "tif"])?.map(|word| word.to_lowercase().parse());
        let time_in_force = time_in_force.transpose().map_err(|error| invalid("time_in_force", error))?;
        Ok(Self {
            id: of.text(&["id", "signalid"])?,
            ticker,
            exchange: of.text(&["exchange"])?,
            action,
            quantity,
            position,
            previous: of.previous()?,
            price,
            order_type,
            limit_price: limit_price.filter(|_| limits),
            stop_price: stop_price.filter(|_| stops),
            time_in_force,
            take_profit: of.exit("takeprofit", &["price", "limitprice"])?,
            stop_loss: of.exit("stoploss", &["price", "stopprice"])?,
            bar_time: of.time(&["bartime", "time"])?,
            sent_at: of.time(&["sentat", "timenow", "timestamp"])?,
            order_name: of.text(&["orderid", "strategyorderid"])?,
            comment: of.text(&["comment", "strategyordercomment"])?,
        })
    }

    /// What the decision log calls its action.
    #[must_use]
    pub fn action_word(&self) -> &'static str {
        match (self.action, self.position.map(|stated| stated.stance)) {
            (Some(action), _) => action.as_str(),
            (None, Some(Stance::Long)) => "buy",
            (None, Some(Stance::Short)) => "sell",
            (None, _) => "exit",
        }
    }

    /// What it is known again by when the sender gives it no id: everything that two signals of one second differ in.
    /// `None` when it names no time: then only the same bytes are the same signal.
    #[must_use]
    pub fn content_key(&self) -> Option<String> {
        if self.bar_time.is_none() && self.sent_at.is_none() {
            return None;
        }
        let part = |text: &dyn std::fmt::Debug| format!("{text:?}\n");
        Some(
            [
                part(&self.ticker.to_uppercase()),
                part(&self.order_name),
                part(&self.comment),
                part(&self.action_word()),
                part(&self.quantity.map(|quantity| quantity.normalize())),
                part(&self.position),
                part(&self.bar_time),
                part(&self.sent_at),
            ]
            .concat(),
        )
    }
}

/// An action, and the position that the word names by itself.
fn action(word: Option<&str>) -> Result<(Option<Action>, Option<Stance>), Refusal> {
    let Some(word) = word else { return Ok((None, None)) };
    Ok(match word.to_lowercase().as_str() {
        "buy" => (Some(Action::Buy), None),
        "sell" => (Some(Action::Sell), None),
        "long" => (Some(Action::Buy), Some(Stance::Long)),
        "short" => (Some(Action::Sell), Some(Stance::Short)),
        "exit" | "close" | "flat" | "flatten" => (Some(Action::Exit), None),
        "cancel" => (Some(Action::Cancel), None),
        "add" => (Some(Action::Add), None),
        _ => {
            let shown: String = word.chars().take(40).collect();
            let detail =
                format!("{shown:?} is none of buy, sell, long, short, exit, close, flat, add, cancel");
            return Err(Refusal::new(Reason::UnknownAction, detail));
        }
    })
}

fn order_type(word: Option<&str>) -> Result<OrderType, Refusal> {
    Ok(match word.map(str::to_lowercase).as_deref() {
        None | Some("market") => OrderType::Market,
        Some("limit") => OrderType::Limit,
        Some("stop" | "sl-m") => OrderType::Stop,
        Some("stop_limit" | "stoplimit" | "sl") => OrderType::StopLimit,
        Some(_) => {
            return Err(Refusal::new(
                Reason::Unsupported,
                "the order type is none of market, limit, stop, stop_limit",
            ));
        }
    })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
