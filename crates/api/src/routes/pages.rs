//! The pages that mailed links lead to, and their script and style. A page changes nothing by being read: its button posts
//! the token that stands in the link's fragment.

use actix_web::{HttpResponse, get};

const PAGE: &str = include_str!("../../pages/page.html");
const SCRIPT: &str = include_str!("../../pages/page.js");
const STYLE: &str = include_str!("../../pages/page.css");

/// Nothing from anywhere else, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

fn page(name: &str, title: &str, text: &str, button: &str) -> HttpResponse {
    let body = PAGE
        .replace("{{page}}", name)
        .replace("{{title}}", title)
        .replace("{{text}}", text)
        .replace("{{button}}", button);
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", POLICY))
        .body(body)
}

/// The page behind the link that confirms an address.
#[utoipa::path(responses((status = 200, content_type = "text/html")), tag = "pages")]
#[get("/verify")]
pub async fn verify() -> HttpResponse {
    page("verify", "Confirm your address", "Press the button to confirm your address.", "Confirm")
}

/// The page behind the link to choose a new password.
#[utoipa::path(responses((status = 200, content_type = "text/html")), tag = "pages")]
#[get("/reset")]
pub async fn reset() -> HttpResponse {
    page(
        "reset",
        "Choose a new password",
        "Every session and API token of the account will end.",
        "Set password",
    )
}

/// The page behind the link that confirms a new address.
#[utoipa::path(responses((status = 200, content_type = "text/html")), tag = "pages")]
#[get("/confirm-email")]
pub async fn confirm_email() -> HttpResponse {
    page(
        "confirm-email",
        "Confirm your new address",
        "Press the button to put the address in force.",
        "Confirm",
    )
}

/// The page behind links that stop something.
#[utoipa::path(responses((status = 200, content_type = "text/html")), tag = "pages")]
#[get("/cancel")]
pub async fn cancel() -> HttpResponse {
    page("cancel", "This was not me", "Press the button to stop what the mail told of.", "Stop it")
}

/// The script of the pages.
#[utoipa::path(responses((status = 200, content_type = "text/javascript")), tag = "pages")]
#[get("/pages/page.js")]
pub async fn script() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(SCRIPT)
}

/// The style of the pages.
#[utoipa::path(responses((status = 200, content_type = "text/css")), tag = "pages")]
#[get("/pages/page.css")]
pub async fn style() -> HttpResponse {
    HttpResponse::Ok().content_type("text/css; charset=utf-8").body(STYLE)
}
