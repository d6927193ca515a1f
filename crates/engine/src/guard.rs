//! Guards: what is refused before any parser sees it.
//!
//! Cedar's parser and evaluator recurse, and a process that runs out of stack cannot be saved: a few hundred bytes of
//! nested parentheses end it. So text from outside is measured first, by a scan that does not recurse. What passes is
//! bounded in depth, and a stack of [`PARSE_STACK`] parses it, one of [`EVALUATION_STACK`] evaluates it.

use crate::lex::{Token, TokenKind, Tokens};

/// The stack, in bytes, on which bundles are parsed and validated.
pub(crate) const PARSE_STACK: usize = 64 * 1024 * 1024;

/// The stack, in bytes, that a thread must have to evaluate any policy that compiles.
///
/// With less, Cedar's evaluator gives up on a deep policy, which is an error of that policy: a forbid then denies.
pub const EVALUATION_STACK: usize = 16 * 1024 * 1024;

/// The deepest nesting of brackets, `if`s and unary operators.
const NESTING: usize = 32;
/// The longest chain of one operator.
const CHAIN: usize = 256;
/// The deepest expression that nesting and chains together may build.
const DEPTH: usize = 512;
/// The longest pattern of a `like`, in bytes: matching takes its length times that of the text, which a caller chooses.
const PATTERN_BYTES: usize = 256;
/// The longest policy, in bytes.
const POLICY_BYTES: usize = 16 * 1024;
/// The longest schema, all files together, in bytes.
pub(crate) const SCHEMA_BYTES: usize = 1024 * 1024;
/// The most members in one record of a schema; Cedar's schema parser takes quadratic time in them.
const SCHEMA_MEMBERS: usize = 1_000;
/// The most tokens of a schema after `entity A, B, C {…}` is written out for each name.
const SCHEMA_TOKENS: usize = 1_000_000;
/// The most policies, templates and links in a bundle.
pub(crate) const POLICIES: usize = 200_000;
/// The longest policy text of a bundle, all files together, in bytes.
pub(crate) const BUNDLE_BYTES: usize = 64 * 1024 * 1024;

/// The text of one policy within its file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The first byte of its first annotation or its effect.
    pub(crate) start: usize,
    /// The byte after its semicolon, or the end of the file.
    pub(crate) end: usize,
}

/// A text that goes beyond a limit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    /// A stable code.
    pub(crate) code: &'static str,
    /// What is beyond what.
    pub(crate) message: String,
    /// Where it goes beyond, in bytes of the file.
    pub(crate) start: usize,
    /// The byte after that.
    pub(crate) end: usize,
}

/// What is counted between one opening bracket and its closing one.
#[derive(Debug, Default)]
struct Frame {
    /// The `if`s since the last comma; the ones before are still around what follows, as in `else if`.
    ifs: usize,
    /// The unary operators of the present operand.
    unary: usize,
    /// The most that both came to.
    most_prefixes: usize,
    /// Binary and postfix operators since the last one that binds less, by precedence: `||`, `&&`, `+ -`, `* / %`, `.`.
    chains: [usize; 5],
    /// The most that each of them came to.
    most_chains: [usize; 5],
    /// The depth of the deepest bracket closed in this frame.
    inner: usize,
}

/// Measures the tokens of one policy.
#[derive(Debug)]
struct Gauge {
    frames: Vec<Frame>,
    /// Whether the last token can end an operand, so that a bracket after it is a call or an index.
    operand: bool,
    /// Whether the last token was `.` or `@`, after which a keyword is a name.
    name_follows: bool,
    /// Whether the last token was `like`.
    pattern_follows: bool,
}

/// Splits a policy file into its policies and measures each.
///
/// A policy ends at a semicolon, which Cedar's grammar has nowhere else; text after the last one is a segment too, for
/// the parser to complain about. Those that pass are returned beside the excesses of those that do not.
pub(crate) fn split(text: &str) -> (Vec<Segment>, Vec<Excess>) {
    let (mut segments, mut excesses) = (Vec::new(), Vec::new());
    let mut open: Option<usize> = None;
    let mut gauge = Gauge::new();
    let mut found: Option<Excess> = None;
    let mut last = 0;
    for token in Tokens::new(text) {
        let start = *open.get_or_insert(token.start);
        last = token.end;
        if token.kind == TokenKind::Unterminated {
            found = found.or_else(|| Some(unterminated(token)));
        } else if found.is_none() {
            found = gauge.take(text, token).err();
        }
        if is(text, token, ";") {
            close(start, token.end, found.take(), &mut segments, &mut excesses);
            open = None;
            gauge = Gauge::new();
        }
    }
    if let Some(start) = open {
        close(start, last, found, &mut segments, &mut excesses);
    }
    (segments, excesses)
}

