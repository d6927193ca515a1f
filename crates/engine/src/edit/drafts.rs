//! Drafts: bundles that need not compile, edited, compared and brought up to date by policy and by file.
//!
//! Policies are read without the schema, each by itself: one that cannot be read does not keep the others from being
//! found.

use std::collections::{BTreeMap, BTreeSet};

use remit_core::{Bundle, PolicyId, Source};
use serde::{Deserialize, Serialize};

use super::{EditError, append, only_policy, without_lines};
use crate::diagnostic::CompileError;
use crate::guard::{self, Segment};
use crate::rule::Rule;
use crate::stack::{in_chunks, on_large_stack};

/// What a draft changes against another bundle; where a policy stands in its file is no change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Policies that are new.
    pub added: Vec<PolicyId>,
    /// Policies whose text is another one.
    pub changed: Vec<PolicyId>,
    /// Policies that are gone.
    pub removed: Vec<PolicyId>,
    /// Files that differ and hold something that cannot be read as a policy.
    pub unreadable: Vec<String>,
    /// What else differs.
    pub parts: BTreeSet<Part>,
}

/// Parts of a bundle that are no policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The schema.
    Schema,
    /// The links of templates.
    Links,
    /// The bundle's own entities.
    Entities,
    /// The cases.
    Cases,
    /// The policies of the administration.
    Admin,
}

/// Something that a draft changes and that has become something else meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Clash {
    /// What it is.
    pub kind: ClashKind,
    /// The policy's id, the file's name, the link's id, the entity's name or the case's name.
    pub name: String,
}

/// Kinds of things that can clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClashKind {
    /// A policy.
    Policy,
    /// A file of policies that cannot be read policy by policy.
    File,
    /// A schema file.
    Schema,
    /// A link of a template.
    Link,
    /// An entity of the bundle.
    Entity,
    /// A case.
    Case,
}

/// The policies of a text that could be read so far as to know their ids.
struct Outline {
    policies: Vec<(PolicyId, Segment)>,
    /// Whether these are all there is but comments, each id once.
    whole: bool,
}

/// Both sides made something else of it.
struct Otherwise;

/// The three states of one thing: at the base, in the draft, and now.
type Three<'t, T> = (Option<&'t T>, Option<&'t T>, Option<&'t T>);

