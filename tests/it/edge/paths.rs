//! F29: paths that two servers in a row could read differently: only the path as it is written leads anywhere.

use remit_tests::contract::DOCUMENT;

use super::{exchange, served};
use crate::serve::Server;

/// Spellings of a path that something else would take for the path itself; all of them keep what it means there.
fn spellings(path: &str) -> Vec<String> {
    let (front, last) = path.rsplit_once('/').unwrap();
    let mut second = last.chars();
    let encoded = second
        .next()
        .map(|first| format!("{front}/%{:02x}{}", u32::from(first), second.as_str()));
    let mut found = vec![
        format!("/{path}"),
        format!("{front}//{last}"),
        format!("/.{path}"),
        format!("{front}/./{last}"),
        format!("/x/..{path}"),
        format!("{front}/x/../{last}"),
        format!("/%2e%2e{path}"),
        format!("{front}/x/%2e%2e/{last}"),
        format!("{front}%2f{last}"),
        format!("{front}%2F{last}"),
        format!("{front}%252f{last}"),
        format!("{front}/;x/{last}"),
        format!("{front}\\{last}"),
        format!("{front}%5c{last}"),
        path.to_uppercase(),
        format!("{path}/"),
        format!("{path}/."),
        format!("{path}//"),
    ];
    // In a path that ends in an id these would be a part of that id or of its type, which are taken as they are written.
    if !path.ends_with('0') {
        found.extend(encoded);
        found.push(format!("{front};x=y/{last}"));
        for end in [
            "%2f", "%00", ";x=y", "%20", "%0a", "%0d%0a", "%09", ".json", ".", "%23", "%3f", "%ff",
            "~", "*", "%",
        ] {
            found.push(format!("{path}{end}"));
        }
    }
    found
}

fn status(server: &Server, method: &str, target: &str) -> u16 {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Last-Event-ID: none\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}",
        server.key
    );
    let came = exchange(server, request);
    let statuses = came.statuses();
    assert_eq!(statuses.len(), 1, "{method} {target}: {}", came.text());
    statuses[0]
}

#[test]
fn f29_no_other_spelling_of_a_path_leads_to_it() {
    let server = served(&[]);
    let (mut tried, mut routes, mut wrong) = (0, 0, Vec::new());
    for (template, operations) in DOCUMENT["paths"].as_object().unwrap() {
        let path = template.replace("{type}", "Agent").replace("{id}", "x-0");
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            routes += 1;
            let plain = status(&server, &method, &path);
            if !template.contains('{') {
                // There is no shadow, and it says so.
                let there = plain != 404 || path == "/v1/shadow";
                assert!(there && plain != 405, "{method} {path}: {plain}");
            }
            for target in spellings(&path) {
                tried += 1;
                let status = status(&server, &method, &target);
                // An operation that this key may not do is refused before anybody looks at what it names.
                let refused = status == 403 && plain == 403;
                if !refused && !matches!(status, 400 | 404 | 405) {
                    wrong.push(format!("{method} {target}: {status}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("paths: {routes} routes, {tried} other spellings, 0 served");
}
