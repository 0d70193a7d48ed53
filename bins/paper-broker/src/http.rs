//! From HTTP to the exchange and back: authentication, rate limit, fault rules, request log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::BodyStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use plimsoll_core_domain::Clock;
use plimsoll_paper_exchange::AccountId;
use tokio::sync::Mutex;

use crate::alpaca::{self, Endpoint, Lost};
use crate::engine::{Engine, EngineError};
use crate::faults::{Facts, FaultBook, Plan, RequestFault};
use crate::keys::{KeyFile, Keys};
use crate::rate_limit::{Allowance, RateLimit};
use crate::request_log::{Logged, RequestLog};
use crate::stream::{self, Hub};
use crate::wire::{Answer, Call, Content, Params, Subject};

/// Longest body.
pub(crate) const MAX_BODY: usize = 256 * 1024;

/// What every worker shares.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) keys: Arc<Keys>,
    pub(crate) key_file: Mutex<KeyFile>,
    pub(crate) faults: Arc<FaultBook>,
    pub(crate) log: RequestLog,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) requests: AtomicU64,
    /// Distinguishes request ids of different runs.
    pub(crate) run: u64,
}

/// What becomes of a request.
enum Fate {
    Answer(Answer),
    /// The connection is closed without a word.
    Closed,
}

/// A request on its way, with what the log will say of it.
struct Exchange<'r> {
    shared: &'r Shared,
    started: Instant,
    entry: Logged,
    allowance: Option<Allowance>,
}

/// Any route of the Trading API.
pub(crate) async fn trading(
    shared: web::Data<Shared>,
    request: HttpRequest,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    let mut exchange = Exchange::new(&shared, &request);
    let fate = match body {
        Ok(body) => exchange.run(&request, body).await,
        Err(_) => Fate::Answer(Answer::error(413, 40_010_000, "request body is too large")),
    };
    exchange.finish(fate)
}

/// The stream's handshake.
pub(crate) async fn stream(
    shared: web::Data<Shared>,
    request: HttpRequest,
    body: web::Payload,
) -> HttpResponse {
    let mut exchange = Exchange::new(&shared, &request);
    let codec = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if codec.contains("msgpack") {
        return exchange.finish(Fate::Answer(Answer::error(
            415,
            40_010_000,
            "this server speaks JSON, not MessagePack",
        )));
    }
    let facts = Facts { method: "GET", path: "/stream", ..Facts::default() };
    let plan = shared.faults.plan(&facts, false);
    exchange.entry.faults.clone_from(&plan.rules);
    pause(plan.delay).await;
    let refused = match plan.fault {
        None | Some(RequestFault::Lookup404) => None,
        Some(RequestFault::Drop | RequestFault::AcceptThenDrop) => Some(Fate::Closed),
        Some(RequestFault::StatusBefore(status) | RequestFault::StatusAfter(status)) => {
            Some(Fate::Answer(Answer::gateway(status)))
        }
        Some(RequestFault::RateLimit(_)) => Some(Fate::Answer(Answer::gateway(429))),
        Some(RequestFault::Garbage) => Some(Fate::Answer(garbage())),
    };
    if let Some(fate) = refused {
        return exchange.finish(fate);
    }
    match stream::serve(&request, body, Arc::clone(&shared.hub), Arc::clone(&shared.keys)) {
        Ok(response) => {
            exchange.log(Some(101));
            response
        }
        Err(_) => exchange.finish(Fate::Answer(Answer::error(
            400,
            40_010_000,
            "a WebSocket handshake is expected here",
        ))),
    }
}

/// Everything else.
pub(crate) async fn nowhere() -> HttpResponse {
    plain(&Answer::error(404, 40_410_000, "endpoint not found"))
}

