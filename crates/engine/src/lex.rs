//! The tokens of Cedar policies and schemas, as far as bounding their size needs to tell them apart.
//!
//! Strings and comments end where Cedar's own lexer ends them, so that nothing hides in either.

/// One token and where it stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: TokenKind,
    /// Its first byte.
    pub(crate) start: usize,
    /// The byte after its last.
    pub(crate) end: usize,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A word: a keyword or a name.
    Word,
    /// A number or a closed string.
    Literal,
    /// A string that is never closed.
    Unterminated,
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// Any other operator or mark, of one or two characters.
    Mark,
}

/// Walks over the tokens of a text, leaving out white space and comments.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

/// The marks of two characters.
const PAIRS: [&str; 7] = ["&&", "||", "==", "!=", "<=", ">=", "::"];

impl<'a> Tokens<'a> {
    /// Starts at the beginning of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            let comment = rest.trim_start();
            self.at += blank;
            if !comment.starts_with("//") {
                return;
            }
            self.at += comment.find(['\n', '\r']).unwrap_or(comment.len());
        }
    }

    /// Returns the length of the string that `rest` starts with, or `None` when nothing closes it.
    fn string_length(rest: &str) -> Option<usize> {
        let mut escaped = false;
        for (offset, character) in rest.char_indices().skip(1) {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Some(offset + 1),
                _ => {}
            }
        }
        None
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let run = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
        let (kind, length) = match first {
            'a'..='z' | 'A'..='Z' | '_' => (
                TokenKind::Word,
                run(|c| c.is_ascii_alphanumeric() || c == '_'),
            ),
            '0'..='9' => (TokenKind::Literal, run(|c| c.is_ascii_digit())),
            '"' => match Self::string_length(rest) {
                Some(length) => (TokenKind::Literal, length),
                None => (TokenKind::Unterminated, rest.len()),
            },
            '(' | '[' | '{' => (TokenKind::Open, 1),
            ')' | ']' | '}' => (TokenKind::Close, 1),
            _ if PAIRS.iter().any(|pair| rest.starts_with(pair)) => (TokenKind::Mark, 2),
            _ => (TokenKind::Mark, first.len_utf8()),
        };
        let start = self.at;
        self.at += length;
        Some(Token {
            kind,
            start,
            end: self.at,
        })
    }
}