/// Says what a draft changes against another bundle.
///
/// # Errors
///
/// [`CompileError`] when there is no thread to read on.
pub fn differences(before: &Bundle, after: &Bundle) -> Result<Differences, CompileError> {
    on_large_stack(|| {
        let parts = [
            (
                Part::Schema,
                same(&before.schema, &after.schema, |one| one.file.clone()),
            ),
            (
                Part::Links,
                same(&before.links, &after.links, |one| one.id.to_string()),
            ),
            (
                Part::Entities,
                same(&before.entities, &after.entities, |one| one.uid.to_string()),
            ),
            (Part::Cases, before.cases == after.cases),
            (
                Part::Admin,
                same(&before.admin, &after.admin, |one| one.file.clone()),
            ),
        ];
        let differ = parts.into_iter().filter(|(_, same)| !same);
        let mut found = Differences {
            parts: differ.map(|(part, _)| part).collect(),
            ..Differences::default()
        };
        let (old, new) = (files(&before.policies), files(&after.policies));
        let mut unreadable = BTreeSet::new();
        let mut read = |these: &BTreeMap<String, &Source>, those: &BTreeMap<String, &Source>| {
            let mut texts = BTreeMap::new();
            for (name, source) in these {
                if those.get(name) == Some(source) {
                    continue;
                }
                let outline = Outline::of(&source.text);
                if !outline.whole {
                    unreadable.insert(source.file.clone());
                }
                texts.extend(outline.texts(&source.text));
            }
            texts
        };
        let (old, new) = (read(&old, &new), read(&new, &old));
        for (id, text) in &new {
            match old.get(id) {
                None => found.added.push(id.clone()),
                Some(before) if before != text => found.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        let gone = old.keys().filter(|id| !new.contains_key(*id));
        found.removed = gone.cloned().collect();
        found.unreadable = unreadable.into_iter().collect();
        Ok(found)
    })
}

/// Puts a policy into a bundle that need not compile: in the place of the one with its id, or at the end of `file`, which
/// is made where there is none.
///
/// # Errors
///
/// [`EditError`], but for [`EditError::NotFound`] and [`EditError::OtherBundle`].
pub fn put_text(
    mut bundle: Bundle,
    id: &PolicyId,
    text: &str,
    file: Option<&str>,
) -> Result<Bundle, EditError> {
    let within = only_policy(text, id).map_err(EditError::Text)?;
    let policy = text.get(within.start..within.end).unwrap_or_default();
    match locate(&bundle, id).map_err(EditError::Text)? {
        Some((place, segment)) => {
            let Some(source) = bundle.policies.get_mut(place) else {
                return Err(EditError::OtherBundle);
            };
            if file.is_some_and(|file| file != source.file) {
                return Err(EditError::OtherFile {
                    id: id.clone(),
                    file: source.file.clone(),
                });
            }
            source
                .text
                .replace_range(segment.start..segment.end, policy);
        }
        None => {
            append(&mut bundle, file.unwrap_or(super::NEW_POLICIES), policy)?;
        }
    }
    Ok(bundle)
}

/// Takes a policy out of a bundle that need not compile; a file that has nothing left goes with it.
///
/// # Errors
///
/// [`EditError::NotFound`], and [`EditError::Text`] when there is no thread to read on.
pub fn remove_text(mut bundle: Bundle, id: &PolicyId) -> Result<Bundle, EditError> {
    let found = locate(&bundle, id).map_err(EditError::Text)?;
    let (place, segment) = found.ok_or_else(|| EditError::NotFound(id.clone()))?;
    let Some(source) = bundle.policies.get_mut(place) else {
        return Err(EditError::OtherBundle);
    };
    source.text = cut(&source.text, segment);
    if source.text.trim().is_empty() {
        bundle.policies.remove(place);
    }
    Ok(bundle)
}

/// Applies what `draft` changes against `base` to `head`.
///
/// Each thing is settled by itself: policies by their ids, schema files by their names, links, entities and cases by
/// theirs. A file of policies that only one side has changed is taken as it is, with its comments; of one that both have,
/// the comments of `head` are kept.
///
/// # Errors
///
/// Every [`Clash`], when both sides made different things of one; or [`CompileError`] without a thread to read on.
pub fn rebase(
    base: &Bundle,
    draft: &Bundle,
    head: &Bundle,
) -> Result<Result<Bundle, Vec<Clash>>, CompileError> {
    on_large_stack(|| {
        let mut clashes = Vec::new();
        let policies = merge(
            (&base.policies, &draft.policies, &head.policies),
            |source| source.file.clone(),
            by_policy,
            &mut clashes,
        );
        let admin = merge(
            (&base.admin, &draft.admin, &head.admin),
            |source| source.file.clone(),
            by_policy,
            &mut clashes,
        );
        let rebased = Bundle {
            admin,
            schema: settled(
                ClashKind::Schema,
                (&base.schema, &draft.schema, &head.schema),
                |source| source.file.clone(),
                &mut clashes,
            ),
            policies,
            links: settled(
                ClashKind::Link,
                (&base.links, &draft.links, &head.links),
                |link| link.id.to_string(),
                &mut clashes,
            ),
            entities: settled(
                ClashKind::Entity,
                (&base.entities, &draft.entities, &head.entities),
                |entity| entity.uid.to_string(),
                &mut clashes,
            ),
            cases: settled(
                ClashKind::Case,
                (&base.cases, &draft.cases, &head.cases),
                |case| case.name.clone(),
                &mut clashes,
            ),
        };
        let (ours, theirs) = (twice(draft), twice(head));
        let both = twice(&rebased).into_iter();
        clashes.extend(
            both.filter(|id| !ours.contains(id) && !theirs.contains(id))
                .map(|id| Clash::policy(&id)),
        );
        if clashes.is_empty() {
            return Ok(Ok(rebased));
        }
        clashes.sort();
        clashes.dedup();
        Ok(Err(clashes))
    })
}

/// Merges things that clash as a whole.
fn settled<T: Clone + PartialEq>(
    kind: ClashKind,
    sides: (&[T], &[T], &[T]),
    name: impl Fn(&T) -> String,
    clashes: &mut Vec<Clash>,
) -> Vec<T> {
    let clash = |name: &str, _: Three<'_, T>| {
        Err(vec![Clash {
            kind,
            name: name.to_owned(),
        }])
    };
    merge(sides, name, clash, clashes)
}

/// Merges two lists that have grown out of one, by the names of what is in them; `resolve` is asked for what both have
/// made something else of.
fn merge<T: Clone + PartialEq>(
    (base, draft, head): (&[T], &[T], &[T]),
    name: impl Fn(&T) -> String,
    resolve: impl Fn(&str, Three<'_, T>) -> Result<Option<T>, Vec<Clash>>,
    clashes: &mut Vec<Clash>,
) -> Vec<T> {
    let base: BTreeMap<String, &T> = named(base, &name).into_iter().collect();
    let drafted = named(draft, &name);
    let draft: BTreeMap<&str, &T> = drafted.iter().map(|(name, one)| (&**name, *one)).collect();
    let heads = named(head, &name);
    let head: BTreeMap<&str, &T> = heads.iter().map(|(name, one)| (&**name, *one)).collect();
    let new = drafted
        .iter()
        .filter(|(name, _)| !head.contains_key(name.as_str()));
    let mut merged = Vec::with_capacity(heads.len());
    for (name, _) in heads.iter().chain(new) {
        let three = (
            base.get(name).copied(),
            draft.get(name.as_str()).copied(),
            head.get(name.as_str()).copied(),
        );
        let outcome = match settle(three) {
            Ok(one) => Ok(one.cloned()),
            Err(Otherwise) => resolve(name, three),
        };
        match outcome {
            Ok(one) => merged.extend(one),
            Err(found) => clashes.extend(found),
        }
    }
    merged
}

/// Returns what becomes of a thing that at most one side has changed, or both in the same way.
fn settle<T: PartialEq + ?Sized>(
    (base, draft, head): Three<'_, T>,
) -> Result<Option<&T>, Otherwise> {
    if draft == base {
        Ok(head)
    } else if head == base || draft == head {
        Ok(draft)
    } else {
        Err(Otherwise)
    }
}

/// Merges a file of policies that both sides have changed.
fn by_policy(name: &str, three: Three<'_, Source>) -> Result<Option<Source>, Vec<Clash>> {
    let text =
        |source: Option<&Source>| source.map_or("", |source| source.text.as_str()).to_owned();
    let (base, draft, head) = (text(three.0), text(three.1), text(three.2));
    let outlines = (Outline::of(&base), Outline::of(&draft), Outline::of(&head));
    if !(outlines.0.whole && outlines.1.whole && outlines.2.whole) {
        return Err(vec![Clash {
            kind: ClashKind::File,
            name: name.to_owned(),
        }]);
    }
    let before = outlines.0.texts(&base);
    let (ours, theirs) = (outlines.1.texts(&draft), outlines.2.texts(&head));
    let mut clashes = Vec::new();
    let mut merged = head.clone();
    // From the back, so that what is in front stays where it is.
    for (id, segment) in outlines.2.policies.iter().rev() {
        let old = theirs.get(id).map(String::as_str);
        let three = (
            before.get(id).map(String::as_str),
            ours.get(id).map(String::as_str),
            old,
        );
        match settle(three) {
            Err(Otherwise) => clashes.push(Clash::policy(id)),
            Ok(new) if new == old => {}
            Ok(Some(new)) => merged.replace_range(segment.start..segment.end, new),
            Ok(None) => merged = cut(&merged, *segment),
        }
    }
    for (id, _) in &outlines.1.policies {
        let (old, Some(new)) = (before.get(id), ours.get(id)) else {
            continue;
        };
        match old {
            _ if theirs.contains_key(id) => {}
            // They have removed what we have not changed.
            Some(old) if old == new => {}
            Some(_) => clashes.push(Clash::policy(id)),
            None => {
                if !merged.is_empty() {
                    merged.push_str(if merged.ends_with('\n') { "\n" } else { "\n\n" });
                }
                merged.push_str(new);
                merged.push('\n');
            }
        }
    }
    if !clashes.is_empty() {
        return Err(clashes);
    }
    let left = !merged.trim().is_empty();
    Ok(left.then(|| Source {
        file: three
            .2
            .or(three.1)
            .map_or_else(|| name.to_owned(), |one| one.file.clone()),
        text: merged,
    }))
}

/// Finds where a policy stands: in which file, and where there.
fn locate(bundle: &Bundle, id: &PolicyId) -> Result<Option<(usize, Segment)>, CompileError> {
    // An id that is written with escapes is found by its backslash.
    let may_hold = |text: &str| text.contains(id.as_str()) || text.contains('\\');
    on_large_stack(|| {
        for (place, source) in bundle.policies.iter().enumerate() {
            if !may_hold(&source.text) {
                continue;
            }
            let outline = Outline::of(&source.text);
            let found = outline.policies.iter().find(|(found, _)| found == id);
            if let Some((_, segment)) = found {
                return Ok(Some((place, *segment)));
            }
        }
        Ok(None)
    })
}

fn cut(text: &str, segment: Segment) -> String {
    let before = text.get(..segment.start).unwrap_or_default();
    let after = text.get(segment.end..).unwrap_or_default();
    without_lines(before, after)
}

/// Names the things of a list in their order; what has the name of another is numbered.
fn named<T>(list: &[T], name: impl Fn(&T) -> String) -> Vec<(String, &T)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let numbered = list.iter().map(|one| {
        let name = name(one);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => (name, one),
            count => (format!("{name} ({count})"), one),
        }
    });
    numbered.collect()
}

