//! Writing mutants: where the text of a policy can be changed, and to what.
//!
//! Places come from the parsed policy, the change is made in its text: what is reported is what its author wrote. Every
//! piece that is put in stands in brackets of its own, so that nothing around it binds differently.

use std::ops::Range;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp};
use rustc_hash::FxHashSet;

use super::{MOST, MutantKind};
use crate::explain::ClauseKind;
use crate::explain::clauses::split;
use crate::lex::{Token, TokenKind, Tokens};
use crate::parts::{conjuncts, disjuncts, parts};
use crate::rule::Rule;

/// One mutant of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// What kind of change it is.
    pub(super) kind: MutantKind,
    /// The bytes that are changed.
    pub(super) range: Range<usize>,
    /// What stands in their place.
    pub(super) after: String,
    /// The whole text with the change; `None` where the policy is left out.
    pub(super) text: Option<String>,
}

/// Collects mutants of one text.
struct Writer<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    found: Vec<Written>,
    seen: FxHashSet<String>,
    /// How many were not made, so that a long policy does not take memory by the square of its length.
    beyond: usize,
}

/// The parts of a policy's head, in bytes.
struct Head {
    effect: Range<usize>,
    /// Principal, action and resource.
    parts: Vec<Range<usize>>,
}

/// Makes mutants of a policy, no two of the same text and none of the policy's own, and counts those beyond [`MOST`].
pub(super) fn mutants(rule: &Rule) -> (Vec<Written>, usize) {
    let mut writer = Writer::of(&rule.text);
    writer.found.push(Written {
        kind: MutantKind::PolicyDropped,
        range: writer.whole(),
        after: String::new(),
        text: None,
    });
    writer.head();
    if let Some(body) = rule.template.non_scope_constraints() {
        writer.body(body);
    }
    (writer.found, writer.beyond)
}

// === impl Written ===

