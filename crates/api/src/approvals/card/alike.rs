//! Look-alikes: recipients that a reader takes for others.
//!
//! Covered are letters of Cyrillic, Greek and full width that look like Latin ones, Latin letters with marks, the case of
//! letters, digits that look like letters (`0` and `o`, `1`, `l` and `i`, `5` and `s`), `rn` for `m`, `vv` for `w`, and
//! what separates: `-`, `_` and `.`. Nothing else is: no other scripts, no words that mean the same.

/// Returns the one that a recipient looks like, of those that are known, where it is none of them.
pub(crate) fn looks_like<'k>(
    value: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Option<&'k str> {
    if known.clone().any(|one| one == value) {
        return None;
    }
    let skeleton = skeleton(value);
    known
        .into_iter()
        .find(|one| self::skeleton(one) == skeleton)
}

/// Reduces a text to what it looks like.
fn skeleton(text: &str) -> String {
    let mut bones = String::with_capacity(text.len());
    for character in text.chars().flat_map(char::to_lowercase) {
        match latin(character) {
            '-' | '_' | '.' | ' ' => {}
            '0' => bones.push('o'),
            '1' | 'i' | '|' => bones.push('l'),
            '5' => bones.push('s'),
            other if is_mark(other) => {}
            other => bones.push(other),
        }
    }
    bones.replace("rn", "m").replace("vv", "w")
}

/// Whether a character stands over the one before it, or has no width.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{0300}'..='\u{036F}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}' | '\u{00AD}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Returns the letter of ASCII that a letter looks like, or itself.
fn latin(character: char) -> char {
    match character {
        'а' | 'α' | 'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'в' | 'β' => 'b',
        'с' | 'ϲ' | 'ç' | 'ć' | 'č' => 'c',
        'ԁ' | 'ď' | 'đ' => 'd',
        'е' | 'ё' | 'є' | 'ε' | 'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
        'ɡ' | 'ğ' | 'ġ' => 'g',
        'н' | 'һ' | 'ħ' => 'h',
        'і' | 'ї' | 'ι' | 'ì'..='ï' | 'ī' | 'į' | 'ı' | 'ӏ' | 'ł' | 'ℓ' => 'l',
        'ј' => 'j',
        'к' | 'κ' | 'ķ' => 'k',
        'м' | 'μ' => 'm',
        'п' | 'ո' | 'η' | 'ñ' | 'ń' | 'ň' => 'n',
        'о' | 'ο' | 'σ' | 'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'г' | 'ř' | 'ŕ' => 'r',
        'ѕ' | 'ś' | 'š' | 'ş' => 's',
        'т' | 'τ' | 'ť' | 'ţ' => 't',
        'υ' | 'ս' | 'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ѵ' | 'ν' => 'v',
        'ԝ' | 'ω' | 'ŵ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ý' | 'ÿ' => 'y',
        'ζ' | 'ź' | 'ż' | 'ž' => 'z',
        '\u{FF01}'..='\u{FF5E}' => {
            // Full width stands at a fixed distance.
            char::from_u32(u32::from(character).saturating_sub(0xFEE0)).unwrap_or(character)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_known_one_is_found() {
        let known = [
            "billing@acme.example",
            "GB33BUKB20201555555555",
            "modern.example",
        ];
        for (value, like) in [
            ("billing@acme.example", None),
            ("bi11ing@acme.example", Some("billing@acme.example")),
            ("billing@аcme.example", Some("billing@acme.example")),
            ("BILLING@ACME.EXAMPLE", Some("billing@acme.example")),
            ("billing@αcmε.example", Some("billing@acme.example")),
            ("bil\u{200B}ling@acme.example", Some("billing@acme.example")),
            (
                "bil\u{1BCA0}ling@acme.example",
                Some("billing@acme.example"),
            ),
            ("billing@ac-me.example", Some("billing@acme.example")),
            ("ｂilling@acme.example", Some("billing@acme.example")),
            ("GB33BUKB2O2O1555555555", Some("GB33BUKB20201555555555")),
            ("rnodern.example", Some("modern.example")),
            ("billing@acme.example.net", None),
            ("somebody@else.example", None),
        ] {
            assert_eq!(looks_like(value, known.into_iter()), like, "{value}");
        }
    }
}
