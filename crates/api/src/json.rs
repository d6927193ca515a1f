//! Strict JSON: what RFC 8259 leaves open and two parsers could read differently is refused (I-JSON, RFC 7493).
//!
//! serde_json keeps the last of two members of one name and rounds what a double cannot hold; a gateway in front may do
//! otherwise, and then the question that was checked is not the question that was asked. So the bytes are checked first.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde_json::{Number, Value};

/// The deepest nesting of arrays and objects.
const DEPTH: u32 = 32;
/// The largest whole number that every JSON reader holds exactly (RFC 7493 §2.2), and that RFC 8785 can write.
const EXACT: u64 = (1 << 53) - 1;
/// Up to this many members a linear search for duplicates is faster than hashing.
const FEW: usize = 16;

/// Why a body is refused, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    line: usize,
    column: usize,
    problem: Cow<'static, str>,
}

/// What a check learned about the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Whether a number is written with a point or an exponent, or is negative zero.
    pub(crate) fractions: bool,
}

/// Checks that `bytes` are one JSON object, or one array where `array` says so, that every reader understands alike.
///
/// # Errors
///
/// [`Malformed`] for a syntax error, anything but an object, nesting over 32, more than `nodes` values, a member name
/// twice in one object, a surrogate without its other half, a whole number beyond ±(2^53 − 1), a number no double
/// can hold, text that is not UTF-8, and anything after the object.
pub(crate) fn check(bytes: &[u8], nodes: usize, array: bool) -> Result<Checked, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Malformed::at(bytes, error.valid_up_to(), "the text is not UTF-8".into())
    })?;
    let mut reader = Checker {
        text,
        at: 0,
        nodes,
        names: Vec::new(),
        checked: Checked::default(),
    };
    let outcome = reader.document(array);
    let (at, checked) = (reader.at, reader.checked);
    outcome
        .map(|()| checked)
        .map_err(|problem| Malformed::at(bytes, at, problem))
}

/// Rewrites every number that is whole but written as a fraction (`1.0`, `1e2`, `-0`) as the integer it is.
///
/// The record is canonical JSON (RFC 8785), which has one spelling a number; the engine must see what is recorded.
pub(crate) fn unify_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *number = Number::from(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unify_numbers),
        Value::Object(members) => members.values_mut().for_each(unify_numbers),
        _ => {}
    }
}

/// Returns `float` as an integer where it is one and small enough to be exact.
fn whole(float: f64) -> Option<i64> {
    // Through text, because a cast would truncate silently where this reasoning is wrong.
    (float.fract() == 0.0 && !inexact(float)).then(|| format!("{float:.0}").parse().unwrap_or(0))
}

// === impl Malformed ===

impl Malformed {
    fn at(bytes: &[u8], offset: usize, problem: Cow<'static, str>) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Self {
            line: before.split(|byte| *byte == b'\n').count(),
            column: 1 + before.len() - line_start,
            problem,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.problem
        )
    }
}

struct Checker<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    /// The member names of every object that is still open, innermost last.
    names: Vec<Cow<'a, str>>,
    checked: Checked,
}

type Outcome = Result<(), Cow<'static, str>>;

// === impl Checker ===

impl<'a> Checker<'a> {
    fn document(&mut self, array: bool) -> Outcome {
        self.space();
        match (self.peek(), array) {
            (None, false) => return Err("the body is empty; a JSON object is expected".into()),
            (None, true) => return Err("the body is empty; a JSON array is expected".into()),
            (Some(b'{'), false) | (Some(b'['), true) => self.value(0)?,
            (Some(_), false) => return Err("the body must be a JSON object".into()),
            (Some(_), true) => return Err("the body must be a JSON array".into()),
        }
        self.space();
        if self.at < self.text.len() {
            return Err("there is something after the end of the value".into());
        }
        Ok(())
    }

