//! Editing one policy of a bundle: its text replaced, added or removed, and every other byte kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use remit_core::{Bundle, ContentHash, Effect, PolicyId, Source, is_nfc};

use crate::Snapshot;
use crate::diagnostic::{CompileError, Diagnostic, Lines, Span};
use crate::file::{Draft, Placed};
use crate::finding::Finding;
use crate::guard::{self, Segment};
use crate::rule::Rule;
use crate::stack::{in_chunks, on_large_stack};

mod drafts;

pub use drafts::{Clash, ClashKind, Differences, Part, differences, put_text, rebase, remove_text};

/// The file that a new policy goes to where none is named.
pub const NEW_POLICIES: &str = "policies.cedar";
/// The ending of a file of policies.
const ENDING: &str = ".cedar";
/// The longest name of a file, in bytes.
const NAME_BYTES: usize = 255;

/// A policy or template of a snapshot, as it is written.
#[derive(Debug, Clone, Copy)]
pub struct WrittenPolicy<'s>(&'s Placed);

/// A bundle in which one policy is another.
#[derive(Debug)]
pub struct Edited {
    /// The bundle.
    pub bundle: Bundle,
    /// The text that was put in; `None` where one was taken out.
    inserted: Option<Inserted>,
}

/// A text that was put into a file of a bundle.
#[derive(Debug)]
struct Inserted {
    file: String,
    /// The text as it was sent.
    sent: String,
    /// Where the policy stands in what was sent, in bytes.
    within: Segment,
    /// Where it stands in the file.
    start: usize,
}

/// Why a policy of a bundle cannot be edited so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not one policy with the id; the places of the diagnostics are in the text, so they name no file.
    #[error(transparent)]
    Text(CompileError),
    /// The policy stands in another file than the one that was named.
    #[error("the policy `{id}` stands in `{file}`; remove it there first, or name that file")]
    OtherFile {
        /// The policy.
        id: PolicyId,
        /// Where it stands.
        file: String,
    },
    /// No file of policies can have this name.
    #[error("`{}` is no name for a file of policies, such as `payments.cedar`", .0.escape_debug())]
    FileName(String),
    /// There is no such policy to remove.
    #[error("there is no policy `{0}`")]
    NotFound(PolicyId),
    /// The bundle is not the one that the snapshot was compiled from.
    #[error("the bundle is not the one that was compiled")]
    OtherBundle,
}

/// Reads the text of every policy and template of a bundle, whatever its schema says of them.
///
/// # Errors
///
/// [`CompileError`] for policies that cannot be read at all.
pub fn policy_texts(bundle: &Bundle) -> Result<BTreeMap<PolicyId, String>, CompileError> {
    on_large_stack(|| {
        let (mut texts, mut diagnostics) = (BTreeMap::new(), Vec::new());
        for source in &bundle.policies {
            let draft = Draft::new(source, ContentHash::of(source.text.as_bytes()));
            let read = in_chunks(draft.pieces(), |piece| {
                Rule::read(piece.text, None).map(Arc::new)
            });
            let file = draft.finish(read.into_iter(), &mut diagnostics);
            let policies = file.policies.iter();
            texts.extend(policies.map(|one| (one.rule.id.clone(), one.rule.text.to_string())));
        }
        if diagnostics.is_empty() {
            Ok(texts)
        } else {
            Err(CompileError { diagnostics })
        }
    })
}

// === impl Snapshot ===

