//! Links: the web addresses, e-mail addresses and account numbers that stand anywhere in the arguments of a call.
//!
//! One pass over each text, each character looked at a bounded number of times, so that no text is slow to read.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::sink::{MOST_SINKS, canonical_sink};

/// The schemes that make a web address of what follows them.
const SCHEMES: [&str; 3] = ["https", "http", "ftp"];
/// What begins a web address that has no scheme.
const BARE: &str = "www.";
/// The shortest and the longest account number (ISO 13616), without spaces.
const IBAN: std::ops::RangeInclusive<usize> = 15..=34;

/// A link in its one spelling, and where it stands.
type Link = (SmolStr, Range<usize>);

/// Collects the links in the arguments of a call, wherever they stand, names of members included, each in its one
/// spelling.
///
/// It stops at one more than [`MOST_SINKS`](crate::MOST_SINKS): a call that names more is denied.
pub fn links(arguments: &Map<String, Value>) -> BTreeSet<SmolStr> {
    let mut found = BTreeSet::new();
    within(arguments, &mut found);
    found
}

/// Whether a text is one web address or one e-mail address and nothing else.
pub fn is_address(text: &str) -> bool {
    let mut found = BTreeSet::new();
    links_in(text, &mut found);
    let one = found.first().filter(|_| found.len() == 1);
    one.is_some_and(|link| *link == canonical_sink(text) && whole_iban(text).is_none())
}

fn within(members: &Map<String, Value>, found: &mut BTreeSet<SmolStr>) {
    for (name, value) in members {
        links_in(name, found);
        of_value(value, found);
    }
}

fn of_value(value: &Value, found: &mut BTreeSet<SmolStr>) {
    if found.len() > MOST_SINKS {
        return;
    }
    match value {
        Value::String(text) => links_in(text, found),
        Value::Array(items) => items.iter().for_each(|item| of_value(item, found)),
        Value::Object(members) => within(members, found),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Collects the links of one text.
pub(super) fn links_in(text: &str, found: &mut BTreeSet<SmolStr>) {
    each_link(text, |link, _| {
        found.insert(link);
        found.len() <= MOST_SINKS
    });
}

/// Finds the links of one text and where they stand, until it is told to stop.
pub(crate) fn each_link(text: &str, mut take: impl FnMut(SmolStr, Range<usize>) -> bool) {
    let bytes = text.as_bytes();
    // Nothing before here is looked at again.
    let mut done = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = match byte {
            b':' => web(text, done, at),
            b'@' => mail(text, done, at),
            b'A'..=b'Z' | b'a'..=b'z' if !after_word(text, at) => {
                bare(text, at).or_else(|| account(text, at))
            }
            _ => None,
        };
        match next {
            Some((link, place)) => {
                done = place.end;
                at = done.max(at + 1);
                if !take(link, place) {
                    return;
                }
            }
            None => at += 1,
        }
    }
}

/// Reads the web address whose scheme ends at the colon.
///
/// As browsers do: with any number of slashes or none, backslashes as well, and over tabs and line ends among these.
fn web(text: &str, done: usize, colon: usize) -> Option<Link> {
    let before = text.get(done..colon)?;
    let (scheme, start) = SCHEMES.into_iter().find_map(|scheme| {
        let mut letters = before.bytes().enumerate().rev();
        let mut start = before.len();
        for wanted in scheme.bytes().rev() {
            let (place, letter) = letters.find(|(_, byte)| !is_passed_over(*byte))?;
            if !letter.eq_ignore_ascii_case(&wanted) {
                return None;
            }
            start = place;
        }
        Some((scheme, done + start))
    })?;
    let rest = text.get(colon + 1..)?.bytes();
    let among = rest.take_while(|byte| is_slash(*byte) || is_passed_over(*byte));
    let slashes = among.enumerate().filter(|(_, byte)| is_slash(*byte)).last();
    let from = colon + 1 + slashes.map_or(0, |(place, _)| place + 1);
    let from = from
        + if slashes.is_some() {
            passed_over(text, from)
        } else {
            0
        };
    let end = address_end(text, from);
    let address = text.get(from..end).filter(|address| !address.is_empty())?;
    let link = canonical_sink(&format!("{scheme}://{address}"));
    Some((link, start..end))
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

fn is_passed_over(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r')
}

/// Counts the tabs and line ends from a place on.
fn passed_over(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default().bytes();
    rest.take_while(|byte| is_passed_over(*byte)).count()
}

/// Reads the web address without a scheme that begins here.
fn bare(text: &str, start: usize) -> Option<Link> {
    let head = text.get(start..start + BARE.len())?;
    if !head.eq_ignore_ascii_case(BARE) {
        return None;
    }
    let end = address_end(text, start + BARE.len());
    let address = text
        .get(start..end)
        .filter(|address| address.len() > BARE.len())?;
    Some((canonical_sink(address), start..end))
}

/// Finds where a web address ends: before white space or what no address holds, and without a sentence's punctuation.
fn address_end(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let ends = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '<' | '>' | '"' | '`' | '|' | '^' | '{' | '}')
    };
    let address = rest.split(ends).next().unwrap_or_default();
    let address =
        address.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '\'', '*', '_']);
    start + address.len()
}

/// Reads the e-mail address around the at sign.
fn mail(text: &str, done: usize, sign: usize) -> Option<Link> {
    let local = |c: char| c.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let before = text.get(done..sign)?;
    let name = before
        .rsplit(|c| !local(c))
        .next()
        .unwrap_or_default()
        .trim_start_matches(['.', '\'', '/', '*', '_', '`', '=', '{', '|']);
    let after = text.get(sign + 1..)?;
    let domain = after
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-')))
        .next()
        .unwrap_or_default();
    let domain = domain.trim_end_matches(['.', '-']);
    let (host, top) = domain.rsplit_once('.')?;
    if name.is_empty() || host.is_empty() || top.is_empty() {
        return None;
    }
    let end = sign + 1 + domain.len();
    let link = canonical_sink(&format!("{name}@{domain}"));
    Some((link, sign - name.len()..end))
}

