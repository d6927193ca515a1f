//! Query strings: a filter that is taken is what a second reader finds there, and the next page keeps it.

use http::Uri;
use remit_api::fuzzing::{decisions_query, entities_query, next_link};

/// Reads an input as the query of each list.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(uri) = format!("/v1/list?{text}").parse::<Uri>() else {
        return;
    };
    let pairs: Vec<(String, String)> = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes())
        .into_owned()
        .collect();
    let value = |name: &str| {
        let mut found = pairs.iter().filter(|(other, _)| other == name);
        let first = found.next().map(|(_, value)| value.clone());
        assert!(found.next().is_none(), "`{name}` is taken twice");
        first
    };
    if decisions_query(&uri).is_ok() || entities_query(&uri).is_ok() {
        assert!(
            !lossy(uri.query().unwrap_or("")),
            "bytes that are no text are taken for U+FFFD"
        );
    }
    let next = next_link(&uri, "abc").expect("a page has a next one");
    let next = next.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let next: Uri = next.expect("the link is in brackets").0.parse().unwrap();
    if let Ok((filter, page)) = decisions_query(&uri) {
        let (same, following) = decisions_query(&next).expect("the next page has a query");
        assert_eq!((same, following.limit), (filter.clone(), page.limit));
        assert_eq!(following.cursor.as_deref(), Some("abc"));
        assert_eq!(filter.action, value("action"));
        assert_eq!(page.cursor, value("cursor"));
    }
    if let Ok((kind, page)) = entities_query(&uri) {
        let (same, following) = entities_query(&next).expect("the next page has a query");
        assert_eq!((same, following.limit), (kind.clone(), page.limit));
        assert_eq!(following.cursor.as_deref(), Some("abc"));
        assert_eq!(kind, value("type"));
        assert_eq!(page.cursor, value("cursor"));
    }
}

/// Whether the second reader finds a U+FFFD that the query does not spell.
fn lossy(query: &str) -> bool {
    let read: usize = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| name.matches('\u{fffd}').count() + value.matches('\u{fffd}').count())
        .sum();
    let spelt =
        query.to_ascii_lowercase().matches("%ef%bf%bd").count() + query.matches('\u{fffd}').count();
    read > spelt
}
