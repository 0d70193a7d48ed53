//! `GET /openapi.json`.

use actix_web::{HttpResponse, get, web};

/// The OpenAPI document's text.
pub struct OpenApiText(pub String);

/// The contract of this service.
#[get("/openapi.json")]
pub async fn openapi(text: web::Data<OpenApiText>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text.0.clone())
}
