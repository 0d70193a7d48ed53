#![doc = include_str!("../README.md")]

pub mod backups;
pub mod body;
pub mod caller;
pub mod chosen;
mod csrf;
mod follow;
mod gate;
pub mod gateway;
pub mod hashing;
pub mod idempotent;
pub mod identity;
pub mod logins;
mod measured;
pub mod page;
pub mod problem;
pub mod proxies;
pub mod refusals;
pub mod reply;
pub mod request_id;
pub mod routes;
pub mod schema;
pub mod signals;
pub mod sockets;
pub mod state;
mod strict;
pub mod waiters;
pub mod ws;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, web};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder};
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::body::MAX_BODY;
use crate::problem::Problem;
use crate::routes::openapi::OpenApiText;
use crate::state::AppState;

fn documented(config: &mut ServiceConfig<'_>) {
    use crate::routes::{
        account, admin, audit, auth, backup, broker, dev, events, fills, health, hooks, inbound, orders,
        outbound, pages, pnl, portfolio_history, positions, problems, reconciliation, risk, ws_ticket,
    };
    config
        .service(auth::login::login)
        .service(auth::logout::logout)
        .service(auth::me::me)
        .service(auth::request_reset::request_reset)
        .service(auth::validate_reset_token::validate)
        .service(auth::validate_reset_token::validate_posted)
        .service(auth::reset_password::reset_password)
        .service(auth::change_password::change_password)
        .service(auth::change_email::change_email)
        .service(auth::confirm_email::confirm_email)
        .service(auth::cancel::cancel)
        .service(auth::sessions::list::list)
        .service(auth::sessions::revoke::revoke)
        .service(auth::sessions::revoke_others::revoke_others)
        .service(auth::register::register)
        .service(auth::resend_verification::resend_verification)
        .service(auth::setup::setup)
        .service(auth::verification_status::verification_status)
        .service(auth::verify_email::verify_email)
        .service(auth::step_up::step_up)
        .service(auth::two_factor::verify::verify)
        .service(auth::two_factor::setup::setup)
        .service(auth::two_factor::enable::enable)
        .service(auth::two_factor::disable::disable)
        .service(auth::two_factor::regenerate_codes::regenerate_codes)
        .service(auth::two_factor::status::status)
        .service(auth::api_tokens::create)
        .service(auth::api_tokens::list)
        .service(auth::api_tokens::revoke)
        .service(admin::users::list::list)
        .service(admin::users::get::get)
        .service(admin::users::patch::patch)
        .service(admin::users::logout_everybody::logout_everybody)
        .service(admin::users::logout::logout)
        .service(admin::users::reset_2fa::reset_2fa)
        .service(orders::place::place)
        .service(orders::list::list)
        .service(orders::cancel_all::cancel_all)
        .service(orders::get::get)
        .service(orders::replace::replace)
        .service(orders::cancel::cancel)
        .service(orders::claim::claim)
        .service(fills::fills)
        .service(positions::list::list)
        .service(positions::get::get)
        .service(positions::close::close)
        .service(positions::claim::claim)
        .service(reconciliation::run::run)
        .service(reconciliation::status::status)
        .service(reconciliation::stale_orders::list)
        .service(reconciliation::runs::list)
        .service(reconciliation::run_get::get)
        .service(reconciliation::resolve::resolve)
        .service(account::account)
        .service(risk::limits_get::get)
        .service(risk::limits_put::put)
        .service(risk::halt_get::get)
        .service(risk::halt_post::post)
        .service(risk::resume::resume)
        .service(broker::live::put)
        .service(broker::credentials_put::put)
        .service(broker::credentials_list::list)
        .service(broker::credentials_delete::delete)
        .service(broker::credentials_test::test)
        .service(outbound::create::create)
        .service(outbound::list::list)
        .service(outbound::get::get)
        .service(outbound::patch::patch)
        .service(outbound::delete::delete)
        .service(outbound::rotate::rotate)
        .service(outbound::test::test)
        .service(outbound::deliveries::deliveries)
        .service(hooks::hook::hook)
        .service(hooks::webhook::webhook)
        .service(inbound::create::create)
        .service(inbound::list::list)
        .service(inbound::get::get)
        .service(inbound::patch::patch)
        .service(inbound::delete::delete)
        .service(inbound::rotate::rotate)
        .service(inbound::test::test)
        .service(inbound::signals::signals)
        .service(pnl::pnl)
        .service(portfolio_history::history)
        .service(dev::outbox)
        .service(audit::audit)
        .service(admin::audit::audit)
        .service(admin::audit_verify::verify)
        .service(admin::jobs::list::list)
        .service(admin::jobs::counts::counts)
        .service(admin::dead_letters::list::list)
        .service(admin::dead_letters::replay_many::replay_many)
        .service(admin::dead_letters::get::get)
        .service(admin::dead_letters::replay::replay)
        .service(admin::dead_letters::discard::discard)
        .service(backup::list::list)
        .service(backup::create::create)
        .service(backup::verify::verify)
        .service(backup::restore_to::restore_to)
        .service(backup::restore::restore)
        .service(backup::undo::undo)
        .service(backup::release::release)
        .service(backup::cleanup::cleanup)
        .service(backup::job::job)
        .service(backup::pin::pin)
        .service(pages::verify)
        .service(pages::reset)
        .service(pages::confirm_email)
        .service(pages::cancel)
        .service(pages::script)
        .service(pages::style)
        .service(health::health)
        .service(health::live)
        .service(health::ready)
        .service(health::quick)
        .service(problems::problem)
        .service(admin::alerts::alerts)
        .service(events::optimization_progress::optimization_progress)
        .service(events::ab_test_update::ab_test_update)
        .service(ws_ticket::ticket)
        .service(ws::connect)
        .service(ws::connect_to_user);
}