fn close(
    start: usize,
    end: usize,
    found: Option<Excess>,
    segments: &mut Vec<Segment>,
    excesses: &mut Vec<Excess>,
) {
    let size = end - start;
    match found {
        // What is wrong inside says more than the size, which is often its consequence.
        Some(excess) => excesses.push(excess),
        None if size > POLICY_BYTES => excesses.push(Excess {
            code: "policy_too_large",
            message: format!("this policy has {size} bytes, the most is {POLICY_BYTES}"),
            start,
            end,
        }),
        None => segments.push(Segment { start, end }),
    }
}

/// Measures the text of a schema file.
///
/// # Errors
///
/// The first excess: nesting, members of a record, tokens after lists of names are written out, an open string.
pub(crate) fn check_schema(text: &str) -> Result<(), Excess> {
    // For each open bracket, the commas in it if it is a record; a namespace's own brace is not among them.
    let mut commas: Vec<Option<usize>> = Vec::new();
    let (mut names, mut tokens, mut total) = (1, 0, 0_usize);
    let mut namespace = false;
    for token in Tokens::new(text) {
        let piece = text.get(token.start..token.end).unwrap_or_default();
        tokens += 1;
        match (token.kind, piece) {
            (TokenKind::Unterminated, _) => return Err(unterminated(token)),
            (TokenKind::Word, "namespace") if commas.is_empty() => namespace = true,
            (TokenKind::Open, "{") if commas.is_empty() && namespace => namespace = false,
            (TokenKind::Open, "{") => commas.push(Some(0)),
            (TokenKind::Open, _) | (TokenKind::Mark, "<") => commas.push(None),
            (TokenKind::Close, _) | (TokenKind::Mark, ">") => {
                commas.pop();
            }
            (TokenKind::Mark, ",") => match commas.last_mut() {
                Some(count) => *count = count.map(|count| count + 1),
                None => names += 1,
            },
            (TokenKind::Mark, ";") if commas.is_empty() => {
                total += names * tokens;
                (names, tokens) = (1, 0);
            }
            _ => {}
        }
        if commas.len() > NESTING {
            return Err(token.excess("nesting_too_deep", nesting_message("this schema")));
        }
        if commas.last().copied().flatten() >= Some(SCHEMA_MEMBERS) {
            let message = format!("this record has more than {SCHEMA_MEMBERS} members");
            return Err(token.excess("schema_too_large", message));
        }
        if total.saturating_add(names * tokens) > SCHEMA_TOKENS {
            let message = format!(
                "this schema declares more than {SCHEMA_TOKENS} names and types, lists of names written out"
            );
            return Err(token.excess("schema_too_large", message));
        }
    }
    Ok(())
}

fn unterminated(token: Token) -> Excess {
    token.excess(
        "unterminated_string",
        "this string is never closed".to_owned(),
    )
}

fn nesting_message(what: &str) -> String {
    format!("{what} nests deeper than {NESTING} levels")
}

fn is(text: &str, token: Token, piece: &str) -> bool {
    token.kind == TokenKind::Mark && text.get(token.start..token.end) == Some(piece)
}

// === impl Token ===

impl Token {
    fn excess(self, code: &'static str, message: String) -> Excess {
        // An unterminated string reaches to the end of the file; its quote is the place to look at.
        let end = match self.kind {
            TokenKind::Unterminated => self.start + 1,
            _ => self.end,
        };
        Excess {
            code,
            message,
            start: self.start,
            end,
        }
    }
}

// === impl Frame ===

impl Frame {
    /// Counts one operator of a precedence; operators that bind tighter start anew.
    fn operator(&mut self, precedence: usize) {
        if let (Some(count), Some(most)) = (
            self.chains.get_mut(precedence),
            self.most_chains.get_mut(precedence),
        ) {
            *count += 1;
            *most = (*most).max(*count);
        }
        self.restart(precedence + 1);
    }

