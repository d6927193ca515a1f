//! Pages of a list: how long, where they begin, and a sealed cursor that belongs to one query.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Uri, header};
use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};
use remit_core::canonical_json;
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::problem::{Kind, Problem};
use crate::wire::Json;

/// The most entries of one page.
pub(crate) const LONGEST: usize = 1_000;
/// The entries of one page where the caller does not say.
const USUAL: usize = 100;

/// The parameters of a list that has no others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// One page as it is written.
struct Listed<'a, T> {
    name: &'static str,
    items: &'a [T],
    next: Option<&'a str>,
}

/// One page to be made; `C` is the position of an entry in the list.
pub(crate) struct Paging<C> {
    /// The last entry of the page before.
    pub(crate) after: Option<C>,
    /// The most entries of this page.
    pub(crate) limit: usize,
    /// What the cursor belongs to, as a hash.
    query: [u8; 32],
}

// === impl Listed ===

impl<T: Serialize> Serialize for Listed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, self.items)?;
        if let Some(next) = self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

// === impl Paging ===

impl<C: Serialize + DeserializeOwned> Paging<C> {
    /// Reads which page is asked for; `filter` is everything that must not change between the pages of one walk.
    pub(crate) fn of(
        app: &App,
        filter: &impl Serialize,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        let invalid = |detail: &str| Problem::new(Kind::INVALID_REQUEST, detail);
        let limit = limit.unwrap_or(USUAL);
        if !(1..=LONGEST).contains(&limit) {
            return Err(invalid("`limit` must be 1 to 1000"));
        }
        let filter =
            canonical_json(filter).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        let query: [u8; 32] = Sha256::digest(filter).into();
        let after = match cursor {
            None | Some("") => None,
            Some(token) => Some(app.seal.open(&query, token).ok_or_else(|| {
                invalid("`cursor` is not one of this list with these parameters; start again without it")
            })?),
        };
        Ok(Self {
            after,
            limit,
            query,
        })
    }

    /// Cuts what was found to the length of the page, and seals the cursor of the next one if there is more.
    ///
    /// `found` holds one entry more than the page where there is a next page.
    pub(crate) fn cut<T>(
        &self,
        app: &App,
        mut found: Vec<T>,
        position: impl Fn(&T) -> C,
    ) -> Result<(Vec<T>, Option<String>), Problem> {
        if found.len() <= self.limit {
            return Ok((found, None));
        }
        found.truncate(self.limit);
        let cursor = found
            .last()
            .map(position)
            .and_then(|last| app.seal.seal(&self.query, &last));
        let cursor = cursor
            .ok_or_else(|| Problem::caused(Kind::INTERNAL, "a cursor could not be written"))?;
        Ok((found, Some(cursor)))
    }
}

/// Answers with one page of a list: its items under the name of the list, and where the next page begins.
pub(crate) fn answer<T: Serialize>(
    uri: &Uri,
    name: &'static str,
    items: &[T],
    next: Option<&str>,
) -> Response {
    let listed = Listed { name, items, next };
    let mut response = Json(listed).into_response();
    link(&mut response, uri, next);
    response
}

/// Puts the address of the next page on an answer (RFC 8288): this request's, with another cursor.
pub(crate) fn link(response: &mut Response, uri: &Uri, next: Option<&str>) {
    let Some(next) = next else { return };
    let others = uri.query().into_iter().flat_map(|query| query.split('&'));
    // A header is read as ASCII, and a name may be spelt with escapes.
    let mut query: Vec<String> = others
        .filter(|part| !part.is_empty() && !is_cursor(part))
        .map(|part| utf8_percent_encode(part, CONTROLS).to_string())
        .collect();
    query.push(format!("cursor={next}"));
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"));
    if let Ok(link) = HeaderValue::try_from(link) {
        response.headers_mut().insert(header::LINK, link);
    }
}

fn is_cursor(part: &str) -> bool {
    let name = part.split_once('=').map_or(part, |(name, _)| name);
    percent_decode_str(name).eq("cursor".bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_ascii_and_has_one_cursor() {
        for (query, next) in [
            ("", "cursor=abc"),
            ("type=Agent&cursor=old", "type=Agent&cursor=abc"),
            ("%63ursor=old&limit=2", "limit=2&cursor=abc"),
            ("cursor&limit=2", "limit=2&cursor=abc"),
            ("agent=\u{fc}%20", "agent=%C3%BC%20&cursor=abc"),
        ] {
            let uri: Uri = format!("/v1/list?{query}").parse().unwrap_or_default();
            let mut response = Response::default();
            link(&mut response, &uri, Some("abc"));
            let link = response.headers().get(header::LINK);
            let link = link.and_then(|link| link.to_str().ok());
            let wanted = format!("</v1/list?{next}>; rel=\"next\"");
            assert_eq!(link, Some(wanted.as_str()));
        }
    }
}