/// The OpenAPI 3.1 document of the routes, as JSON text.
///
/// # Panics
/// Never: the document holds only strings, numbers and booleans under string keys.
#[must_use]
pub fn openapi_document() -> String {
    let (_, mut document) = App::new().into_utoipa_app().configure(documented).split_for_parts();
    document.info = InfoBuilder::new()
        .title("Plimsoll")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A self-hosted trading-platform backend: orders in, fills, positions and profit out.",
        ))
        .build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    document
        .components
        .get_or_insert_with(Components::new)
        .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    serde_json::to_string_pretty(&document).expect("the document serialises")
}

/// The AsyncAPI 3 document of the WebSocket, as JSON text.
///
/// # Panics
/// Never: both documents hold only strings, numbers and booleans under string keys.
#[must_use]
pub fn asyncapi_document() -> String {
    let document: serde_json::Value =
        serde_json::from_str(&openapi_document()).expect("the document was written as JSON");
    let text = serde_json::to_string_pretty(&routes::asyncapi::document(&document));
    text.expect("the document serialises")
}

/// What is served. Clones share everything.
#[derive(Clone)]
pub struct Served {
    /// Behind every route.
    pub state: web::Data<AppState>,
    /// Behind the WebSocket routes.
    pub sockets: web::Data<ws::WebSockets>,
    /// The OpenAPI document.
    pub document: web::Data<OpenApiText>,
}

/// The whole service: every route, and around them what every request passes.
#[must_use]
pub fn app(
    served: Served,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let origins = &served.state.settings.cors_origins;
    App::new()
        .wrap(Condition::new(!origins.is_empty(), gate::cors(origins)))
        .wrap(from_fn(gate::guard))
        .configure(configure(served))
}

/// Mounts every route.
fn configure(served: Served) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(served.state)
            .app_data(served.sockets)
            .app_data(served.document)
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::QueryConfig::default().error_handler(|error, _| {
                let detail: String = error.to_string().chars().take(200).collect();
                Problem::field("?", "invalid", detail.trim_start_matches("Query deserialize error: ")).into()
            }))
            .app_data(
                web::PathConfig::default().error_handler(|_, _| {
                    Problem::new("not_found", "there is nothing at this address").into()
                }),
            );
        documented(&mut ServiceConfig::new(config));
        config
            .service(routes::openapi::openapi)
            .service(routes::asyncapi::asyncapi)
            .default_service(web::to(nothing_here));
    }
}

/// Requests that no route takes: a wrong method where there is a route of that path, else nothing.
async fn nothing_here(request: HttpRequest) -> Result<HttpResponse, Problem> {
    if request.resource_map().has_resource(request.path()) {
        return Err(Problem::new("method_not_allowed", "the resource has no such method"));
    }
    Err(Problem::new("not_found", "there is nothing at this address"))
}

#[cfg(test)]
mod tests;