    fn value(&mut self, depth: u32) -> Outcome {
        self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or("there are too many values")?;
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => Err("a JSON value is expected here".into()),
            None => Err("the text ends in the middle of a value".into()),
        }
    }

    fn object(&mut self, depth: u32) -> Outcome {
        self.open(depth)?;
        let first = self.names.len();
        let mut many = HashSet::new();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected("a member name in double quotes is expected"));
            }
            let start = self.at;
            let name = self.string()?;
            let mine = self.names.get(first..).unwrap_or_default();
            if mine.len() == FEW {
                many.extend(mine.iter().cloned());
            }
            let twice = if mine.len() < FEW {
                mine.contains(&name)
            } else {
                !many.insert(name.clone())
            };
            if twice {
                self.at = start;
                let shown: String = name.chars().take(80).collect();
                return Err(format!(
                    "the member `{}` appears twice in one object",
                    shown.escape_debug()
                )
                .into());
            }
            self.names.push(name);
            self.space();
            if !self.take(b':') {
                return Err(self.expected("`:` is expected after a member name"));
            }
            self.value(depth)?;
            self.space();
            if self.take(b',') {
                continue;
            }
            if !self.take(b'}') {
                return Err(self.expected("`,` or `}` is expected"));
            }
            self.names.truncate(first);
            return Ok(());
        }
    }

    fn array(&mut self, depth: u32) -> Outcome {
        self.open(depth)?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            if self.take(b',') {
                continue;
            }
            if !self.take(b']') {
                return Err(self.expected("`,` or `]` is expected"));
            }
            return Ok(());
        }
    }

    /// Steps over the bracket that opens an array or object, and the space behind it.
    fn open(&mut self, depth: u32) -> Outcome {
        if depth > DEPTH {
            return Err("arrays and objects are nested more than 32 deep".into());
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Reads a string, and returns what it says once its escapes are resolved.
    fn string(&mut self) -> Result<Cow<'a, str>, Cow<'static, str>> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => {
                    return Err("a control character in a string must be escaped".into());
                }
                Some(_) => self.at += 1,
                None => return Err("the text ends in the middle of a string".into()),
            }
        }
        self.at += 1;
        if escaped {
            let quoted = self.text.get(start..self.at).unwrap_or_default();
            return serde_json::from_str(quoted)
                .map(Cow::Owned)
                .map_err(|_| "a string is not valid".into());
        }
        Ok(Cow::Borrowed(
            self.text.get(start + 1..self.at - 1).unwrap_or_default(),
        ))
    }

    fn escape(&mut self) -> Outcome {
        let start = self.at;
        self.at += 1;
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let whole = match self.hex()? {
                    0xD800..0xDC00 => {
                        self.next() == Some(b'\\')
                            && self.next() == Some(b'u')
                            && (0xDC00..0xE000).contains(&self.hex()?)
                    }
                    0xDC00..0xE000 => false,
                    _ => true,
                };
                if whole {
                    return Ok(());
                }
                self.at = start;
                Err("a string holds half of a surrogate pair".into())
            }
            Some(_) => {
                Err("`\\` in a string is followed by something that is not an escape".into())
            }
            None => Err("the text ends in the middle of a string".into()),
        }
    }

    fn hex(&mut self) -> Result<u32, Cow<'static, str>> {
        let digits = self.text.get(self.at..self.at + 4);
        let value = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or("`\\u` is not followed by four hexadecimal digits")?;
        self.at += 4;
        Ok(value)
    }

    fn number(&mut self) -> Outcome {
        let start = self.at;
        self.take(b'-');
        if self.take(b'0') {
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err("a number must not start with a zero".into());
            }
        } else {
            self.digits()?;
        }
        let mut fraction = false;
        if self.take(b'.') {
            fraction = true;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            fraction = true;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if fraction || text == "-0" {
            self.checked.fractions = true;
            if !text
                .parse::<f64>()
                .is_ok_and(|float| float.is_finite() && !inexact(float))
            {
                self.at = start;
                return Err("this number is too large to be exact; send it as a string".into());
            }
            return Ok(());
        }
        if text
            .trim_start_matches('-')
            .parse::<u64>()
            .is_ok_and(|whole| whole <= EXACT)
        {
            return Ok(());
        }
        self.at = start;
        Err("this number is too large to be exact (beyond 2^53 - 1); send it as a string".into())
    }

    fn digits(&mut self) -> Outcome {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if start == self.at {
            Err(self.expected("a digit is expected"))
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &str) -> Outcome {
        if self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word))
        {
            self.at += word.len();
            return Ok(());
        }
        Err("a JSON value is expected here".into())
    }

    fn expected(&self, what: &'static str) -> Cow<'static, str> {
        if self.at < self.text.len() {
            what.into()
        } else {
            "the text ends too early".into()
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
            if matches!(byte, b',' | b':') {
                self.space();
            }
        }
        found
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// Whether a whole number written as a fraction or with an exponent is too large to be exact.
fn inexact(float: f64) -> bool {
    float.fract() == 0.0 && float.abs() >= 9_007_199_254_740_992.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<String> {
        check(text.as_bytes(), 100, false)
            .err()
            .map(|malformed| malformed.to_string())
    }

    #[test]
    fn refuses_what_readers_may_read_differently() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
        for (text, expected) in [
            (
                "",
                "line 1, column 1: the body is empty; a JSON object is expected",
            ),
            ("[1]", "line 1, column 1: the body must be a JSON object"),
            (
                r#"{"a":1} x"#,
                "line 1, column 9: there is something after the end of the value",
            ),
            (
                "{\"a\":1,\n \"a\":2}",
                "line 2, column 2: the member `a` appears twice in one object",
            ),
            (
                r#"{"a":{"b":1,"\u0062":2}}"#,
                "line 1, column 13: the member `b` appears twice in one object",
            ),
            (
                r#"{"a":[{"b":1,"b":1}]}"#,
                "line 1, column 14: the member `b` appears twice in one object",
            ),
            (
                r#"{"a":"\ud800"}"#,
                "line 1, column 7: a string holds half of a surrogate pair",
            ),
            (
                r#"{"a":"\udc00x"}"#,
                "line 1, column 7: a string holds half of a surrogate pair",
            ),
            (r#"{"a":1"#, "line 1, column 7: the text ends too early"),
            (
                r#"{"a":"#,
                "line 1, column 6: the text ends in the middle of a value",
            ),
            (
                r#"{"a":"b"#,
                "line 1, column 8: the text ends in the middle of a string",
            ),
            (
                r#"{"a":01}"#,
                "line 1, column 7: a number must not start with a zero",
            ),
            (
                r#"{"a":9007199254740992}"#,
                "line 1, column 6: this number is too large to be exact (beyond 2^53 - 1); send it as a string",
            ),
            (
                r#"{"a":1e400}"#,
                "line 1, column 6: this number is too large to be exact; send it as a string",
            ),
            (
                r#"{"a":nul}"#,
                "line 1, column 6: a JSON value is expected here",
            ),
            (
                r"{a:1}",
                "line 1, column 2: a member name in double quotes is expected",
            ),
            (
                "{\"a\":\"\u{1}\"}",
                "line 1, column 7: a control character in a string must be escaped",
            ),
            (
                &deep,
                "line 1, column 161: arrays and objects are nested more than 32 deep",
            ),
        ] {
            assert_eq!(problem(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_too_many_values_and_finds_duplicates_among_many() {
        let wide = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(100));
        let many: Vec<String> = (0..40).map(|n| format!(r#""m{n}":1"#)).collect();
        let many = many.join(",") + ",";
        assert!(
            problem(&wide).is_some_and(|problem| problem.ends_with("there are too many values"))
        );
        assert!(
            problem(&format!(r#"{{{many}"m3":1}}"#))
                .is_some_and(|problem| problem.contains("`m3`"))
        );
        assert_eq!(problem(&format!(r#"{{{many}"m":1}}"#)), None);
        assert!(check(b"{\"a\":\"\xff\"}", 10, false).is_err());
    }

    #[test]
    fn accepts_what_is_well_formed() {
        for text in [
            "{}",
            " {\r\n\t} ",
            r#"{"a":[],"b":{},"c":[{"a":1},{"a":1}],"d":{"a":null}}"#,
            r#"{"a":"\ud83d\ude00 \"\\\/\b\f\n\r\t é","b":-0.5e-3,"c":true,"d":false}"#,
            r#"{"a":9007199254740991,"b":-9007199254740991,"c":0}"#,
        ] {
            assert_eq!(problem(text), None, "{text}");
            assert!(serde_json::from_str::<Value>(text).is_ok());
        }
    }

    #[test]
    fn whole_numbers_get_one_spelling() {
        let text = br#"{"a":[1.0,-0,1e2,1.5,-0.0,3],"b":-2.0,"c":[9007199254740991.0,-9.005e15]}"#;
        assert_eq!(check(text, 100, false), Ok(Checked { fractions: true }));
        let mut value: Value = serde_json::from_slice(text).unwrap_or_default();
        unify_numbers(&mut value);
        assert_eq!(
            value.to_string(),
            r#"{"a":[1,0,100,1.5,0,3],"b":-2,"c":[9007199254740991,-9005000000000000]}"#
        );
    }
}
