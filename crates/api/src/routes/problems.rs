//! `GET /problems/{code}`: what a problem means.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::{Problem, problem_kind};
use crate::schema;

/// The documentation of a problem.
#[derive(Serialize, ToSchema)]
pub struct ProblemText {
    code: &'static str,
    title: &'static str,
    status: u16,
    text: &'static str,
}

/// What a problem's code means and what to do about it.
#[utoipa::path(
    params(("code" = String, Path)),
    responses(
        (status = 200, body = ProblemText),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "operations"
)]
#[get("/problems/{code}")]
pub async fn problem(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let kind = problem_kind(&code).ok_or_else(|| Problem::new("not_found", "no such problem"))?;
    Ok(HttpResponse::Ok().json(ProblemText {
        code: kind.code,
        title: kind.title,
        status: kind.status,
        text: kind.text,
    }))
}
