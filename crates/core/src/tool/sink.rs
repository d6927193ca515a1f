//! Sinks: whom and what a call affects, and the links and addresses in its arguments, in one spelling each.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use unicode_normalization::UnicodeNormalization;

/// The most sinks, and the most links, that one call may name; the engine denies what names more.
pub const MOST_SINKS: usize = 1_000;

/// Writes a sink in its one spelling: Unicode NFC, without white space around it; an address of e-mail or of the web
/// with its domain in lower case, an account number (IBAN) in capitals without spaces, everything else as it stands.
pub fn canonical_sink(text: &str) -> SmolStr {
    let text = text.trim();
    if let Some(account) = super::links::whole_iban(text) {
        return account;
    }
    let normal: String = if text.is_ascii() {
        text.to_owned()
    } else {
        text.nfc().collect()
    };
    let bare = normal
        .get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("www."));
    let domain = match normal.split_once("://") {
        Some((scheme, rest)) => Some((0, scheme.len() + 3 + host(rest).len())),
        None if bare => Some((0, host(&normal).len())),
        None => normal
            .rsplit_once('@')
            .map(|(local, _)| (local.len() + 1, normal.len())),
    };
    match domain.and_then(|(from, to)| Some((from, to, normal.get(from..to)?.to_lowercase()))) {
        Some((from, to, lower)) => {
            let before = normal.get(..from).unwrap_or_default();
            let after = normal.get(to..).unwrap_or_default();
            smol_str::format_smolstr!("{before}{lower}{after}")
        }
        None => SmolStr::new(normal),
    }
}

/// Returns what stands before the path of a web address.
fn host(address: &str) -> &str {
    address.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Hashes a sink for a task's list of those that trusted tools returned: the first half of the SHA-256 of its one spelling.
pub fn sink_hash(sink: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(canonical_sink(sink).as_bytes()).into();
    let mut half = [0; 16];
    half.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
    half
}

/// Collects the values of the arguments that a tool's catalogue entry names as sinks.
///
/// A path leads through objects by dots; a list stands for all its items, an object for its own canonical JSON. Numbers
/// and booleans count as their JSON text; null and empty text count as nothing. It stops at one more than [`MOST_SINKS`].
pub fn sinks_of(paths: &[SmolStr], arguments: &Map<String, Value>) -> BTreeSet<SmolStr> {
    let mut found = BTreeSet::new();
    for path in paths {
        let mut names = path.split('.');
        let first = names.next().and_then(|name| arguments.get(name));
        let rest: Vec<&str> = names.collect();
        if let Some(value) = first {
            collect(value, &rest, &mut found);
        }
    }
    found
}

fn collect(value: &Value, path: &[&str], found: &mut BTreeSet<SmolStr>) {
    if found.len() > MOST_SINKS {
        return;
    }
    match (value, path.split_first()) {
        (Value::Array(items), _) => items.iter().for_each(|item| collect(item, path, found)),
        (Value::Object(members), Some((name, rest))) => {
            if let Some(value) = members.get(*name) {
                collect(value, rest, found);
            }
        }
        (Value::Null, _) => {}
        (Value::String(text), _) => {
            let sink = canonical_sink(text);
            if !sink.is_empty() {
                found.insert(sink);
            }
        }
        (Value::Object(_), None) => {
            let json = crate::canonical_json(value).unwrap_or_default();
            found.insert(SmolStr::new(String::from_utf8_lossy(&json)));
        }
        (Value::Number(number), _) => {
            found.insert(digits(number));
        }
        (Value::Bool(flag), _) => {
            found.insert(smol_str::format_smolstr!("{flag}"));
        }
    }
}

/// Writes a number in its one spelling: whole ones with every digit, which canonical JSON would round beyond 2^53.
fn digits(number: &serde_json::Number) -> SmolStr {
    if number.is_f64() {
        let json = crate::canonical_json(number).unwrap_or_default();
        return SmolStr::new(String::from_utf8_lossy(&json));
    }
    smol_str::format_smolstr!("{number}")
}
