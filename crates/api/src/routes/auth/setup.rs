//! `POST /auth/setup`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::StoreErrorKind;
use plimsoll_auth::setup::{FirstAdmin, SetupOutcome, Standing, first_admin, standing};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::reply::UserView;
use crate::state::AppState;
use crate::{chosen, schema};

/// The first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Printed by the server at its start, or by `plimsoll user setup-token`.
    #[schema(value_type = String)]
    setup_token: SecretString,
    /// The name to sign in with.
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Makes the first administrator, once: 404 for ever after.
#[utoipa::path(
    request_body = Setup,
    responses(
        (status = 201, body = schema::User),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/setup")]
pub async fn setup(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<Setup>,
) -> Result<HttpResponse, Problem> {
    let over = || Problem::new("not_found", "there is nothing at this address");
    let invalid = || Problem::new("invalid_token", "the setup token is not valid any more");
    let Setup { setup_token, email, password } = body.value;
    let digest = SecretToken::parse(setup_token.expose_secret()).ok().map(|token| token.digest());
    let now = state.clock.now();
    let standing = state.db.read(move |tx| standing(tx, digest.as_ref(), now)).await?;
    let digest = match (standing, digest) {
        (Standing::Over, _) => return Err(over()),
        (Standing::Good, Some(digest)) => digest,
        _ => return Err(invalid()),
    };
    // A weak password leaves the token as good as it was.
    let (email, display_name) = chosen::account(&state, &email, &password, None).await?;
    chosen::unbreached(&state, &password).await?;
    let hash = state.hashing.run(move |passwords| passwords.hash(&password, &mut OsRandom)).await?;
    let password_hash = hash.map_err(|why| Problem::field("/password", "too_long", why.to_string()))?;
    let (new, act) = (FirstAdmin { digest, email, display_name, password_hash }, visitor.act(&state));
    let outcome = state.db.run(move |tx| first_admin(tx, new, &act)).await;
    match outcome {
        Ok(SetupOutcome::Made(user)) => Ok(HttpResponse::Created().json(UserView::from(&user))),
        Ok(SetupOutcome::Invalid) => Err(invalid()),
        Ok(SetupOutcome::Over) => Err(over()),
        Err(error) if error.kind() == StoreErrorKind::Duplicate => {
            Err(Problem::new("duplicate", "there is a user of this address already"))
        }
        Err(error) => Err(error.into()),
    }
}
