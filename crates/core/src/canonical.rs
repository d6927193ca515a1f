//! Canonical JSON: one spelling for every value, so that a hash of it means something.
//!
//! It stands on the answering path, once a decision, so it is a formatter of serde_json's own serializer that writes
//! straight into the result. Members are put in order only where they are not in order already: the recorded types
//! declare theirs sorted, and serde_json's maps keep theirs sorted.

use std::io::{self, Write};
use std::ops::Range;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Every integer up to here is its own double, and so spelled alike by every implementation (RFC 8785 §3.2.2.3).
const EXACT: u64 = 1 << 53;

/// Writes `value` as canonical JSON (RFC 8785).
///
/// # Errors
///
/// When `value` is not JSON: a map with keys that are not text, or a number that is not finite.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut canonical = Canonical {
        out: Vec::with_capacity(1 << 10),
        ..Canonical::default()
    };
    value.serialize(&mut Serializer::with_formatter(io::sink(), &mut canonical))?;
    Ok(canonical.out)
}

/// What is written, and where the members of the objects begin that are still open.
#[derive(Debug, Default)]
struct Canonical {
    out: Vec<u8>,
    /// The open objects, innermost last.
    open: Vec<Open>,
    /// Where each of their members begins, those of the innermost last.
    members: Vec<usize>,
}

/// An object that is still open.
#[derive(Debug)]
struct Open {
    /// How many members those outside it have.
    outside: usize,
    /// Where the text of its last key is.
    last: Range<usize>,
    /// Whether its keys are sorted so far.
    sorted: bool,
}

// === impl Canonical ===

impl Canonical {
    fn number(&mut self, number: f64) -> io::Result<()> {
        if !number.is_finite() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a number that is not finite is not JSON",
            ));
        }
        self.text(ryu_js::Buffer::new().format_finite(number))
    }

    fn unsigned(&mut self, number: u64) -> io::Result<()> {
        if number > EXACT {
            return self.double(&number);
        }
        self.text(itoa::Buffer::new().format(number))
    }

    fn signed(&mut self, number: i64) -> io::Result<()> {
        if number.unsigned_abs() > EXACT {
            return self.double(&number);
        }
        self.text(itoa::Buffer::new().format(number))
    }

    /// Writes the double that is nearest to a number given in digits.
    fn double(&mut self, digits: &impl ToString) -> io::Result<()> {
        let number = digits.to_string().parse();
        self.number(number.map_err(io::Error::other)?)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "every method of a formatter returns what this does"
    )]
    fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Notes that the key which begins where the innermost object's last member does ends here.
    fn end_key(&mut self) {
        let (Some(open), Some(begin)) = (self.open.last_mut(), self.members.last()) else {
            return;
        };
        let key = begin + 1..self.out.len() - 1;
        let text = |range: &Range<usize>| self.out.get(range.clone()).unwrap_or_default();
        let (before, this) = (text(&open.last), text(&key));
        // By bytes where that is the order of UTF-16 code units as well; else the slow way decides.
        let first = open.last.is_empty() && self.members.len() == open.outside + 1;
        open.sorted &= first || (plain(before) && plain(this) && before < this);
        open.last = key;
    }

    /// Puts the members of the innermost object in the order of their keys (RFC 8785 §3.2.3).
    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        if !open.sorted {
            sort(
                &mut self.out,
                self.members.get(open.outside..).unwrap_or_default(),
            )?;
        }
        self.members.truncate(open.outside);
        Ok(())
    }
}

/// Puts the members that begin there, the last thing in `out`, in the order of their keys.
fn sort(out: &mut Vec<u8>, begins: &[usize]) -> io::Result<()> {
    let Some(first) = begins.first().copied() else {
        return Ok(());
    };
    let mut members = Vec::with_capacity(begins.len());
    // Between two members there is a comma; after the last one there is nothing yet.
    let ends = begins
        .iter()
        .skip(1)
        .map(|next| next - 1)
        .chain([out.len()]);
    for (begin, end) in begins.iter().zip(ends) {
        let member = out.get(*begin..end).unwrap_or_default();
        let mut keys = serde_json::Deserializer::from_slice(member).into_iter::<String>();
        let key = keys.next().transpose()?.unwrap_or_default();
        members.push((key.encode_utf16().collect::<Vec<u16>>(), member.to_vec()));
    }
    members.sort();
    out.truncate(first);
    for (place, (_, member)) in members.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&member);
    }
    Ok(())
}

/// Whether the text of a key has no escape and no character from U+E000 on, which UTF-16 sorts apart from UTF-8.
fn plain(key: &[u8]) -> bool {
    key.iter().all(|byte| *byte < 0xee && *byte != b'\\')
}

macro_rules! integers {
    ($($method:ident: $kind:ty as $wide:ident;)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, _: &mut W, value: $kind) -> io::Result<()> {
            self.$wide(value.into())
        }
    )*};
}