impl Snapshot {
    /// Returns the policies and templates as they are written, in no order; links of templates are not among them.
    pub fn written(&self) -> impl Iterator<Item = WrittenPolicy<'_>> {
        self.rules().program.placed().map(WrittenPolicy)
    }

    /// Returns one policy or template as it is written.
    pub fn written_policy(&self, id: &PolicyId) -> Option<WrittenPolicy<'_>> {
        self.written().find(|policy| policy.id() == id)
    }

    /// Puts a policy into the bundle that this snapshot was compiled from: in the place of the one with its id, or at the
    /// end of `file`, which is made where there is none.
    ///
    /// Whether the result compiles is not asked here.
    ///
    /// # Errors
    ///
    /// [`EditError`], but for [`EditError::NotFound`].
    pub fn put_policy(
        &self,
        mut bundle: Bundle,
        id: &PolicyId,
        text: &str,
        file: Option<&str>,
    ) -> Result<Edited, EditError> {
        let within = only_policy(text, id).map_err(EditError::Text)?;
        let policy = text.get(within.start..within.end).unwrap_or_default();
        let (file, start) = match self.written_policy(id) {
            Some(found) if file.is_some_and(|file| file != found.file()) => {
                return Err(EditError::OtherFile {
                    id: id.clone(),
                    file: found.file().to_owned(),
                });
            }
            Some(found) => {
                self.rewrite(&mut bundle, found, |before, after| {
                    [before, policy, after].concat()
                })?;
                (found.file().to_owned(), found.span().start)
            }
            None => {
                let file = file.unwrap_or(NEW_POLICIES);
                (file.to_owned(), append(&mut bundle, file, policy)?)
            }
        };
        let inserted = Inserted {
            file,
            sent: text.to_owned(),
            within,
            start,
        };
        Ok(Edited {
            bundle,
            inserted: Some(inserted),
        })
    }

    /// Takes a policy out of the bundle that this snapshot was compiled from, with the lines it alone stands on; a file
    /// that has nothing left goes with it.
    ///
    /// # Errors
    ///
    /// [`EditError::NotFound`] and [`EditError::OtherBundle`].
    pub fn remove_policy(&self, mut bundle: Bundle, id: &PolicyId) -> Result<Edited, EditError> {
        let found = self
            .written_policy(id)
            .ok_or_else(|| EditError::NotFound(id.clone()))?;
        self.rewrite(&mut bundle, found, without_lines)?;
        bundle
            .policies
            .retain(|source| source.file != found.file() || !source.text.trim().is_empty());
        Ok(Edited {
            bundle,
            inserted: None,
        })
    }

    /// Writes the file that a policy stands in anew, out of what stands before the policy and after it.
    fn rewrite(
        &self,
        bundle: &mut Bundle,
        policy: WrittenPolicy<'_>,
        write: impl FnOnce(&str, &str) -> String,
    ) -> Result<(), EditError> {
        let compiled = self.rules().program.file_hash(policy.file());
        let mut sources = bundle.policies.iter_mut();
        let source = sources
            .find(|source| source.file == policy.file())
            .filter(|source| Some(ContentHash::of(source.text.as_bytes())) == compiled)
            .ok_or(EditError::OtherBundle)?;
        let Span { start, end, .. } = policy.span();
        let (Some(before), Some(after)) = (source.text.get(..start), source.text.get(end..)) else {
            return Err(EditError::OtherBundle);
        };
        source.text = write(before, after);
        Ok(())
    }
}

/// Finds the one policy in a text, which must have this id.
fn only_policy(text: &str, id: &PolicyId) -> Result<Segment, CompileError> {
    let (segments, excesses) = guard::split(text);
    let refuse = |finding: Finding| Err(refused(text, 0, None, &[finding]));
    if !excesses.is_empty() {
        let findings: Vec<Finding> = excesses.iter().map(Finding::from).collect();
        return Err(refused(text, 0, None, &findings));
    }
    let found = match segments.as_slice() {
        [found] => *found,
        [] => {
            return refuse(Finding::unplaced(
                "no_policy",
                "there is no policy in this text",
            ));
        }
        [_, second, ..] => {
            let message = format!("there are {} policies in this text", segments.len());
            let finding = Finding::error("many_policies", message, (second.start, second.end));
            return refuse(finding.with_help("each policy is put by itself"));
        }
    };
    for (start, end) in [(0, found.start), (found.end, text.len())] {
        let around = text.get(start..end).unwrap_or_default();
        if !around.trim().is_empty() {
            let from = start + (around.len() - around.trim_start().len());
            let range = (from, from + around.trim().len());
            let finding = Finding::error("outside_policy", "this is not part of the policy", range);
            return refuse(finding.with_help(
                "a policy goes from its first annotation to its semicolon; put the comment in between",
            ));
        }
    }
    let policy = text.get(found.start..found.end).unwrap_or_default();
    let read = on_large_stack(|| Ok(Rule::read(policy, None)))?;
    let rule =
        read.map_err(|wrong| refused(text, found.start, wrong.id.as_ref(), &wrong.errors))?;
    if rule.id != *id {
        let message = format!("the `@id` of this policy is `{}`, not `{id}`", rule.id);
        let finding = Finding::error("other_id", message, rule.id_range);
        return Err(refused(text, found.start, Some(&rule.id), &[finding]));
    }
    Ok(found)
}

/// Places findings about what stands at `offset` of a text that is no file.
fn refused(
    text: &str,
    offset: usize,
    policy: Option<&PolicyId>,
    findings: &[Finding],
) -> CompileError {
    let lines = Lines::new(text);
    let placed = |finding: &Finding| Diagnostic {
        file: None,
        ..finding.place(policy, "", &lines, offset)
    };
    CompileError {
        diagnostics: findings.iter().map(placed).collect(),
    }
}

