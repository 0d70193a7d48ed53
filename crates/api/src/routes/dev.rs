//! For development: the mails that would have been sent.

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_auth::mail::{Letter, Links, render};
use plimsoll_core_domain::views::At;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Mails shown at once.
const SHOWN: usize = 200;

/// A mail.
#[derive(Serialize, ToSchema)]
pub struct OutboxMail {
    id: Uuid,
    to: String,
    subject: String,
    text: String,
    html: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: At,
}

/// Mails, newest first.
#[derive(Serialize, ToSchema)]
pub struct Outbox {
    items: Vec<OutboxMail>,
}

/// The newest mails: a page, or JSON for who accepts that. In the development profile and from this machine only;
/// anywhere else there is no such route.
#[utoipa::path(
    responses(
        (status = 200, body = Outbox),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "development"
)]
#[get("/dev/outbox")]
pub async fn outbox(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    // The connection's own address: what a header says does not count here.
    let local = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    if !state.settings.dev_outbox || !local {
        return Err(Problem::new("not_found", "there is nothing at this address"));
    }
    let mails = state.db.read(|tx| tx.newest_mails(SHOWN)).await?;
    let links = Links::new(&state.settings.public_url);
    let mut items = Vec::new();
    for mail in mails {
        let Some((to, content)) = mail.content else { continue };
        let Letter { to, subject, text, html } =
            render(&content, &to, &links).map_err(|why| Problem::internal(why.to_string()))?;
        let created_at = At(mail.created_at);
        items.push(OutboxMail { id: mail.id, to: to.as_str().to_owned(), subject, text, html, created_at });
    }
    let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/html") {
        return Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page(&items)));
    }
    Ok(HttpResponse::Ok().json(Outbox { items }))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// The texts of the mails, their links as links. No style and no script, as the policy of every answer has it.
fn page(items: &[OutboxMail]) -> String {
    let mut page =
        String::from("<!doctype html><meta charset=\"utf-8\"><title>Outbox</title><h1>Outbox</h1>\n");
    if items.is_empty() {
        page.push_str("<p>No mail yet.</p>\n");
    }
    for mail in items {
        let created_at = serde_json::to_string(&mail.created_at).unwrap_or_default();
        page.push_str(&format!(
            "<hr><p>{} to {}</p><h2>{}</h2>\n<pre>",
            created_at.trim_matches('"'),
            escaped(&mail.to),
            escaped(&mail.subject)
        ));
        for line in mail.text.lines() {
            let text = escaped(line);
            if line.starts_with("http://") || line.starts_with("https://") {
                page.push_str(&format!("<a href=\"{text}\">{text}</a>\n"));
            } else {
                page.push_str(&text);
                page.push('\n');
            }
        }
        page.push_str("</pre>\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_escapes_what_mails_say() {
        let mail = OutboxMail {
            id: Uuid::nil(),
            to: "a&b@example.com".to_owned(),
            subject: "<script>".to_owned(),
            text: "x < y\nhttps://example.com/verify#token=abc\"onclick".to_owned(),
            html: String::new(),
            created_at: At(chrono::DateTime::UNIX_EPOCH),
        };
        let page = page(&[mail]);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        assert!(page.contains("a&amp;b@example.com") && page.contains("x &lt; y"));
        assert!(page.contains("<a href=\"https://example.com/verify#token=abc&quot;onclick\">"));
    }
}
