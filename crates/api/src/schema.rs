//! The shapes of answers for the OpenAPI document. The answers themselves are written from the domain's views; a test
//! holds the two to the same fields.

use utoipa::ToSchema;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ }) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(missing_docs, reason = "the words are the HTTP contract's")]
        pub enum $name { $(#[schema(rename = $word)] $variant),+ }
    };
}

words!(
    /// Which way.
    SideWord { Buy = "buy", Sell = "sell" }
);
words!(
    /// What makes an order trade.
    OrderTypeWord { Market = "market", Limit = "limit", Stop = "stop", StopLimit = "stop_limit", TrailingStop = "trailing_stop" }
);
words!(
    /// How long an order stands.
    TimeInForceWord { Day = "day", Gtc = "gtc", Ioc = "ioc", Fok = "fok", Opg = "opg", Cls = "cls" }
);
words!(
    /// How orders belong together.
    OrderClassWord { Simple = "simple", Bracket = "bracket", Oco = "oco", Oto = "oto" }
);
words!(
    /// Where an order stands.
    OrderStatusWord {
        PendingSubmit = "pending_submit", Submitting = "submitting", Unknown = "unknown", Accepted = "accepted",
        New = "new", PartiallyFilled = "partially_filled", Filled = "filled", PendingCancel = "pending_cancel",
        Canceled = "canceled", PendingReplace = "pending_replace", Replaced = "replaced", Rejected = "rejected",
        Expired = "expired", DoneForDay = "done_for_day", Suspended = "suspended", NotSent = "not_sent", Held = "held",
        Conflict = "conflict"
    }
);
words!(
    /// How far a halt goes.
    HaltLevelWord { BlockEntries = "block_entries", ReduceOnly = "reduce_only", CancelOpen = "cancel_open", Flatten = "flatten" }
);
words!(
    /// What set a halt.
    HaltCauseWord { Manual = "manual", DailyLoss = "daily_loss" }
);
words!(
    /// Whose trading a halt is about.
    HaltScopeWord { User = "user", Global = "global" }
);
words!(
    /// How an act ended.
    AuditOutcomeWord { Success = "success", Failure = "failure", Denied = "denied" }
);

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "only its schema is used")]
        pub struct $name { $($(#[$attr])* $field: $type),+ }
        impl $name {
            /// The fields, in their order.
            #[cfg(test)]
            #[allow(dead_code, reason = "not every shape is compared with a view in a unit test")]
            pub(crate) const FIELDS: &'static [&'static str] = &[$(stringify!($field)),+];
        }
    };
}

words!(
    /// With whose money.
    EnvironmentWord { Paper = "paper", Live = "live" }
);
words!(
    /// The broker's word on a credential.
    CredentialStateWord { Unverified = "unverified", Valid = "valid", Invalid = "invalid" }
);

shape!(
    /// A credential for a broker. The keys themselves are never shown.
    BrokerCredential {
        broker: String,
        environment: EnvironmentWord,
        /// The last four characters of the key's id.
        key_last4: String,
        /// The same keys have the same one.
        fingerprint: String,
        state: CredentialStateWord,
        updated_at: chrono::DateTime<chrono::Utc>,
    }
);
shape!(
    /// Credentials.
    BrokerCredentialList { items: Vec<BrokerCredential>, next_cursor: Option<String> }
);
shape!(
    /// The broker takes the keys.
    CredentialTested {
        ok: bool,
        /// The account's status in the broker's words.
        account_status: String,
        environment: EnvironmentWord,
    }
);
shape!(
    /// Whether orders with real money are allowed.
    LiveTrading { enabled: bool }
);

shape!(
    /// Risk limits; null is no limit. Decimals are strings.
    RiskLimits {
        max_order_notional: Option<String>, max_position_notional: Option<String>, max_daily_loss: Option<String>,
        max_open_orders: Option<u32>, max_orders_per_minute: Option<u32>, allowed_symbols: Option<Vec<String>>,
        denied_symbols: Option<Vec<String>>, daily_loss_action: HaltLevelWord, updated_at: Option<String>
    }
);
shape!(
    /// A halt in force; `by` is the user who set it.
    Halt { level: HaltLevelWord, cause: HaltCauseWord, reason: String, by: Option<i64>, since: String }
);
shape!(
    /// What is halted: the level in force, and the halts of the caller, of the caller by the platform's operator, and of
    /// everybody. `pending_accounts`: to so many accounts a change was not brought yet.
    HaltState {
        level: Option<HaltLevelWord>,
        user: Option<Halt>,
        operator: Option<Halt>,
        global: Option<Halt>,
        pending_accounts: u64
    }
);

words!(
    /// How well a part, or the whole, does.
    HealthWord { Healthy = "healthy", Degraded = "degraded", Unhealthy = "unhealthy" }
);
shape!(
    /// What one check found; each has figures of its own beside these.
    HealthCheck { status: HealthWord, response_time_ms: u64, message: Option<String> }
);
shape!(
    /// The state of the whole. `checks` is empty for everybody but administrators.
    Health {
        status: HealthWord,
        timestamp: chrono::DateTime<chrono::Utc>,
        uptime_seconds: i64,
        total_checks: usize,
        healthy_checks: usize,
        checks: std::collections::BTreeMap<String, HealthCheck>,
    }
);

