//! Trusted sinks: who and what a task may affect because it was said beforehand.

use std::collections::BTreeSet;
use std::ops::Range;

use smol_str::SmolStr;
use unicode_normalization::UnicodeNormalization;

use super::Declaration;
use crate::tool::each_link;
use crate::{MOST_SINKS, is_address, is_nfc, sink_hash};

/// A number of fewer digits is, in prose, a count or a part of a date.
const NUMBER: usize = 4;
/// What joins parts of an address to a longer one.
const PARTS: [char; 6] = ['.', '-', '@', '/', '_', '\\'];
/// What joins parts of names, paths and times to longer ones.
const JOINTS: [char; 7] = ['.', '-', '@', '/', '_', '\\', ':'];
/// What stands in the place of an address, so that the words around it do not meet.
const NOTHING: char = '\0';

/// Returns those of a call's sinks and links that its task trusts.
///
/// Trusted is what was declared, what stands in the intent as a whole token, and what a trusted tool returned (`trusted`
/// has the [hashes](sink_hash), sorted). An address counts as named in the intent in whatever case: an e-mail address
/// where it is the whole address, a web address also where it is one in the intent up to a `/`, `?` or `#`, so that the
/// host is the same. What is a part of an address or an account number, or of a longer name (`Bob` of `Bob-Smith`), is no
/// token; a number of at most three digits is one only where it is quoted or follows `#`, since in prose it is a count or
/// a date. The candidates are in their
/// [one spelling](crate::canonical_sink), as are declared ones. Of more than a call may name none is trusted.
pub fn trusted_sinks<'c>(
    declaration: &Declaration,
    trusted: &[[u8; 16]],
    candidates: impl IntoIterator<Item = &'c SmolStr>,
) -> BTreeSet<SmolStr> {
    let mut intent = None;
    let candidates: Vec<&SmolStr> = candidates.into_iter().take(2 * MOST_SINKS + 1).collect();
    if candidates.len() > 2 * MOST_SINKS {
        return BTreeSet::new();
    }
    let mut found = BTreeSet::new();
    for sink in candidates {
        let declared = declaration
            .sinks
            .as_ref()
            .is_some_and(|sinks| sinks.contains(sink));
        let known = declared
            || (!trusted.is_empty() && trusted.binary_search(&sink_hash(sink)).is_ok())
            || (!declaration.intent.is_empty()
                && intent
                    .get_or_insert_with(|| Intent::of(&declaration.intent))
                    .names(sink));
        if known {
            found.insert(sink.clone());
        }
    }
    found
}

/// The words of a task, ready to be searched.
struct Intent {
    /// The words, with nothing in the place of addresses and account numbers.
    text: String,
    /// The addresses and account numbers in it, in lower case.
    links: BTreeSet<String>,
}

// === impl Intent ===

impl Intent {
    fn of(intent: &str) -> Self {
        let text: String = if is_nfc(intent) {
            intent.to_owned()
        } else {
            intent.nfc().collect()
        };
        let mut links = BTreeSet::new();
        let mut words = String::with_capacity(text.len());
        let mut rest = 0;
        each_link(&text, |link, place| {
            words.push_str(text.get(rest..place.start).unwrap_or_default());
            words.push(NOTHING);
            rest = place.end;
            // One that does not stand by itself is a part of something else.
            if is_alone(&text, &place, &PARTS) {
                links.insert(link.to_lowercase());
            }
            true
        });
        words.push_str(text.get(rest..).unwrap_or_default());
        Self { text: words, links }
    }

    fn names(&self, sink: &str) -> bool {
        if sink.is_empty() || sink.contains(NOTHING) {
            return false;
        }
        let lower = sink.to_lowercase();
        if self.links.contains(&lower) {
            return true;
        }
        if !is_address(sink) {
            let short = sink.len() < NUMBER && sink.bytes().all(|byte| byte.is_ascii_digit());
            return has_token(
                &self.text,
                sink,
                if short { is_pointed_at } else { anywhere },
            );
        }
        // An e-mail address may be a part of a longer one, which is somebody else's.
        (sink.contains("://") || !sink.contains('@'))
            && self.links.iter().any(|link| begins_with(link, &lower))
    }
}

/// A place within a text is as good as another.
fn anywhere(_: Option<char>, _: Option<char>) -> bool {
    true
}

/// Whether what stands between these is quoted, or numbered: `'13'`, `#13`.
fn is_pointed_at(before: Option<char>, after: Option<char>) -> bool {
    match before {
        Some('#') => true,
        Some(mark @ ('\'' | '"' | '`')) => after == Some(mark),
        Some('‘') => after == Some('’'),
        Some('“') => after == Some('”'),
        _ => false,
    }
}

/// Whether a web address is another one, or that one goes on from it with a path, a query or a fragment.
fn begins_with(link: &str, address: &str) -> bool {
    let same = |link: &str| {
        let after = link.strip_prefix(address);
        after.is_some_and(|after| after.is_empty() || after.starts_with(['/', '?', '#']))
    };
    same(link)
        || link
            .split_once("://")
            .is_some_and(|(_, link)| address.starts_with("www.") && same(link))
}

