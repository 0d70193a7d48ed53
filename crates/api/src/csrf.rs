//! Requests that a page of another site made a browser send.
//!
//! Browsers say where a request comes from: `Sec-Fetch-Site`, or at least `Origin`. No page can forge either. A client that
//! sends neither is no browser.

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, ORIGIN};

use crate::problem::Problem;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CSRF_HEADER: HeaderName = HeaderName::from_static("x-plimsoll-csrf");

/// The refusal of such a request.
pub(crate) fn refused() -> Problem {
    Problem::new("csrf_failed", "the request does not come from this service's own pages")
}

/// Whether a request of this method may change something.
pub(crate) fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Where a request comes from, by the browser's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// A page of ours.
    OwnPage,
    /// The user: a bookmark, the address bar.
    NoPage,
    /// A page of another origin.
    ForeignPage,
    /// No browser, or none that says so.
    Unsaid,
}

fn from(headers: &HeaderMap, public_url: &str) -> From {
    if let Some(site) = headers.get(FETCH_SITE) {
        return match site.as_bytes() {
            b"same-origin" => From::OwnPage,
            b"none" => From::NoPage,
            _ => From::ForeignPage,
        };
    }
    if !headers.contains_key(ORIGIN) {
        From::Unsaid
    } else if has_origin(headers, |origin| origin == public_url.as_bytes()) {
        From::OwnPage
    } else {
        From::ForeignPage
    }
}

/// Whether there is an `Origin`, and every one is such.
fn has_origin(headers: &HeaderMap, such: impl Fn(&[u8]) -> bool) -> bool {
    headers.contains_key(ORIGIN) && headers.get_all(ORIGIN).all(|origin| such(origin.as_bytes()))
}

/// Whether nothing says that a foreign page is behind the request.
pub(crate) fn is_own_or_no_page(headers: &HeaderMap, public_url: &str) -> bool {
    from(headers, public_url) != From::ForeignPage
}

/// The rule for every request that may change something and shows no `Authorization`, logins and registrations included:
/// no foreign page, except of the origins that may call.
pub(crate) fn check_open(headers: &HeaderMap, public_url: &str, allowed: &[String]) -> Result<(), Problem> {
    let is_allowed =
        || has_origin(headers, |origin| allowed.iter().any(|allowed| allowed.as_bytes() == origin));
    if is_own_or_no_page(headers, public_url) || is_allowed() { Ok(()) } else { Err(refused()) }
}

/// The rule for requests with the session's cookie: those that may change something need the header of our own pages,
/// and the browser's word that they come from one. Nothing is read for a foreign page either.
pub(crate) fn check_cookie(request: &HttpRequest, public_url: &str) -> Result<(), Problem> {
    let headers = request.headers();
    let from = from(headers, public_url);
    if !changes_state(request.method()) {
        return if from == From::ForeignPage { Err(refused()) } else { Ok(()) };
    }
    let header = headers.get(CSRF_HEADER).is_some_and(|value| value == "1");
    if header && from == From::OwnPage { Ok(()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const OURS: &str = "https://trade.example.com";

    fn request(method: Method, headers: &[(&'static str, &str)]) -> HttpRequest {
        let request = TestRequest::default().method(method);
        headers.iter().fold(request, |request, header| request.insert_header(*header)).to_http_request()
    }

    /// CSR-1: a request with the cookie that changes state needs our header and an origin of ours.
    #[test]
    fn a_cookie_changes_something_only_from_our_own_pages() {
        let allowed =
            |method, headers: &[(&'static str, &str)]| check_cookie(&request(method, headers), OURS).is_ok();
        let header = ("x-plimsoll-csrf", "1");
        assert!(allowed(Method::POST, &[header, ("sec-fetch-site", "same-origin")]));
        assert!(allowed(Method::DELETE, &[header, ("origin", OURS)]), "a browser without Sec-Fetch-Site");
        for bad in [
            vec![("sec-fetch-site", "same-origin")],
            vec![header],
            vec![header, ("sec-fetch-site", "same-site")],
            vec![header, ("sec-fetch-site", "cross-site"), ("origin", OURS)],
            vec![header, ("sec-fetch-site", "none")],
            vec![header, ("origin", "null")],
            vec![header, ("origin", "https://trade.example.com.evil.example")],
            vec![("x-plimsoll-csrf", "0"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(!allowed(Method::POST, &bad), "{bad:?}");
        }
        let two = TestRequest::post()
            .insert_header(header)
            .append_header(("origin", OURS))
            .append_header(("origin", "https://evil.example"));
        assert!(check_cookie(&two.to_http_request(), OURS).is_err());
        assert!(allowed(Method::GET, &[]) && allowed(Method::GET, &[("sec-fetch-site", "same-origin")]));
        assert!(!allowed(Method::GET, &[("sec-fetch-site", "cross-site")]));
    }

    /// CSR-2: routes without a session refuse foreign pages too.
    #[test]
    fn nobody_is_signed_in_by_a_foreign_page() {
        let allowed = |headers: &[(&'static str, &str)]| {
            let request = request(Method::POST, headers);
            check_open(request.headers(), OURS, &["https://app.example.com".to_owned()]).is_ok()
        };
        assert!(allowed(&[]), "no browser");
        assert!(
            allowed(&[("sec-fetch-site", "same-origin"), ("origin", OURS)]) && allowed(&[("origin", OURS)])
        );
        assert!(allowed(&[("sec-fetch-site", "cross-site"), ("origin", "https://app.example.com")]));
        for bad in [
            vec![("sec-fetch-site", "cross-site")],
            vec![("sec-fetch-site", "same-site"), ("origin", "https://evil.example.com")],
            vec![("origin", "null")],
            vec![("origin", "https://evil.example")],
        ] {
            assert!(!allowed(&bad), "{bad:?}");
        }
    }
}