shape!(
    /// Where an order came from.
    Source { kind: String, id: Option<String> }
);
shape!(
    /// An order. Decimals are strings.
    Order {
        id: String,
        client_order_id: String,
        broker_order_id: Option<String>,
        symbol: String,
        side: SideWord,
        r#type: OrderTypeWord,
        time_in_force: TimeInForceWord,
        qty: Option<String>,
        notional: Option<String>,
        limit_price: Option<String>,
        stop_price: Option<String>,
        trail_price: Option<String>,
        trail_percent: Option<String>,
        extended_hours: bool,
        order_class: OrderClassWord,
        #[schema(no_recursion)]
        legs: Vec<Order>,
        filled_qty: String,
        avg_fill_price: Option<String>,
        status: OrderStatusWord,
        status_reason: Option<String>,
        source: Source,
        environment: String,
        replaces: Option<String>,
        replaced_by: Option<String>,
        created_at: chrono::DateTime<chrono::Utc>,
        submitted_at: Option<chrono::DateTime<chrono::Utc>>,
        updated_at: chrono::DateTime<chrono::Utc>,
        closed_at: Option<chrono::DateTime<chrono::Utc>>,
        version: i64,
    }
);
shape!(
    /// A fill. It covers the units of its order up to `cum_qty`.
    Fill {
        id: String,
        order_id: String,
        symbol: String,
        side: SideWord,
        qty: String,
        price: String,
        cum_qty: String,
        fee: String,
        source: String,
        executed_at: chrono::DateTime<chrono::Utc>,
    }
);
shape!(
    /// A change of an order's state.
    HistoryItem {
        at: chrono::DateTime<chrono::Utc>,
        from: Option<String>,
        to: String,
        cause: String,
        detail: Option<String>,
    }
);
/// An order with its fills and its history.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct OrderWithHistory {
    #[schema(inline)]
    #[serde(flatten)]
    order: Order,
    fills: Vec<Fill>,
    history: Vec<HistoryItem>,
}
shape!(
    /// A page of orders.
    OrderList { items: Vec<Order>, next_cursor: Option<String> }
);
shape!(
    /// A page of fills.
    FillList { items: Vec<Fill>, next_cursor: Option<String> }
);
shape!(
    /// What is held of one symbol; `qty` is negative when short.
    Position {
        symbol: String,
        qty: String,
        side: String,
        avg_entry_price: Option<String>,
        cost_basis: String,
        last_price: Option<String>,
        market_value: Option<String>,
        unrealized_pl: Option<String>,
        realized_pl: String,
        updated_at: chrono::DateTime<chrono::Utc>,
    }
);
shape!(
    /// All positions.
    PositionList { items: Vec<Position>, next_cursor: Option<String> }
);
shape!(
    /// Profit and loss of one symbol.
    SymbolPnl { symbol: String, realized_today: String, realized_total: String, unrealized: String }
);
shape!(
    /// Profit and loss.
    Pnl {
        realized_today: String,
        realized_total: String,
        unrealized: String,
        by_symbol: Vec<SymbolPnl>,
        as_of: chrono::DateTime<chrono::Utc>,
    }
);
shape!(
    /// The broker account.
    Account {
        cash: String,
        buying_power: String,
        equity: String,
        last_equity: String,
        currency: String,
        status: String,
        environment: String,
        as_of: chrono::DateTime<chrono::Utc>,
        stale: bool,
    }
);
shape!(
    /// Equity over time; the lists have one length.
    PortfolioHistory {
        timestamp: Vec<i64>,
        equity: Vec<String>,
        profit_loss: Vec<String>,
        base_value: String,
        timeframe: String,
    }
);
shape!(
    /// What became of one order's cancel.
    CancelResult { id: String, status: i32, problem: Option<ProblemDetails> }
);
shape!(
    /// What became of each order's cancel.
    CancelResults { items: Vec<CancelResult> }
);
shape!(
    /// A signed-in user.
    User { id: i64, email: String, display_name: Option<String>, role: String }
);
shape!(
    /// A new session. The token is shown once, and not at all when it travels in a cookie.
    SignedIn {
        #[schema(required = false)]
        token: Option<String>,
        #[schema(required = false)]
        token_type: Option<String>,
        expires_at: chrono::DateTime<chrono::Utc>,
        user: User,
    }
);
shape!(
    /// An opened step-up. A session that travels in a cookie has its new token there and not here.
    SteppedUp {
        step_up_until: chrono::DateTime<chrono::Utc>,
        expires_at: chrono::DateTime<chrono::Utc>,
        #[schema(required = false)]
        token: Option<String>,
        #[schema(required = false)]
        token_type: Option<String>,
    }
);
shape!(
    /// A finished login, or an opened step-up.
    TwoFactorVerified {
        expires_at: chrono::DateTime<chrono::Utc>,
        #[schema(required = false)]
        token: Option<String>,
        #[schema(required = false)]
        token_type: Option<String>,
        #[schema(required = false)]
        user: Option<User>,
        #[schema(required = false)]
        step_up_until: Option<chrono::DateTime<chrono::Utc>>,
    }
);
shape!(
    /// The second factor's new state, and the session's new token.
    TwoFactorSwitched {
        enabled: bool,
        expires_at: chrono::DateTime<chrono::Utc>,
        #[schema(required = false)]
        token: Option<String>,
        #[schema(required = false)]
        token_type: Option<String>,
    }
);
shape!(
    /// A secret to be confirmed. It is shown once.
    TwoFactorSetup {
        secret: String,
        otpauth_uri: String,
        qr_code: String,
        backup_codes: Vec<String>,
        expires_at: chrono::DateTime<chrono::Utc>,
    }
);
shape!(
    /// New backup codes. They are shown once.
    BackupCodes { backup_codes: Vec<String> }
);
shape!(
    /// The state of the second factor.
    TwoFactorStatus {
        enabled: bool,
        enabled_at: Option<chrono::DateTime<chrono::Utc>>,
        backup_codes_remaining: i64,
        last_used_at: Option<chrono::DateTime<chrono::Utc>>,
    }
);
words!(
    /// What an API token may do. None includes another.
    ScopeWord { Read = "read", TradePaper = "trade_paper", TradeLive = "trade_live", Admin = "admin" }
);
words!(
    /// What a user may do.
    RoleWord { User = "user", Admin = "admin" }
);
words!(
    /// Whether a user may sign in.
    StateWord { Active = "active", Disabled = "disabled" }
);
shape!(
    /// An API token, without the token itself.
    ApiToken {
        id: String,
        name: String,
        scopes: Vec<ScopeWord>,
        allowed_ips: Vec<String>,
        created_at: chrono::DateTime<chrono::Utc>,
        expires_at: chrono::DateTime<chrono::Utc>,
        last_used_at: Option<chrono::DateTime<chrono::Utc>>,
        last_used_ip: Option<String>,
    }
);
shape!(
    /// A new API token. `token` is shown this once.
    NewApiToken {
        token: String,
        id: String,
        name: String,
        scopes: Vec<ScopeWord>,
        allowed_ips: Vec<String>,
        created_at: chrono::DateTime<chrono::Utc>,
        expires_at: chrono::DateTime<chrono::Utc>,
        last_used_at: Option<chrono::DateTime<chrono::Utc>>,
        last_used_ip: Option<String>,
    }
);
shape!(
    /// API tokens.
    ApiTokenList { items: Vec<ApiToken>, next_cursor: Option<String> }
);
shape!(
    /// A user as administrators see one.
    AdminUser {
        id: i64,
        email: String,
        display_name: Option<String>,
        role: RoleWord,
        state: StateWord,
        email_verified_at: Option<chrono::DateTime<chrono::Utc>>,
        created_at: chrono::DateTime<chrono::Utc>,
        two_factor_enabled: bool,
        password_disabled: bool,
    }
);
shape!(
    /// Users.
    AdminUserList { items: Vec<AdminUser>, next_cursor: Option<String> }
);
shape!(
    /// A reset of a second factor that waits.
    TwoFactorReset { due_at: chrono::DateTime<chrono::Utc> }
);
shape!(
    /// A session under its new token, which is shown once, and not at all when it travels in a cookie.
    RotatedSession {
        #[schema(required = false)]
        token: Option<String>,
        #[schema(required = false)]
        token_type: Option<String>,
        expires_at: chrono::DateTime<chrono::Utc>,
    }
);
shape!(
    /// An entry of the audit log.
    AuditEntry {
        id: String,
        at: chrono::DateTime<chrono::Utc>,
        action: String,
        outcome: AuditOutcomeWord,
        actor_id: Option<i64>,
        subject_id: Option<i64>,
        ip: Option<String>,
        user_agent: Option<String>,
        request_id: Option<String>,
        #[schema(value_type = Object)]
        detail: serde_json::Value,
    }
);
shape!(
    /// A page of the audit log.
    AuditList { items: Vec<AuditEntry>, next_cursor: Option<String> }
);
shape!(
    /// The first entry of the audit log that does not verify.
    BadAuditEntry { user_id: Option<i64>, entry_id: String, reason: String }
);
shape!(
    /// What verifying the audit log found.
    AuditVerification {
        ok: bool,
        chains: i64,
        entries: i64,
        checkpoints: i64,
        newest_checkpoint: Option<String>,
        first_bad: Option<BadAuditEntry>,
    }
);
shape!(
    /// One refused field.
    FieldProblem { pointer: String, code: String, detail: String }
);
shape!(
    /// RFC 9457 problem details. Some problems have members of their own.
    ProblemDetails {
        r#type: String,
        title: String,
        status: i32,
        detail: String,
        code: String,
        request_id: Option<String>,
        #[schema(required = false)]
        errors: Option<Vec<FieldProblem>>,
    }
);