fn files(sources: &[Source]) -> BTreeMap<String, &Source> {
    let named = named(sources, |source| source.file.clone());
    named.into_iter().collect()
}

fn same<T: PartialEq>(before: &[T], after: &[T], name: impl Fn(&T) -> String) -> bool {
    let before: BTreeMap<String, &T> = named(before, &name).into_iter().collect();
    let after: BTreeMap<String, &T> = named(after, &name).into_iter().collect();
    before == after
}

/// Returns the ids that stand in a bundle more than once.
fn twice(bundle: &Bundle) -> BTreeSet<PolicyId> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for source in &bundle.policies {
        for (id, _) in Outline::of(&source.text).policies {
            if !seen.insert(id.clone()) {
                twice.insert(id);
            }
        }
    }
    twice
}

// === impl Clash ===

impl Clash {
    fn policy(id: &PolicyId) -> Self {
        Self {
            kind: ClashKind::Policy,
            name: id.to_string(),
        }
    }
}

// === impl Outline ===

impl Outline {
    /// Reads a text, on a large stack.
    fn of(text: &str) -> Self {
        let (segments, excesses) = guard::split(text);
        let read = in_chunks(&segments, |segment| {
            let piece = text.get(segment.start..segment.end).unwrap_or_default();
            match Rule::read(piece, None) {
                Ok(rule) => (Some(rule.id), true),
                Err(refused) => (refused.id, false),
            }
        });
        let mut whole = excesses.is_empty() && read.len() == segments.len();
        let mut policies = Vec::with_capacity(segments.len());
        let mut seen = BTreeSet::new();
        for ((id, readable), segment) in read.into_iter().zip(segments) {
            whole &= readable;
            match id {
                Some(id) => {
                    whole &= seen.insert(id.clone());
                    policies.push((id, segment));
                }
                None => whole = false,
            }
        }
        Self { policies, whole }
    }

    /// Returns the texts of the policies by id.
    fn texts(&self, text: &str) -> BTreeMap<PolicyId, String> {
        let policies = self.policies.iter();
        let texts = policies.map(|(id, segment)| {
            let piece = text.get(segment.start..segment.end).unwrap_or_default();
            (id.clone(), piece.to_owned())
        });
        texts.collect()
    }
}

#[cfg(test)]
mod tests;
