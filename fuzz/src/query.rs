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
    if let Ok((filter, page)) = decisions_query(&uri) {
        assert_eq!(filter.action, value("action"));
        assert_eq!(page.cursor, value("cursor"));
    }
    if let Ok((kind, page)) = entities_query(&uri) {
        assert_eq!(kind, value("type"));
        assert_eq!(page.cursor, value("cursor"));
    }
    assert!(next_link(&uri, "abc").is_some_and(|link| link.contains("cursor=abc>")));
}
