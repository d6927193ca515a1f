//! Text of others, made plain: what cannot be seen is made visible, and no two texts look the same.

use std::fmt::Write as _;

/// The most characters of one text.
const MOST: usize = 2_000;
/// The most marks on one character; no script that is written needs more, and a heap of them covers what is beside it.
const MOST_MARKS: usize = 4;

/// Writes a text so that everything in it can be seen, whole.
///
/// Control characters, those that change the direction, those without width and those that look like nothing become
/// `\u{202E}`; line breaks too, so that no text begins a line of its own; and marks that are on nothing, or more than four on
/// one character. So does a backslash before what would read as one of these, so that different texts stay different.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0_usize;
    for (at, character) in text.char_indices() {
        marks = if is_mark(character) {
            marks.saturating_add(1)
        } else {
            0
        };
        let heaped = marks > MOST_MARKS || (marks > 0 && at == 0);
        let forges =
            character == '\\' && text.get(at..).is_some_and(|rest| rest.starts_with("\\u{"));
        if forges || heaped || is_hidden(character) {
            // Writing to a text cannot fail.
            let _ = write!(shown, "\\u{{{:X}}}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Writes a text like [`plain`], cut to 2,000 characters where nothing is decided by it.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        None => plain(text),
        Some((end, _)) => {
            let (head, rest) = text.split_at(end);
            format!("{}… ({} more)", plain(head), rest.chars().count())
        }
    }
}

/// Whether a character is not seen as itself.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{2000}'..='\u{200F}' | '\u{2028}'..='\u{202F}' | '\u{205F}'..='\u{206F}'
                | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{00A0}' | '\u{1680}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
                | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFC}' | '\u{FFFE}' | '\u{FFFF}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
                | '\u{13430}'..='\u{1343F}' | '\u{E000}'..='\u{F8FF}' | '\u{E0000}'..='\u{10FFFF}'
        )
}

/// Whether a character is drawn on the one before it.
fn is_mark(character: char) -> bool {
    matches!(
        character,
        '\u{0300}'..='\u{036F}' | '\u{0483}'..='\u{0489}' | '\u{0591}'..='\u{05BD}' | '\u{0610}'..='\u{061A}'
            | '\u{064B}'..='\u{065F}' | '\u{06D6}'..='\u{06DC}' | '\u{0E34}'..='\u{0E3A}' | '\u{0E47}'..='\u{0E4E}'
            | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{3099}' | '\u{309A}'
            | '\u{FE20}'..='\u{FE2F}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_shown() {
        for (text, shown) in [
            ("pay Bob", "pay Bob"),
            ("Zoë, Ωmega, 東京", "Zoë, Ωmega, 東京"),
            ("a\u{202E}b", "a\\u{202E}b"),
            ("a\u{200B}b", "a\\u{200B}b"),
            ("a\nb\0", "a\\u{A}b\\u{0}"),
            ("\u{1b}[31mred", "\\u{1B}[31mred"),
            ("<b>&", "<b>&"),
            ("\u{E0041}", "\\u{E0041}"),
            ("a\\u{200B}b", "a\\u{5C}u{200B}b"),
            ("C:\\users", "C:\\users"),
            ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
            ("a\u{061C}b", "a\\u{61C}b"),
            ("a\u{1BCA0}b\u{13430}", "a\\u{1BCA0}b\\u{13430}"),
            ("a\u{FFFC}\u{FFFE}", "a\\u{FFFC}\\u{FFFE}"),
            ("Vie\u{302}\u{323}t", "Vie\u{302}\u{323}t"),
            ("\u{338}5", "\\u{338}5"),
        ] {
            assert_eq!(plain(text), shown);
        }
        let flood = plain(&format!("5{}0", "\u{336}".repeat(1_000)));
        assert!(flood.starts_with("5\u{336}\u{336}\u{336}\u{336}\\u{336}\\u{336}"));
        assert_eq!(flood.matches('\u{336}').count(), 4);
        assert!(flood.ends_with("\\u{336}0"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = cut(&"é".repeat(1_000_000));
        assert!(long.ends_with("… (998000 more)"), "{}", long.len());
        assert_eq!(long.chars().filter(|one| *one == 'é').count(), 2_000);
        assert_eq!(cut(&"x".repeat(2_000)), "x".repeat(2_000));
        assert_eq!(plain(&"x".repeat(9_000)), "x".repeat(9_000));
    }
}
