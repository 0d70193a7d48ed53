//! Lists: `?limit=&cursor=`, and the envelope with the link to what follows.

use actix_web::HttpResponse;
use actix_web::http::header::{ContentType, LINK};
use data_encoding::BASE64URL_NOPAD;

use crate::problem::Problem;

/// Rows of a page unless the caller says otherwise.
const DEFAULT_LIMIT: i64 = 50;
/// Rows of the longest page.
const MAX_LIMIT: i64 = 500;

/// How many rows were asked for.
///
/// # Errors
/// 422 outside 1 to 500.
pub fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        good @ 1..=MAX_LIMIT => Ok(good),
        _ => Err(Problem::field("?limit", "out_of_range", "must be from 1 to 500")),
    }
}

/// Writes a cursor: opaque to the caller.
#[must_use]
pub fn encode_cursor(list: &str, place: &str) -> String {
    BASE64URL_NOPAD.encode(format!("{list}:{place}").as_bytes())
}

/// Reads a cursor of this list.
///
/// # Errors
/// 400 when it was not made for this list.
pub fn decode_cursor(list: &str, cursor: &str) -> Result<String, Problem> {
    let bad = || Problem::new("invalid_cursor", "the cursor was not made by this server for this list");
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    text.strip_prefix(list).and_then(|rest| rest.strip_prefix(':')).map(str::to_owned).ok_or_else(bad)
}

/// A place in a list that cannot be read.
#[must_use]
pub fn bad_cursor() -> Problem {
    Problem::new("invalid_cursor", "the cursor was not made by this server for this list")
}

/// Answers with a page of rows that are JSON texts already.
#[must_use]
pub fn page(
    path: &str,
    query: &str,
    rows: impl IntoIterator<Item = impl AsRef<str>> + Clone,
    next: Option<String>,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(next) = &next {
        let kept: Vec<&str> =
            query.split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor=")).collect();
        let query = kept.iter().map(|part| format!("{part}&")).collect::<String>();
        response.insert_header((LINK, format!("<{path}?{query}cursor={next}>; rel=\"next\"")));
    }
    // A cursor is base64url: it needs no escape.
    let next = next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
    let length: usize = rows.clone().into_iter().map(|row| row.as_ref().len() + 1).sum();
    let mut body = String::with_capacity(length + next.len() + 32);
    body.push_str("{\"items\":[");
    for (number, row) in rows.into_iter().enumerate() {
        if number > 0 {
            body.push(',');
        }
        body.push_str(row.as_ref());
    }
    body.push_str("],\"next_cursor\":");
    body.push_str(&next);
    body.push('}');
    response.content_type(ContentType::json()).body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_belong_to_their_list() {
        let cursor = encode_cursor("orders", "x");
        assert_eq!(decode_cursor("orders", &cursor).unwrap(), "x");
        assert!(decode_cursor("fills", &cursor).is_err());
        assert!(decode_cursor("orders", "%%%").is_err());
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(500)).unwrap(), 500);
        for bad in [0, -1, 501] {
            assert_eq!(limit(Some(bad)).unwrap_err().status().as_u16(), 422);
        }
    }

    #[test]
    fn a_page_is_one_document_with_a_link_to_the_next() {
        use actix_web::body::MessageBody;

        let text = |response: HttpResponse| {
            let bytes = response.into_body().try_into_bytes().unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let rows = ["{\"a\":1}".to_owned(), "{}".to_owned()];
        let response = page("/x", "limit=2&cursor=old", &rows, Some("next".to_owned()));
        let link = response.headers().get(LINK).unwrap().to_str().unwrap();
        assert_eq!(link, "</x?limit=2&cursor=next>; rel=\"next\"");
        assert_eq!(text(response), "{\"items\":[{\"a\":1},{}],\"next_cursor\":\"next\"}");
        let last = page("/x", "", std::iter::empty::<&str>(), None);
        assert!(last.headers().get(LINK).is_none());
        assert_eq!(text(last), "{\"items\":[],\"next_cursor\":null}");
    }
}
