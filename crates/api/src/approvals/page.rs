//! The page at `/approvals/{id}`: one request, drawn for a phone from `GET /v1/approvals/{id}`, and the answer to it.
//!
//! It is the same for every id and needs no key: what it shows, it asks for with the key that the person types.

use axum::response::Response;

use crate::docs::file;

/// As of the page of the API; and no text ever becomes markup or program, whoever wrote it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Answers with the page.
pub(crate) async fn page() -> Response {
    file(
        POLICY,
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    )
}

/// Answers with its style.
pub(crate) async fn style() -> Response {
    file(
        POLICY,
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    )
}

/// Answers with its program.
pub(crate) async fn script() -> Response {
    file(
        POLICY,
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}