macro_rules! texts {
    ($($method:ident($($argument:ident: $kind:ty)?) $text:literal;)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, _: &mut W $(, $argument: $kind)?) -> io::Result<()> {
            self.text($text)
        }
    )*};
}

/// The writer that serde_json hands in goes nowhere: what an object holds may have to be moved before it is passed on.
impl Formatter for &mut Canonical {
    integers! {
        write_i8: i8 as signed;
        write_i16: i16 as signed;
        write_i32: i32 as signed;
        write_i64: i64 as signed;
        write_u8: u8 as unsigned;
        write_u16: u16 as unsigned;
        write_u32: u32 as unsigned;
        write_u64: u64 as unsigned;
        write_f32: f32 as number;
        write_f64: f64 as number;
    }

    texts! {
        write_null() "null";
        begin_string() "\"";
        end_string() "\"";
        begin_array() "[";
        end_array() "]";
        begin_object_value() ":";
    }

    fn write_bool<W: ?Sized + Write>(&mut self, _: &mut W, value: bool) -> io::Result<()> {
        self.text(if value { "true" } else { "false" })
    }

    fn write_i128<W: ?Sized + Write>(&mut self, _: &mut W, value: i128) -> io::Result<()> {
        self.double(&value)
    }

    fn write_u128<W: ?Sized + Write>(&mut self, _: &mut W, value: u128) -> io::Result<()> {
        self.double(&value)
    }

    fn write_number_str<W: ?Sized + Write>(&mut self, _: &mut W, value: &str) -> io::Result<()> {
        self.double(&value)
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.text(fragment)
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.text(match escape {
            CharEscape::Quote => "\\\"",
            CharEscape::ReverseSolidus => "\\\\",
            CharEscape::Solidus => "/",
            CharEscape::Backspace => "\\b",
            CharEscape::FormFeed => "\\f",
            CharEscape::LineFeed => "\\n",
            CharEscape::CarriageReturn => "\\r",
            CharEscape::Tab => "\\t",
            CharEscape::AsciiControl(byte) => return write!(self.out, "\\u{byte:04x}"),
        })
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, _: &mut W, _: &str) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "text that is JSON already cannot be made canonical",
        ))
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        self.text(if first { "" } else { "," })
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.open.push(Open {
            outside: self.members.len(),
            last: 0..0,
            sorted: true,
        });
        self.text("{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.close()?;
        self.text("}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        self.text(if first { "" } else { "," })?;
        self.members.push(self.out.len());
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.end_key();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn both(value: &impl Serialize) -> (String, String) {
        let ours = canonical_json(value).unwrap_or_default();
        let theirs = serde_json_canonicalizer::to_vec(value).unwrap_or_default();
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        (text(ours), text(theirs))
    }

    #[test]
    fn writes_as_another_implementation_does() {
        for value in [
            json!({}),
            json!([]),
            json!({"": {"": []}, "a": [{}, {"b": null}]}),
            json!({"z": 1, "a": {"y": [true, false, null], "b": -0.0}, "\u{1}": "\u{1}\u{7f}\"\\/\u{8}\u{c}\n\r\t"}),
            json!({"\u{e000}": 1, "\u{10000}": 2, "\u{d7ff}": 3, "é": 4, "e\u{301}": 5, "\\": 6, "\"": 7, "]": 8}),
            json!([
                9_007_199_254_740_992_u64,
                9_007_199_254_740_993_u64,
                u64::MAX,
                i64::MIN,
                i64::MAX,
                0,
                -1
            ]),
            json!([
                1e21,
                1e-7,
                0.1,
                1.5,
                100.0,
                5e-324,
                f64::MAX,
                123_456_789.125
            ]),
        ] {
            let (ours, theirs) = both(&value);
            assert_eq!(ours, theirs, "{value}");
            let again: Value = serde_json::from_str(&ours).unwrap_or_default();
            assert_eq!(
                both(&again).0,
                ours,
                "writing what was read changes nothing"
            );
        }
    }

    #[test]
    fn sorts_members_that_come_in_another_order() {
        #[derive(Serialize)]
        struct Outer {
            z: u8,
            a: Inner,
            m: Vec<Inner>,
        }
        #[derive(Serialize)]
        struct Inner {
            b: f32,
            a: char,
        }
        let inner = || Inner { b: 1.0, a: 'x' };
        let value = Outer {
            z: 1,
            a: inner(),
            m: vec![inner(), inner()],
        };
        let (ours, theirs) = both(&value);
        assert_eq!(ours, theirs);
        assert!(ours.starts_with(r#"{"a":{"a":"x","b":1},"m":"#), "{ours}");
    }

    #[test]
    fn refuses_what_is_not_json() {
        assert!(canonical_json(&f64::NAN).is_ok_and(|text| text == b"null"));
        assert!(canonical_json(&std::collections::BTreeMap::from([((1, 2), 3)])).is_err());
    }
}
