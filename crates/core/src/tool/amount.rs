//! Amounts: how much a call pays, as a whole number of the smallest unit.

use serde_json::{Map, Number, Value};

use super::Tool;

/// The most decimal places that an amount may count.
const MOST_SCALE: u8 = 9;
/// The greatest amount: up to here every JSON reader tells whole numbers apart.
const MOST: u64 = (1 << 53) - 1;

/// An argument that is no amount: missing, not a number, below zero, too great, or with too many decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a number from 0 to 9007199254740991 in its smallest unit, with at most the declared decimal places, was expected"
)]
pub struct AmountError;

// === impl Tool ===

impl Tool {
    /// Returns how much a call with these arguments pays; 0 where the tool pays nothing.
    ///
    /// A number, or a text that is one in digits with at most one point, such as `10.50`.
    ///
    /// # Errors
    ///
    /// [`AmountError`].
    pub fn amount_of(&self, arguments: &Map<String, Value>) -> Result<u64, AmountError> {
        let Some(amount) = &self.amount else {
            return Ok(0);
        };
        let mut names = amount.argument.split('.');
        let first = names.next().and_then(|name| arguments.get(name));
        let value = names.fold(first, |value, name| value?.get(name));
        let text = match value {
            Some(Value::Number(number)) => digits(number),
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        text.and_then(|text| whole(&text, amount.scale))
            .ok_or(AmountError)
    }
}

/// Writes a number in digits, without an exponent.
fn digits(number: &Number) -> Option<String> {
    match number.as_f64() {
        _ if !number.is_f64() => Some(number.to_string()),
        // Displayed in the fewest digits that mean the same double, which are those it was written in.
        Some(double) => Some(format!("{double}")),
        None => None,
    }
}

/// Reads digits with at most one point as a whole number of 10^-scale.
fn whole(text: &str, scale: u8) -> Option<u64> {
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let after = after.trim_end_matches('0');
    if scale > MOST_SCALE
        || !all_digits(before)
        || !(after.is_empty() || all_digits(after))
        || text.ends_with('.')
    {
        return None;
    }
    let missing = usize::from(scale).checked_sub(after.len())?;
    let number: u64 = format!("{before}{after}{}", "0".repeat(missing))
        .parse()
        .ok()?;
    (number <= MOST).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        for (text, scale, expected) in [
            ("10.5", 2, Some(1050)),
            ("10", 2, Some(1000)),
            ("0.1", 1, Some(1)),
            ("1.10", 1, Some(11)),
            ("1.11", 1, None),
            ("0", 0, Some(0)),
            ("-1", 2, None),
            ("1.", 2, None),
            (".5", 2, None),
            ("", 2, None),
            ("1e3", 2, None),
            ("9007199254740991", 0, Some(MOST)),
            ("9007199254740992", 0, None),
            ("99999999999999999999999", 0, None),
            ("1", 10, None),
        ] {
            assert_eq!(whole(text, scale), expected, "{text} {scale}");
        }
        let double = |number| Number::from_f64(number).and_then(|number| digits(&number));
        assert_eq!(
            double(0.29).as_deref().and_then(|text| whole(text, 2)),
            Some(29)
        );
        assert_eq!(
            double(1e3).as_deref().and_then(|text| whole(text, 2)),
            Some(100_000)
        );
        assert_eq!(
            double(-0.0).as_deref().and_then(|text| whole(text, 2)),
            None
        );
        assert_eq!(
            double(1e-9).as_deref().and_then(|text| whole(text, 2)),
            None
        );
    }
}