/// Reads the account number that begins here: the longest whose check digits hold.
fn account(text: &str, start: usize) -> Option<Link> {
    let rest = text.get(start..)?;
    let head = rest.as_bytes().first_chunk::<4>()?;
    if !matches!(head, [a, b, c, d] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit())
    {
        return None;
    }
    let mut number = String::with_capacity(*IBAN.end());
    let mut best = None;
    let mut bytes = rest.bytes().enumerate().peekable();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b' ' | b'-'
                if bytes
                    .peek()
                    .is_some_and(|(_, next)| next.is_ascii_alphanumeric()) =>
            {
                continue;
            }
            _ if byte.is_ascii_alphanumeric() => number.push(char::from(byte.to_ascii_uppercase())),
            _ => break,
        }
        if number.len() > *IBAN.end() {
            break;
        }
        let word_ends = rest
            .get(place + 1..)
            .and_then(|rest| rest.chars().next())
            .is_none_or(|next| !next.is_alphanumeric());
        if word_ends && IBAN.contains(&number.len()) && checks(&number) {
            best = Some((SmolStr::new(&number), start..start + place + 1));
        }
    }
    best
}

/// Returns the account number that a text is, in its one spelling; nothing where it is none, or more than one.
pub(super) fn whole_iban(text: &str) -> Option<SmolStr> {
    // Four for a group and one between, and some for an odd spelling: a longer text is none.
    if text.len() > 2 * IBAN.end() {
        return None;
    }
    account(text, 0)
        .filter(|(_, place)| place.end == text.len())
        .map(|(number, _)| number)
}

/// Whether the check digits of an account number hold (ISO 7064, MOD 97-10).
fn checks(number: &str) -> bool {
    let (head, body) = number.split_at_checked(4).unwrap_or_default();
    let left = body
        .bytes()
        .chain(head.bytes())
        .fold(0_u32, |left, byte| match byte {
            b'0'..=b'9' => (left * 10 + u32::from(byte - b'0')) % 97,
            _ => (left * 100 + u32::from(byte - b'A') + 10) % 97,
        });
    left == 1
}

/// Whether what stands before this place belongs to the same word.
fn after_word(text: &str, at: usize) -> bool {
    let before = text.get(..at).and_then(|before| before.chars().next_back());
    before.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut found = BTreeSet::new();
        links_in(text, &mut found);
        found.into_iter().map(|link| link.to_string()).collect()
    }

    #[test]
    fn links_are_found_wherever_they_stand() {
        for (text, expected) in [
            ("", &[][..]),
            ("nothing: at all @ here, A. B. www", &[]),
            (
                "see HTTPS://Evil.Example/Path?q=1.",
                &["https://evil.example/Path?q=1"],
            ),
            (
                "(http://a.example/b), ftp://c.example",
                &["ftp://c.example", "http://a.example/b"],
            ),
            (r"xhttp:\\evil.example\x", &[r"http://evil.example\x"]),
            ("https:/evil.example", &["https://evil.example"]),
            ("see HTTPS:evil.example/a", &["https://evil.example/a"]),
            (
                "ht\ntp\t:\r/\n/\tevil.example\nhttp: https:) ",
                &["http://evil.example"],
            ),
            (
                "WWW.Evil.Example/Path or swww.no",
                &["www.evil.example/Path"],
            ),
            ("mailto:Bob.O+x@Evil.Example.", &["Bob.O+x@evil.example"]),
            ("a@b@c.example@d.example", &["b@c.example"]),
            ("someone@localhost", &[]),
            (
                "https://u@h.example/x@y.example",
                &["https://u@h.example/x@y.example"],
            ),
            ("pay FI21 1234 5600 0007 85 now", &["FI2112345600000785"]),
            (
                "GB82WEST12345698765432, gb82 west 1234 5698 7654 33",
                &["GB82WEST12345698765432"],
            ),
            ("XFI2112345600000785", &[]),
            ("jörg@münchen.example", &["jörg@münchen.example"]),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
        let arguments =
            serde_json::json!({"a": [{"b": ["x http://a.example y"]}], "www.key.example": 1});
        let found = arguments.as_object().map(links).unwrap_or_default();
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_million_links_are_refused_in_bounded_time() {
        let mut text = String::new();
        for number in 0..1_000_000 {
            text.push('a');
            text.push_str(&number.to_string());
            text.push_str("@b.example ");
        }
        let before = std::time::Instant::now();
        assert_eq!(found(&text).len(), MOST_SINKS + 1);
        for hard in [
            "@",
            "http://",
            "http:",
            "\n",
            "\nhttp:\n",
            "/",
            "www.",
            "a@",
            "FI21 ",
            "a.",
            ":",
            "AB12",
        ] {
            let text = hard.repeat(1_000_000 / hard.len());
            assert!(found(&text).len() <= MOST_SINKS + 1, "{hard}");
        }
        assert!(before.elapsed().as_secs() < 120, "{:?}", before.elapsed());
    }

    #[test]
    fn an_address_is_one_whole_link() {
        for (text, is) in [
            ("a@b.example", true),
            ("https://a.example/x", true),
            ("www.a.example", true),
            ("to a@b.example", false),
            ("FI2112345600000785", false),
            ("Apple", false),
        ] {
            assert_eq!(is_address(text), is, "{text}");
        }
    }
}
