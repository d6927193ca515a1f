//! The page at `/docs`: it draws `/openapi.json` and can send every operation. Static files, nothing from elsewhere.

use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, header};

/// Only what this server serves runs, loads or is asked; the page sits in nobody's frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Sends `/` to the page.
pub(crate) async fn root() -> Redirect {
    Redirect::temporary("/docs")
}

/// Answers with the page.
pub(crate) async fn page() -> Response {
    file(
        POLICY,
        "text/html; charset=utf-8",
        include_str!("docs/index.html"),
    )
}

/// Answers with its style.
pub(crate) async fn style() -> Response {
    file(
        POLICY,
        "text/css; charset=utf-8",
        include_str!("docs/docs.css"),
    )
}

/// Answers with its program.
pub(crate) async fn script() -> Response {
    file(
        POLICY,
        "text/javascript; charset=utf-8",
        include_str!("docs/docs.js"),
    )
}

/// Answers with its icon.
pub(crate) async fn icon() -> Response {
    file(POLICY, "image/svg+xml", include_str!("docs/icon.svg"))
}

/// Answers with a file of a page that may do what `policy` says.
pub(crate) fn file(policy: &'static str, media: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(policy),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
