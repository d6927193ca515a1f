//! Evidence: what spoke for a version when it was published, kept with it for good.

use std::collections::BTreeSet;

use remit_core::DraftId;
use serde::{Deserialize, Serialize};

use super::Checked;
use super::drafts::findings::{Cases, Results, Summary};
use crate::admin::second_person::SecondPersons;
use crate::auth::Caller;
use crate::problem::{Kind, Problem};

/// What spoke for a version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// The draft that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draft: Option<DraftId>,
    /// Every principal that had a hand in it.
    authors: BTreeSet<String>,
    /// The principal that published it.
    publisher: String,
    /// Those who had approved exactly this, and count as a second person.
    reviewers: BTreeSet<String>,
    /// What its cases came to.
    cases: Cases,
    /// How much somebody should have looked at.
    warnings: usize,
    /// Whether it may permit what was denied.
    loosens: bool,
    /// What recorded decisions would have been under it, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    impact: Option<Summary>,
}

// === impl Evidence ===

impl Evidence {
    /// Takes together what speaks for a bundle that was checked.
    pub(super) fn of(
        caller: &Caller,
        checked: &Checked,
        second: &SecondPersons,
    ) -> Result<Self, Problem> {
        let publisher = caller.principal.name.to_string();
        let drafted = checked.draft.as_ref();
        let results = drafted.map(|drafted| Results::standing(&drafted.draft));
        Ok(Self {
            draft: drafted.map(|drafted| drafted.draft.id),
            authors: match drafted {
                Some(drafted) => drafted.draft.authors.clone(),
                None => BTreeSet::from([publisher.clone()]),
            },
            reviewers: second.agreed.clone(),
            publisher,
            cases: Cases::of(&checked.tried.cases),
            warnings: checked.tried.warnings.len(),
            loosens: checked.tried.loosens(),
            impact: results.transpose()?.and_then(Results::into_summary),
        })
    }

    /// Reads what is kept with a version.
    pub(crate) fn read(text: &str) -> Result<Self, Problem> {
        serde_json::from_str(text).map_err(|error| Problem::caused(Kind::INTERNAL, error))
    }
}