/// Adds a policy at the end of a file, and returns where it starts.
fn append(bundle: &mut Bundle, file: &str, policy: &str) -> Result<usize, EditError> {
    let mut sources = bundle.policies.iter_mut();
    if let Some(source) = sources.find(|source| source.file == file) {
        let text = &mut source.text;
        if !text.is_empty() {
            let end_of_line = if text.ends_with('\n') { "\n" } else { "\n\n" };
            text.push_str(end_of_line);
        }
        let start = text.len();
        text.push_str(policy);
        text.push('\n');
        return Ok(start);
    }
    let stem = file.strip_suffix(ENDING).unwrap_or_default();
    let fits = !stem.is_empty()
        && file.len() <= NAME_BYTES
        && !file.starts_with('.')
        && !file.contains(['/', '\\'])
        && !file.chars().any(char::is_control)
        && is_nfc(file);
    if !fits {
        return Err(EditError::FileName(file.to_owned()));
    }
    bundle.policies.push(Source {
        file: file.to_owned(),
        text: format!("{policy}\n"),
    });
    Ok(0)
}

/// Joins what stands before and after something, without the rest of its lines where nothing else stands on them, and
/// with one empty line where there would be two.
fn without_lines(before: &str, after: &str) -> String {
    let blank = |text: &str| {
        text.chars()
            .all(|character| matches!(character, ' ' | '\t' | '\r'))
    };
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    let (above, beside) = before.split_at_checked(line).unwrap_or((before, ""));
    let (rest, below) = match after.find('\n') {
        Some(end) => after.split_at_checked(end + 1).unwrap_or((after, "")),
        None => (after, ""),
    };
    if !blank(beside) || !blank(rest.trim_end_matches('\n')) {
        return [before, after].concat();
    }
    match (above.strip_suffix('\n'), below.strip_prefix('\n')) {
        (None, Some(below)) => below.to_owned(),
        (Some(above), rest)
            if (above.is_empty() || above.ends_with('\n'))
                && (rest.is_some() || below.is_empty()) =>
        {
            [above, below].concat()
        }
        _ => [above, below].concat(),
    }
}

// === impl WrittenPolicy ===

impl<'s> WrittenPolicy<'s> {
    /// Returns its `@id`.
    pub fn id(&self) -> &'s PolicyId {
        &self.0.rule.id
    }

    /// Returns what it does when it is satisfied.
    pub fn effect(&self) -> Effect {
        self.0.rule.effect
    }

    /// Says whether it is in shadow mode.
    pub fn is_shadow(&self) -> bool {
        self.0.rule.shadow
    }

    /// Says whether it has slots and so decides only through its links.
    pub fn is_template(&self) -> bool {
        self.0.rule.is_template()
    }

    /// Returns its annotations by name, `@id` among them.
    pub fn annotations(&self) -> BTreeMap<&'s str, &'s str> {
        let annotations = self.0.rule.template.annotations();
        annotations
            .map(|(name, value)| (name.as_ref(), value.val.as_str()))
            .collect()
    }

    /// Returns the name of the file it stands in.
    pub fn file(&self) -> &'s str {
        &self.0.file
    }

    /// Returns where in that file it stands.
    pub fn span(&self) -> Span {
        self.0.span
    }

    /// Returns its text, from its first annotation to its semicolon.
    pub fn text(&self) -> &'s str {
        &self.0.rule.text
    }
}

// === impl Edited ===

impl Edited {
    /// Counts the places of diagnostics about the text that was put in from the start of that text, where its author
    /// can find them; these name no file any more.
    pub fn place(&self, diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let Some(inserted) = &self.inserted else {
            return diagnostics;
        };
        let lines = Lines::new(&inserted.sent);
        let placed = diagnostics
            .into_iter()
            .map(|diagnostic| match inserted.own(&diagnostic) {
                Some((start, end)) => Diagnostic {
                    file: None,
                    span: Some(lines.span(start, end)),
                    ..diagnostic
                },
                None => diagnostic,
            });
        placed.collect()
    }
}

// === impl Inserted ===

impl Inserted {
    /// Returns where in the text that was sent a diagnostic is; `None` for one about something else.
    fn own(&self, diagnostic: &Diagnostic) -> Option<(usize, usize)> {
        let span = diagnostic.span?;
        let end = self.start + (self.within.end - self.within.start);
        let own = diagnostic.file.as_deref() == Some(self.file.as_str())
            && (self.start..=end).contains(&span.start)
            && span.end <= end;
        own.then(|| {
            let sent = |offset: usize| offset - self.start + self.within.start;
            (sent(span.start), sent(span.end))
        })
    }
}

#[cfg(test)]
mod tests;