impl<'r> Exchange<'r> {
    fn new(shared: &'r Shared, request: &HttpRequest) -> Self {
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        let entry = Logged {
            seq: 0,
            at: shared.clock.now(),
            method: request.method().as_str().to_owned(),
            path: request.path().to_owned(),
            query: request.query_string().to_owned(),
            account: None,
            client_order_id: None,
            client_order_ids: Vec::new(),
            symbol: None,
            status: None,
            duration_ms: 0,
            request_id: format!("{:016x}{number:016x}", shared.run),
            faults: Vec::new(),
        };
        Self { shared, started: Instant::now(), entry, allowance: None }
    }

    async fn run(&mut self, request: &HttpRequest, body: Bytes) -> Fate {
        let Some(account) = authenticate(&self.shared.keys, request) else {
            return Fate::Answer(Answer::error(401, 40_110_000, "request is not authorized"));
        };
        self.entry.account = Some(account);
        let params = match Params::parse(request.query_string()) {
            Ok(params) => params,
            Err(refusal) => return Fate::Answer(refusal.into()),
        };
        let path = request.path();
        let of_data = || path.strip_prefix('/').filter(|rest| rest.starts_with("v1beta3/"));
        let rest = path.strip_prefix("/v2/").or_else(of_data).unwrap_or_default();
        let found = Endpoint::find(request.method().as_str(), rest);
        // Alpaca's market data are another service with limits of its own.
        let of_trading = !matches!(found, Ok(Endpoint::LatestTrades));
        let mut subject = Subject::of(&params, &body);
        self.entry.client_order_ids.clone_from(&subject.client_order_ids);
        self.entry.client_order_id = subject.client_order_ids.first().cloned();
        self.entry.symbol.clone_from(&subject.symbol);
        if let Some(limit) = self.shared.rate_limit.as_ref().filter(|_| of_trading) {
            let allowance = limit.count(account, self.entry.at);
            self.allowance = Some(allowance);
            if allowance.exceeded {
                return Fate::Answer(Answer::error(429, 42_910_000, "rate limit exceeded"));
            }
        }
        let plan = self.plan(account, found.as_ref().ok(), &mut subject).await;
        pause(plan.delay).await;
        match plan.fault {
            Some(RequestFault::Drop) => return Fate::Closed,
            Some(RequestFault::StatusBefore(status)) => return Fate::Answer(Answer::gateway(status)),
            Some(RequestFault::Lookup404) => return Fate::Answer(Answer::gateway(404)),
            Some(RequestFault::RateLimit(reset)) => return self.limited(reset),
            _ => {}
        }
        let accounts = self.names(account);
        let facts =
            Facts { method: request.method().as_str(), path, accounts: &accounts, ..Facts::default() };
        let call = Call { account, params, body, hidden: self.shared.faults.hidden(&facts) };
        let answer = match found {
            Ok(endpoint) => self.serve(endpoint, call).await,
            Err(lost) => lost_answer(lost),
        };
        pause(plan.delay_after).await;
        match plan.fault {
            Some(RequestFault::AcceptThenDrop) => Fate::Closed,
            Some(RequestFault::StatusAfter(status)) => Fate::Answer(Answer::gateway(status)),
            Some(RequestFault::Garbage) => Fate::Answer(garbage()),
            _ => Fate::Answer(answer),
        }
    }

    async fn serve(&self, endpoint: Endpoint, call: Call) -> Answer {
        let served = self.shared.engine.call(move |world| alpaca::serve(world, &endpoint, &call)).await;
        served.unwrap_or_else(|error| match error {
            EngineError::NotRun => Answer::error(503, 50_310_000, "service unavailable"),
            EngineError::Unknown => Answer::internal_error(),
        })
    }