/// Whether a text has a token whole, in a place that counts.
fn has_token(text: &str, token: &str, counts: fn(Option<char>, Option<char>) -> bool) -> bool {
    text.match_indices(token).any(|(at, _)| {
        let place = at..at + token.len();
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(place.end..).and_then(|after| after.chars().next());
        is_alone(text, &place, &JOINTS) && counts(before, after)
    })
}

/// Whether what stands in a place is no part of a longer word: nothing alphanumeric on either side, and no joint with
/// something alphanumeric behind it.
fn is_alone(text: &str, place: &Range<usize>, joints: &[char]) -> bool {
    let mut before = text.get(..place.start).unwrap_or_default().chars().rev();
    let mut after = text.get(place.end..).unwrap_or_default().chars();
    let alone = |first: Option<char>, second: Option<char>| {
        let part = |mark: Option<char>| mark.is_some_and(char::is_alphanumeric);
        let joint = first.is_some_and(|mark| joints.contains(&mark));
        !part(if joint { second } else { first })
    };
    let ends = |marks: &mut dyn Iterator<Item = char>| alone(marks.next(), marks.next());
    ends(&mut before) && ends(&mut after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, EntityUid, Timestamp, canonical_sink};

    fn declaration(intent: &str, sinks: &[&str]) -> Declaration {
        Declaration {
            actions: None,
            agent: EntityUid::new("Agent", "a"),
            budget: Budget::default(),
            data_classes: None,
            expires_at: Timestamp::from_micros(0),
            intent: intent.to_owned(),
            may_delegate: false,
            on_behalf_of: None,
            parent: None,
            purpose: SmolStr::new("test"),
            resources: None,
            sinks: Some(sinks.iter().map(|sink| canonical_sink(sink)).collect()),
            template: None,
            window: None,
        }
    }

    #[test]
    fn a_sink_is_trusted_where_it_was_said() {
        let intent = "Pay Alder Store 5 euros from FI21 1234 5600 0007 85, tell evil.bob@acme.example and Ann@ACME.example (https://Shop.example/A, www.it.example). \
            See https://my.co-op.example/pay?x=1, https://www.acme.co.example/y and abc.www.part.example; from GB82 WEST 1234 5698 7654 32 to Bob-Smith.";
        for (sink, trusted) in [
            ("declared@acme.example", true),
            ("Alder Store", true),
            ("apple store", false),
            ("Appl", false),
            ("pple Store", false),
            ("FI2112345600000785", true),
            ("bob@acme.example", false),
            ("evil.bob@acme.example", true),
            ("ann@acme.example", true),
            ("https://shop.example/a", true),
            ("https://shop.example", true),
            ("https://shop.exampl", false),
            ("www.it.example", true),
            ("mallory@acme.example", false),
            ("returned by a tool", true),
            ("https://my.co", false),
            ("https://my.co-op.example", true),
            ("https://my.co-op.example/pay", true),
            ("https://my.co-op.example/p", false),
            ("http://my.co-op.example", false),
            ("https://acme.co", false),
            ("www.part.example", false),
            ("www.acme.co", false),
            ("www.acme.co.example", true),
            ("GB82WEST12345698765432", true),
            ("1234", false),
            ("WEST", false),
            ("Bob", false),
            ("Bob-Smith", true),
            ("\0", false),
        ] {
            let declaration = declaration(
                intent,
                &["Declared@ACME.example"
                    .replace("Declared", "declared")
                    .as_str()],
            );
            let hashes = [sink_hash("returned by a tool")];
            let sink = canonical_sink(sink);
            let found = trusted_sinks(&declaration, &hashes, [&sink]);
            assert_eq!(found.contains(&sink), trusted, "{sink}");
        }
    }

    #[test]
    fn a_short_number_is_a_name_only_where_it_is_pointed_at() {
        for (intent, sink, trusted) in [
            ("What do we do on June 13?", "13", false),
            ("Give me 7 of them", "7", false),
            ("Delete the file with the id '13'.", "13", true),
            ("Delete the file \"13\".", "13", true),
            ("Close ticket #13, please", "13", true),
            ("Delete 'file 13'.", "13", false),
            ("Delete file 1234.", "1234", true),
            ("Tell Bob", "Bob", true),
        ] {
            let sink = canonical_sink(sink);
            let found = trusted_sinks(&declaration(intent, &[]), &[], [&sink]);
            assert_eq!(found.contains(&sink), trusted, "{intent}: {sink}");
        }
        let declared = declaration("", &["13"]);
        assert_eq!(
            trusted_sinks(&declared, &[], [&SmolStr::new("13")]).len(),
            1
        );
    }

    #[test]
    fn of_more_than_a_call_may_name_none_is_trusted() {
        let named: Vec<SmolStr> = (0..=2 * MOST_SINKS)
            .map(|_| SmolStr::new("Apple"))
            .collect();
        let declaration = declaration(&"Apple ".repeat(2_000), &[]);
        assert!(trusted_sinks(&declaration, &[], &named).is_empty());
        assert_eq!(
            trusted_sinks(&declaration, &[], named.iter().take(2 * MOST_SINKS)).len(),
            1
        );
    }
}
