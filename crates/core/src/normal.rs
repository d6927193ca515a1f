//! Unicode normal form C: the one spelling in which ids are taken.

/// What is wrong with an id in another spelling, as the end of a sentence.
pub(crate) const NOT_NFC: &str = "must be in Unicode normal form C (NFC)";

/// Tells whether a text is in Unicode normal form C (UAX #15), as every id must be.
///
/// `é` can be written as one character or as two that look the same. Ids are compared byte by byte, so one in the other
/// spelling would name somebody else: a block list would not hold who stands on it. It is refused and not rewritten,
/// because what is recorded is what was asked.
pub fn is_nfc(text: &str) -> bool {
    text.is_ascii() || unicode_normalization::is_nfc(text)
}

/// Writes a text in Unicode normal form C: for whoever asks with words that somebody else has written.
pub fn nfc(text: &str) -> String {
    unicode_normalization::UnicodeNormalization::nfc(text).collect()
}