    /// Asks the fault rules, and before that, where they want to know, the exchange about an order named by id.
    async fn plan(&mut self, account: AccountId, endpoint: Option<&Endpoint>, subject: &mut Subject) -> Plan {
        let faults = &self.shared.faults;
        if !faults.any() {
            return Plan::default();
        }
        if let Some(symbol) = endpoint.and_then(Endpoint::symbol) {
            subject.symbol = Some(symbol.to_owned());
        }
        if let Some(id) = endpoint.and_then(Endpoint::order_id)
            && faults.asks_for_orders()
            && let Ok(Ok(order)) =
                self.shared.engine.call(move |world| world.exchange.order(account, id, false)).await
        {
            subject.symbol = Some(order.symbol);
            subject.client_order_ids.push(order.client_order_id);
        }
        let accounts = self.names(account);
        let facts = Facts {
            method: &self.entry.method,
            path: &self.entry.path,
            symbol: subject.symbol.as_deref(),
            client_order_ids: subject.client_order_ids.iter().map(String::as_str).collect(),
            accounts: &accounts,
            event: None,
        };
        let plan = faults.plan(&facts, endpoint.is_some_and(Endpoint::is_lookup));
        self.entry.faults.clone_from(&plan.rules);
        plan
    }

    fn names(&self, account: AccountId) -> Vec<String> {
        if self.shared.faults.any() { self.shared.keys.names_of(account) } else { Vec::new() }
    }

    /// 429 as a fault: the window that it tells of is the rule's.
    fn limited(&mut self, reset: Duration) -> Fate {
        let limit = self.allowance.map_or(200, |allowance| allowance.limit);
        let reset = self.entry.at.timestamp() + i64::try_from(reset.as_secs().max(1)).unwrap_or(60);
        self.allowance = Some(Allowance { limit, remaining: 0, reset, exceeded: true });
        Fate::Answer(Answer::gateway(429))
    }

    fn finish(mut self, fate: Fate) -> HttpResponse {
        match fate {
            Fate::Closed => {
                self.log(None);
                closed()
            }
            Fate::Answer(answer) => {
                self.log(Some(answer.status));
                let mut response = plain(&answer);
                let headers = response.headers_mut();
                let mut set = |name: &'static str, value: String| {
                    let value = value.parse().expect("hexadecimal and decimal digits are visible ASCII");
                    headers.insert(actix_web::http::header::HeaderName::from_static(name), value);
                };
                set("x-request-id", std::mem::take(&mut self.entry.request_id));
                if let Some(allowance) = self.allowance {
                    set("x-ratelimit-limit", allowance.limit.to_string());
                    set("x-ratelimit-remaining", allowance.remaining.to_string());
                    set("x-ratelimit-reset", allowance.reset.to_string());
                }
                response
            }
        }
    }

    fn log(&mut self, status: Option<u16>) {
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.log.push(Logged { status, duration_ms, ..self.entry.clone() });
    }
}

/// The account of a request's key pair. Both forms of credentials together are refused, and so are OAuth tokens, of which
/// there are none here.
fn authenticate(keys: &Keys, request: &HttpRequest) -> Option<AccountId> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if request.headers().contains_key("authorization") {
        return None;
    }
    keys.authenticate(header("apca-api-key-id")?, header("apca-api-secret-key")?)
}

fn lost_answer(lost: Lost) -> Answer {
    match lost {
        Lost::Path => Answer::error(404, 40_410_000, "endpoint not found"),
        Lost::Method => Answer::error(405, 40_510_000, "method not allowed"),
        Lost::OrderId => Answer::error(404, 40_410_000, "order not found"),
        Lost::WatchlistId => Answer::error(404, 40_410_000, "watchlist not found"),
    }
}

/// 200, and no JSON.
fn garbage() -> Answer {
    Answer { status: 200, content: Content::Json(Bytes::from_static(b"{\"id\":\"7b08df51-c1ac-45")) }
}

/// A response whose body fails before its head is sent: the peer sees the connection end.
fn closed() -> HttpResponse {
    let failing = futures_util::stream::once(async {
        Err::<Bytes, _>(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "closed by a fault rule"))
    });
    HttpResponse::Ok().insert_header((CONNECTION, "close")).body(BodyStream::new(failing))
}

/// An answer without the Trading API's headers.
pub(crate) fn plain(answer: &Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    match &answer.content {
        Content::Empty => response.finish(),
        Content::Json(text) => response.content_type("application/json").body(text.clone()),
        Content::Html(text) => response.content_type("text/html").body(*text),
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