    /// Starts a new operand for every operator from a precedence on.
    fn restart(&mut self, precedence: usize) {
        if precedence < self.chains.len() {
            self.unary = 0;
        }
        self.chains
            .iter_mut()
            .skip(precedence)
            .for_each(|count| *count = 0);
    }

    fn prefix(&mut self) {
        self.most_prefixes = self.most_prefixes.max(self.ifs + self.unary);
    }

    /// Returns an upper bound of the depth of the expressions in this frame.
    fn depth(&self) -> usize {
        1 + self.inner + self.most_prefixes + self.most_chains.iter().sum::<usize>()
    }
}

// === impl Gauge ===

impl Gauge {
    fn new() -> Self {
        Self {
            frames: vec![Frame::default()],
            operand: false,
            name_follows: false,
            pattern_follows: false,
        }
    }

    fn take(&mut self, text: &str, token: Token) -> Result<(), Excess> {
        let piece = text.get(token.start..token.end).unwrap_or_default();
        let operand = self.operand;
        let named = std::mem::take(&mut self.name_follows);
        // Two of its bytes are quotes.
        if std::mem::take(&mut self.pattern_follows) && piece.len() > PATTERN_BYTES + 2 {
            let message = format!("this pattern has more than {PATTERN_BYTES} bytes");
            return Err(token.excess("pattern_too_long", message));
        }
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        self.operand = match (token.kind, piece) {
            (TokenKind::Word, "if") if !named => {
                frame.ifs += 1;
                frame.prefix();
                false
            }
            (TokenKind::Word, "then" | "else") if !named => {
                frame.restart(0);
                false
            }
            (TokenKind::Word, "in" | "has" | "like" | "is") if !named => {
                frame.restart(COMPARISON);
                self.pattern_follows = piece == "like";
                false
            }
            (TokenKind::Word | TokenKind::Literal | TokenKind::Unterminated, _) => true,
            (TokenKind::Open, _) => {
                if operand {
                    frame.operator(POSTFIX);
                }
                self.frames.push(Frame::default());
                false
            }
            (TokenKind::Close, _) => {
                self.leave();
                true
            }
            (TokenKind::Mark, "!") => {
                frame.unary += 1;
                frame.prefix();
                false
            }
            (TokenKind::Mark, "-") if !operand => {
                frame.unary += 1;
                frame.prefix();
                false
            }
            (TokenKind::Mark, ",") => {
                frame.ifs = 0;
                frame.restart(0);
                false
            }
            (TokenKind::Mark, mark) => {
                self.name_follows = matches!(mark, "." | "@");
                match precedence(mark) {
                    Some(precedence) => frame.operator(precedence),
                    None => frame.restart(COMPARISON),
                }
                false
            }
        };
        self.check(token)
    }

    fn leave(&mut self) {
        // A closing bracket too many is for the parser to report.
        if self.frames.len() > 1
            && let Some(closed) = self.frames.pop()
            && let Some(frame) = self.frames.last_mut()
        {
            frame.inner = frame.inner.max(closed.depth());
        }
    }

    fn check(&self, token: Token) -> Result<(), Excess> {
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let nesting: usize = self
            .frames
            .iter()
            .map(|frame| frame.ifs + frame.unary)
            .sum();
        if nesting + self.frames.len() - 1 > NESTING {
            return Err(token.excess("nesting_too_deep", nesting_message("this policy")));
        }
        if frame.chains.iter().any(|count| *count >= CHAIN) {
            let message = format!("this chain of operators has more than {CHAIN} terms");
            return Err(token.excess("chain_too_long", message));
        }
        if frame.depth() + self.frames.len() > DEPTH {
            let message =
                format!("nesting and chains of operators together go deeper than {DEPTH} levels");
            return Err(token.excess("expression_too_deep", message));
        }
        Ok(())
    }
}

/// The precedence from which operators bind tighter than a comparison, which does not chain.
const COMPARISON: usize = 2;
/// The precedence of member access, calls and indexing.
const POSTFIX: usize = 4;

/// Returns how tightly a binary or postfix operator binds, from `||` at 0 to `.` at 4; `None` for a comparison.
fn precedence(mark: &str) -> Option<usize> {
    Some(match mark {
        "||" => 0,
        "&&" => 1,
        "+" | "-" => 2,
        "*" | "/" | "%" => 3,
        "." | "::" => POSTFIX,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
