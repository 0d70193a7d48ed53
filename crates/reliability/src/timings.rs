//! Every duration of this crate in one place, so that an operator sees them and a test can run on a faster clock.

use std::time::Duration;

use plimsoll_core_domain::order::OrderType;

use crate::retry::{BreakerSettings, BudgetSettings, Policy};

macro_rules! timings {
    ($($(#[$doc:meta])* $name:ident = $millis:expr),+ $(,)?) => {
        /// The durations. [`Timings::default`] gives the documented ones.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Timings { $($(#[$doc])* pub $name: Duration),+ }

        impl Default for Timings {
            fn default() -> Self {
                Self { $($name: Duration::from_millis($millis)),+ }
            }
        }

        impl Timings {
            /// All of them at another pace: 0.1 is ten times as fast. Not for production.
            ///
            /// # Panics
            /// When `factor` is negative or not finite.
            #[must_use]
            pub fn scaled(&self, factor: f64) -> Self {
                Self { $($name: self.$name.mul_f64(factor)),+ }
            }

            /// Name and value of each, in the order of their declaration: for showing the configuration.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, Duration)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

timings! {
    /// How long a claimed job belongs to its worker without renewal.
    job_lease = 30 * SECOND,
    /// How often the leases of running jobs are renewed.
    job_renew = 10 * SECOND,
    /// A worker whose last renewal is older does nothing more that others could see.
    job_trust = 20 * SECOND,
    /// A worker that vanishes with a job so long after the last one that did is no part of a crash loop.
    job_crash_memory = 15 * MINUTE,
    /// How long one run of a job may take, of a kind that has no limit of its own.
    job_limit = 10 * MINUTE,
    /// How often expired leases, and runs beyond their time, are looked for.
    job_reap = 5 * SECOND,
    /// How often the queue is looked at without being woken.
    job_poll = SECOND,
    /// Pause before a result is written again that the store did not take.
    job_settle_retry = SECOND / 4,
    /// How often finished jobs are cleared away.
    job_prune = MINUTE,
    /// Age at which a done job is cleared away.
    job_keep_done = 24 * HOUR,
    /// Age at which a dead letter is cleared away.
    job_keep_dead = 90 * DAY,
    /// First pause of questions to the broker.
    retry_broker_query_base = SECOND / 4,
    /// Longest pause of questions to the broker.
    retry_broker_query_cap = 30 * SECOND,
    /// First pause of mail.
    retry_mail_base = 5 * SECOND,
    /// Longest pause of mail.
    retry_mail_cap = HOUR,
    /// First pause of outgoing hooks.
    retry_webhook_base = 5 * SECOND,
    /// Longest pause of outgoing hooks.
    retry_webhook_cap = 10 * HOUR,
    /// First pause of internal work.
    retry_internal_base = SECOND,
    /// Longest pause of internal work.
    retry_internal_cap = 5 * MINUTE,
    /// Over how long the calls to a place outside are counted that decide whether it is given rest.
    breaker_window = 30 * SECOND,
    /// How long it is given rest at first; each failed try after it doubles that.
    breaker_open = 5 * SECOND,
    /// Its longest rest.
    breaker_open_longest = MINUTE,
    /// One more repeat of a call is allowed each such time, beside a tenth of the first tries.
    retry_budget_every = SECOND / 3,
    /// How long one call to the broker may take before its answer counts as lost.
    broker_call = 5 * SECOND,
    /// A market order that was not sent by then is not sent any more.
    submit_deadline_market = MINUTE,
    /// The same for every other type.
    submit_deadline_other = 5 * MINUTE,
    /// Before it has passed since sending, "not found" says nothing.
    submit_settle = 10 * SECOND,
    /// First look after an unclear answer; each further pause is twice as long.
    probe_first = SECOND,
    /// Until pauses reach this one.
    probe_early = 15 * SECOND,
    /// Pause between looks from then on.
    probe_late = 30 * SECOND,
    /// An order that was sent must have been missing for this long before it counts as not sent.
    not_sent_after = MINUTE,
    /// First look for an order that counts as not sent; each further pause is as long as it has been away.
    watch_first = MINUTE,
    /// Until pauses reach this one.
    watch_longest = 12 * HOUR,
    /// How long after it was last sent an order that counts as not sent is looked for.
    watch_keep = 7 * DAY,
    /// How long a cancel waits for an order whose fate is not known yet before it looks again.
    cancel_wait = SECOND,
    /// Pause before a cancel is asked for again that the broker did not answer clearly or at all.
    cancel_retry = 5 * SECOND,
    /// How long a reply stays under the idempotency key of an order.
    idempotency_keep_orders = 7 * DAY,
    /// The same for everything else.
    idempotency_keep_other = 24 * HOUR,
    /// What a twin of a running request is told to wait.
    idempotency_retry_after = SECOND,
    /// How long a singleton's lease lasts without renewal.
    lease_ttl = 15 * SECOND,
    /// How often it is renewed.
    lease_renew = 5 * SECOND,
    /// How long after the beginning of the last good renewal its holder still acts.
    lease_trust = 14 * SECOND,
    /// How often an instance looks which accounts it should have, without being woken.
    account_look = 2 * SECOND,
    /// How long opened broker credentials may be used again without another look into the vault.
    credential_keep = 2 * SECOND,
    /// After it, an account whose credentials could not be read is tried again.
    account_retry = MINUTE,
    /// How long an instance keeps the client of an account that another one has, after its last use.
    account_lent = MINUTE,
    /// How often an account with a limit of the daily loss is looked at, beside after its fills.
    loss_look = 5 * SECOND,
    /// First pause between steps of a halt that is carried out; closes that fail make it longer.
    halt_step = SECOND,
    /// How often a signal is looked at that waits for the broker or for other orders.
    signal_look = SECOND / 4,
    /// A signal that could not be acted on by then is not acted on any more.
    signal_act = MINUTE,
    /// How long the second order of a reversal waits for the first one's fill.
    signal_reversal = 5 * MINUTE,
    /// How often silent hooks are looked for.
    signal_silence = MINUTE,
    /// Age at which a signal leaves the decision log.
    signal_keep = 90 * DAY,
    /// How often an account is compared with its broker without any other reason; `RECONCILE_INTERVAL` sets it.
    reconcile_interval = 5 * MINUTE,
    /// A live order must have been missing at the broker for so long before it counts as gone.
    reconcile_missing = MINUTE,
    /// An order whose fate is unknown for so long makes its account be compared.
    reconcile_unknown = 30 * SECOND,
    /// An order that is under way, or unconfirmed, for longer is stale; `STALE_ORDER_AGE` sets it.
    stale_order_age = HOUR,
    /// How often accounts are swept for what is due: resets, notices.
    upkeep_sweep = MINUTE,
    /// How often old rows of accounts are deleted.
    upkeep_clean = HOUR,
    /// How often a checkpoint of the audit log is signed, and its old entries are deleted.
    upkeep_checkpoint = HOUR,
    /// Connecting to a user's webhook, the look at its name and TLS included.
    webhook_connect = 5 * SECOND,
    /// How long a user's webhook may take to answer.
    webhook_answer = 10 * SECOND,
    /// Pause of a message whose webhook is busy with others.
    webhook_busy = SECOND,
    /// A webhook to which nothing could be delivered for so long is disabled.
    webhook_disable_after = 3 * DAY,
    /// Age at which the log of a delivered message is cleared away.
    webhook_keep_delivered = 30 * DAY,
    /// Age at which the log of a message that was given up is cleared away.
    webhook_keep_failed = 90 * DAY,
    /// From the signal to the end of the process, at the latest.
    shutdown_total = 25 * SECOND,
    /// How long requests are still taken while balancers notice.
    shutdown_drain = 3 * SECOND,
    /// How long running requests may take.
    shutdown_requests = 10 * SECOND,
    /// How long background work may take.
    shutdown_background = 10 * SECOND,
    /// How long each callback may take.
    shutdown_callback = 2 * SECOND,
}

impl Timings {
    /// After this time an order of this type is not sent any more.
    #[must_use]
    pub const fn submit_deadline(&self, order_type: OrderType) -> Duration {
        match order_type {
            OrderType::Market => self.submit_deadline_market,
            _ => self.submit_deadline_other,
        }
    }

    /// The pause until the next look at an order that was sent `elapsed` ago: looks fall 1, 3, 7, 15 and 30 s after
    /// sending and then every 30 s (pauses of 1, 2, 4, 8, 15 and 30 s), whenever the looks before them really happened.
    #[must_use]
    pub fn probe_pause(&self, elapsed: Duration) -> Duration {
        let (mut pause, mut at) = (self.probe_first, self.probe_first);
        while at <= elapsed {
            pause = match pause {
                pause if pause >= self.probe_early => self.probe_late,
                pause => (pause * 2).min(self.probe_early),
            };
            // an odd setting must not stop the world
            at += pause.max(Duration::from_millis(1));
            if pause == self.probe_late && elapsed > at {
                let step = pause.as_nanos().max(1_000_000);
                let missing = (elapsed - at).as_nanos() / step;
                at += Duration::from_nanos(u64::try_from(missing * step).unwrap_or(u64::MAX));
            }
        }
        at - elapsed
    }

    /// Questions to the broker.
    #[must_use]
    pub const fn broker_query(&self) -> Policy {
        let usual = Policy::BROKER_QUERY;
        self.guarded(self.retry_broker_query_base, self.retry_broker_query_cap, usual.attempts)
    }

    /// Mail.
    #[must_use]
    pub const fn mail(&self) -> Policy {
        self.guarded(self.retry_mail_base, self.retry_mail_cap, Policy::MAIL.attempts)
    }

    /// Outgoing hooks.
    #[must_use]
    pub const fn webhook(&self) -> Policy {
        self.guarded(self.retry_webhook_base, self.retry_webhook_cap, Policy::WEBHOOK.attempts)
    }

    const fn guarded(&self, base: Duration, cap: Duration, attempts: u32) -> Policy {
        let breaker = BreakerSettings {
            window: self.breaker_window,
            open: self.breaker_open,
            open_longest: self.breaker_open_longest,
            ..BreakerSettings::USUAL
        };
        let budget = BudgetSettings { every: self.retry_budget_every, ..BudgetSettings::USUAL };
        Policy { breaker: Some(breaker), budget: Some(budget), ..Policy::new(base, cap, attempts) }
    }

    /// Work inside the platform.
    #[must_use]
    pub const fn internal(&self) -> Policy {
        Policy::new(self.retry_internal_base, self.retry_internal_cap, Policy::INTERNAL.attempts)
    }

    /// The rules between these durations that keep the guarantees, as sentences about those that are broken.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut rule = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        rule(self.job_lease >= self.job_renew * 3, "job_lease must be at least three times job_renew");
        rule(self.job_trust < self.job_lease, "job_trust must be shorter than job_lease");
        rule(self.job_trust > self.job_renew, "job_trust must be longer than job_renew");
        rule(self.lease_ttl >= self.lease_renew * 3, "lease_ttl must be at least three times lease_renew");
        rule(self.lease_trust < self.lease_ttl, "lease_trust must be shorter than lease_ttl");
        let longest = self.shutdown_drain + self.shutdown_requests.max(self.shutdown_background);
        rule(longest < self.shutdown_total, "the phases of the shutdown must fit into shutdown_total");
        rule(self.entries().iter().all(|(_, value)| !value.is_zero()), "no duration may be zero");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_their_constants_agree() {
        let timings = Timings::default();
        assert_eq!(timings.broker_query(), Policy::BROKER_QUERY);
        assert_eq!(timings.mail(), Policy::MAIL);
        assert_eq!(timings.webhook(), Policy::WEBHOOK);
        assert_eq!(timings.internal(), Policy::INTERNAL);
    }

    #[test]
    fn scaling_moves_every_duration() {
        let (full, tenth) = (Timings::default(), Timings::default().scaled(0.1));
        for ((name, full), (_, tenth)) in full.entries().into_iter().zip(tenth.entries()) {
            assert_eq!(tenth, full / 10, "{name}");
        }
        assert_eq!(full.entries()[0], ("job_lease", Duration::from_secs(30)));
    }

    #[test]
    fn the_defaults_keep_their_own_rules_at_any_scale() {
        assert_eq!(Timings::default().problems(), Vec::<String>::new());
        assert_eq!(Timings::default().scaled(0.02).problems(), Vec::<String>::new());
        let odd = Timings {
            job_renew: Duration::from_secs(25),
            shutdown_drain: Duration::ZERO,
            ..Timings::default()
        };
        assert_eq!(odd.problems().len(), 3, "{:?}", odd.problems());
    }

    #[test]
    fn looks_follow_the_documented_times() {
        let timings = Timings::default();
        let pause = |ms: u64| timings.probe_pause(Duration::from_millis(ms)).as_millis();
        for (elapsed, expected) in [
            (0, 1_000),
            (1_000, 2_000),
            (1_500, 1_500),
            (3_000, 4_000),
            (7_000, 8_000),
            (15_000, 15_000),
            (30_000, 30_000),
            (31_000, 29_000),
            (60_000, 30_000),
            (3_600_000, 30_000),
            (3_599_000, 1_000),
        ] {
            assert_eq!(pause(elapsed), expected, "{elapsed}");
        }
        assert!(
            Timings::default().scaled(0.0001).probe_pause(Duration::from_secs(9)) < Duration::from_millis(10)
        );
    }

    #[test]
    fn market_orders_go_stale_first() {
        let timings = Timings::default();
        assert_eq!(timings.submit_deadline(OrderType::Market), Duration::from_secs(60));
        assert_eq!(timings.submit_deadline(OrderType::StopLimit), Duration::from_secs(300));
    }
}