impl Written {
    /// Returns what stands in the policy where the change is, on one line.
    pub(super) fn before(&self, text: &str) -> String {
        let before = text.get(self.range.clone()).unwrap_or_default();
        before.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

// === impl Writer ===

impl<'t> Writer<'t> {
    fn of(text: &'t str) -> Self {
        Self {
            text,
            tokens: Tokens::new(text).collect(),
            found: Vec::new(),
            seen: FxHashSet::from_iter([text.to_owned()]),
            beyond: 0,
        }
    }

    /// Returns the policy from its effect on, without its annotations; the whole text where that is not found.
    fn whole(&self) -> Range<usize> {
        let start = self.find_head().map_or(0, |head| head.effect.start);
        start..self.text.len()
    }

    fn piece(&self, range: &Range<usize>) -> &'t str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Notes the mutant that has `after` in place of `range`.
    fn put(&mut self, kind: MutantKind, range: Range<usize>, after: impl Into<String>) {
        let after = after.into();
        if self.found.len() >= MOST {
            self.beyond += 1;
            return;
        }
        let (Some(head), Some(tail)) = (self.text.get(..range.start), self.text.get(range.end..))
        else {
            return;
        };
        let text = format!("{head}{after}{tail}");
        if self.seen.insert(text.clone()) {
            self.found.push(Written {
                kind,
                range,
                after,
                text: Some(text),
            });
        }
    }

    // --- the head

    fn find_head(&self) -> Option<Head> {
        let mut tokens = self.tokens.iter().enumerate();
        // An annotation is `@`, a name that may be a keyword, and perhaps a text in brackets.
        let (at, effect) = loop {
            let (at, token) = tokens.next()?;
            match self.piece(&bytes(token)) {
                "@" => {
                    tokens.next()?;
                }
                "permit" | "forbid" if token.kind == TokenKind::Word => break (at, bytes(token)),
                _ => {}
            }
        };
        let parts = self.members(at + 1)?;
        (parts.len() == 3).then_some(Head { effect, parts })
    }

    fn head(&mut self) {
        let Some(Head { effect, parts }) = self.find_head() else {
            return;
        };
        let other = match self.piece(&effect) {
            "permit" => "forbid",
            _ => "permit",
        };
        self.put(MutantKind::EffectFlipped, effect, other);
        for (part, name) in parts.into_iter().zip(["principal", "action", "resource"]) {
            self.scope(part, name);
        }
    }

    /// Widens one part of the head, and shortens a list of actions.
    fn scope(&mut self, part: Range<usize>, name: &str) {
        let within = self.within(&part);
        let word = |word: &str| {
            let mut tokens = within.clone();
            tokens.find(|at| {
                self.token(*at)
                    .is_some_and(|one| self.piece(&bytes(one)) == word)
            })
        };
        let (is, place, list) = (word("is"), word("in"), word("["));
        if within.len() > 1 {
            self.put(MutantKind::ScopeWidened, part.clone(), name);
        }
        if let (Some(_), Some(place)) = (is, place.and_then(|at| self.token(at)).copied()) {
            let kind = self.piece(&(part.start..place.start)).trim_end().to_owned();
            self.put(MutantKind::ScopeWidened, part.clone(), kind);
            let group = self.piece(&(place.start..part.end)).to_owned();
            self.put(MutantKind::ScopeWidened, part, format!("{name} {group}"));
        }
        if let Some(list) = list {
            self.without_members(list);
        }
    }

    // --- the body

    fn body(&mut self, body: &Expr) {
        for clause in split(body, self.text) {
            let (neutral, kind) = match clause.kind {
                ClauseKind::When => ("true", MutantKind::ClauseDropped),
                ClauseKind::Unless => ("false", MutantKind::ClauseDropped),
            };
            self.term(clause.expr, neutral, kind);
        }
    }

    /// Leaves a condition out by putting the value there that decides nothing, turns it round, and goes inside.
    fn term(&mut self, expr: &Expr, neutral: &str, kind: MutantKind) {
        if let Some(range) = place(expr) {
            self.put(kind, range.clone(), neutral);
            // A comparison is turned round by its operator, a negation by leaving it out.
            if !is_comparison(expr)
                && !matches!(
                    expr.expr_kind(),
                    ExprKind::UnaryApp {
                        op: UnaryOp::Not,
                        ..
                    }
                )
            {
                let negated = format!("!({})", self.piece(&range));
                self.put(MutantKind::Negated, range, negated);
            }
        }
        self.inside(expr);
    }

    fn inside(&mut self, expr: &Expr) {
        match expr.expr_kind() {
            ExprKind::And { .. } => {
                for part in conjuncts(expr) {
                    self.term(part, "true", MutantKind::TermDropped);
                }
            }
            ExprKind::Or { .. } => {
                for part in disjuncts(expr) {
                    self.term(part, "false", MutantKind::TermDropped);
                }
            }
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => {
                if let Some(range) = place(test_expr) {
                    self.put(MutantKind::TermDropped, range, "false");
                }
                self.term(test_expr, "true", MutantKind::TermDropped);
                self.inside(then_expr);
                self.inside(else_expr);
            }
            ExprKind::UnaryApp {
                op: UnaryOp::Not,
                arg,
            } if place(arg) != place(expr) => {
                if let (Some(whole), Some(range)) = (place(expr), place(arg)) {
                    let turned = format!("({})", self.piece(&range));
                    self.put(MutantKind::Negated, whole, turned);
                }
                self.inside(arg);
            }
            kind => {
                self.leaf(expr);
                for part in parts(kind) {
                    self.inside(part);
                }
            }
        }
    }

    /// Changes what is written at one operator or literal.
    fn leaf(&mut self, expr: &Expr) {
        let Some(range) = place(expr) else {
            return;
        };
        match expr.expr_kind() {
            ExprKind::BinaryApp {
                op: BinaryOp::Eq | BinaryOp::Less | BinaryOp::LessEq,
                ..
            } => self.comparison(&range),
            ExprKind::BinaryApp {
                op: BinaryOp::ContainsAll | BinaryOp::ContainsAny,
                ..
            } => self.containment(&range),
            ExprKind::Lit(Literal::Long(number)) => {
                let others = [number.checked_add(1), number.checked_sub(1)];
                for other in others.into_iter().flatten() {
                    let written = match other {
                        0.. => other.to_string(),
                        _ => format!("({other})"),
                    };
                    self.put(MutantKind::NumberShifted, range.clone(), written);
                }
            }
            ExprKind::Lit(Literal::String(_)) => {
                let written = self.piece(&range);
                if let Some(text) = written
                    .strip_suffix('"')
                    .filter(|text| text.starts_with('"'))
                {
                    self.put(
                        MutantKind::StringChanged,
                        range.clone(),
                        format!("{text}x\""),
                    );
                }
            }
            ExprKind::Set(_) => {
                if let Some(open) = self.within(&range).next() {
                    self.without_members(open);
                }
            }
            _ => {}
        }
    }

    /// Puts the other comparisons in place of one; `>` and `!=` are comparisons turned round, in the same place.
    fn comparison(&mut self, range: &Range<usize>) {
        let mut depth = 0_usize;
        let mut found: Option<Token> = None;
        for at in self.within(range) {
            let Some(token) = self.token(at) else { break };
            match token.kind {
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth = depth.saturating_sub(1),
                TokenKind::Mark if depth == 0 && !others(self.piece(&bytes(token))).is_empty() => {
                    found = Some(*token);
                }
                _ => {}
            }
        }
        if let Some(token) = found {
            let operator = bytes(&token);
            for other in others(self.piece(&operator)) {
                self.put(MutantKind::ComparisonChanged, operator.clone(), *other);
            }
        }
    }

    /// Swaps `containsAll` and `containsAny`, and the two sets.
    fn containment(&mut self, range: &Range<usize>) {
        let within: Vec<usize> = self.within(range).collect();
        let mut depth = 0_usize;
        let mut found: Option<usize> = None;
        for at in &within {
            let Some(token) = self.token(*at) else { break };
            match token.kind {
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth = depth.saturating_sub(1),
                TokenKind::Word if depth == 0 => {
                    let word = self.piece(&bytes(token));
                    if matches!(word, "containsAll" | "containsAny") {
                        found = Some(*at);
                    }
                }
                _ => {}
            }
        }
        let around = found.and_then(|at| {
            let dot = self.token(at.checked_sub(1)?)?;
            let (word, open) = (self.token(at)?, self.token(at + 1)?);
            Some((*dot, *word, *open))
        });
        let Some((dot, word, open)) = around else {
            return;
        };
        let name = bytes(&word);
        let other = match self.piece(&name) {
            "containsAll" => "containsAny",
            _ => "containsAll",
        };
        let (one, all) = (self.piece(&name).to_owned(), range.start..dot.start);
        self.put(MutantKind::ContainmentChanged, name, other);
        if one == "containsAll" {
            let last = within.last().and_then(|at| self.token(*at)).copied();
            let Some(last) = last.filter(|last| last.start >= open.end) else {
                return;
            };
            let (receiver, argument) = (self.piece(&all), self.piece(&(open.end..last.start)));
            let swapped = format!("({}).{one}({receiver})", argument.trim());
            self.put(MutantKind::ContainmentChanged, range.clone(), swapped);
        }
    }

    /// Leaves out each member of the list whose bracket is this token, where it has more than one.
    fn without_members(&mut self, open: usize) {
        let Some(members) = self.members(open).filter(|members| members.len() > 1) else {
            return;
        };
        for (left_out, member) in members.iter().enumerate() {
            // With the comma after it, or before it where it is the last.
            let range = match (members.get(left_out + 1), left_out.checked_sub(1)) {
                (Some(next), _) => member.start..next.start,
                (None, Some(before)) => {
                    let before = members.get(before).map_or(member.start, |one| one.end);
                    before..member.end
                }
                (None, None) => continue,
            };
            self.put(MutantKind::MemberDropped, range, "");
        }
    }

    // --- tokens

    fn token(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at)
    }

    /// Returns the numbers of the tokens that stand within a range.
    fn within(&self, range: &Range<usize>) -> Range<usize> {
        let from = self.tokens.partition_point(|one| one.start < range.start);
        let to = self.tokens.partition_point(|one| one.end <= range.end);
        from..to.max(from)
    }

    /// Takes apart at its commas what stands between the bracket that is this token and the one that closes it.
    fn members(&self, open: usize) -> Option<Vec<Range<usize>>> {
        self.token(open).filter(|one| one.kind == TokenKind::Open)?;
        let (mut found, mut depth) = (Vec::new(), 0_usize);
        let mut member: Option<Range<usize>> = None;
        for token in self.tokens.get(open + 1..)? {
            match token.kind {
                TokenKind::Close if depth == 0 => {
                    found.extend(member);
                    return Some(found);
                }
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth -= 1,
                TokenKind::Mark if depth == 0 && self.piece(&bytes(token)) == "," => {
                    found.extend(member.take());
                    continue;
                }
                _ => {}
            }
            let start = member.as_ref().map_or(token.start, |member| member.start);
            member = Some(start..token.end);
        }
        None
    }
}

fn bytes(token: &Token) -> Range<usize> {
    token.start..token.end
}

fn place(expr: &Expr) -> Option<Range<usize>> {
    expr.source_loc().map(|loc| loc.start()..loc.end())
}

/// Says whether an expression is a comparison as it is written: Cedar has `>`, `>=` and `!=` as others turned round.
fn is_comparison(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::BinaryApp {
            op: BinaryOp::Eq | BinaryOp::Less | BinaryOp::LessEq,
            ..
        } => true,
        ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } => place(arg) == place(expr) && is_comparison(arg),
        _ => false,
    }
}

/// Returns the comparisons that are tried in place of one: the one it is most easily taken for, and its opposite.
fn others(operator: &str) -> &'static [&'static str] {
    match operator {
        "==" => &["!="],
        "!=" => &["=="],
        "<" => &["<=", ">="],
        "<=" => &["<", ">"],
        ">" => &[">=", "<="],
        ">=" => &[">", "<"],
        _ => &[],
    }
}
