//! The quorum: whether as many persons have approved as each group that is wanted asks for.

use std::collections::{BTreeMap, BTreeSet};

use remit_core::{ApprovalScope, PrincipalName, TenantId, Timestamp};
use remit_store::{GivenAnswer, StoredRequest};
use serde::{Deserialize, Serialize};

use super::standing::{About, Standing};
use super::wants::Wants;
use crate::admin::{Action, second_person::still_may};
use crate::app::App;
use crate::problem::Problem;

/// Somebody who approves, as it counts now.
pub(super) struct Counted {
    /// Who.
    pub(super) by: PrincipalName,
    /// The natural person.
    person: PrincipalName,
    /// The groups that they stand for now, each with the natural person whose place it is.
    groups: BTreeMap<String, PrincipalName>,
    /// For what they approved, and until when.
    pub(super) scope: Option<(ApprovalScope, Timestamp)>,
}

/// How far a group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    group: String,
    needed: u32,
    approved: u32,
}

/// Finds those who approved and count today: who may not any more, be it that their part was taken back, does not,
/// and neither does who approved until a moment that is over.
pub(super) async fn counted(
    app: &App,
    tenant: TenantId,
    (request, about): (&StoredRequest, &About),
    answers: &[GivenAnswer],
    at: Timestamp,
) -> Result<Vec<Counted>, Problem> {
    let mut found = Vec::new();
    let escalated = request.escalated_at.is_some();
    for answer in answers.iter().filter(|answer| answer.approves) {
        let what = (about, &request.wants, escalated);
        let standing = Standing::of(app, tenant, &answer.by, what, at).await?;
        let act = about.act(
            Action::ApproveRequest,
            request.id,
            (&request.wants, Some(&standing)),
        );
        let scope = answer
            .scope
            .map(|(scope, holds)| (scope, holds.until(answer.at, at)));
        let over = scope.is_some_and(|(_, until)| until <= at);
        if !over && still_may(app, tenant, &answer.by, answer.key, &act).await? {
            found.push(Counted::of(answer.by.clone(), standing, scope));
        }
    }
    Ok(found)
}

/// Says how far each group is.
pub(super) fn progress(wants: &Wants, counted: &[Counted]) -> Vec<Progress> {
    wants
        .iter()
        .map(|(group, needed)| Progress {
            group: group.clone(),
            needed: *needed,
            approved: persons_for(group, counted),
        })
        .collect()
}

/// Whether every group has as many as it needs.
pub(super) fn is_met(progress: &[Progress]) -> bool {
    progress.iter().all(|one| one.approved >= one.needed)
}

/// Counts the persons who approve for a group. Two accounts of one person are one, and so are a member and whoever answers
/// in their place.
fn persons_for(group: &str, counted: &[Counted]) -> u32 {
    let (mut persons, mut places) = (BTreeSet::new(), BTreeSet::new());
    for one in counted {
        if let Some(place) = one.groups.get(group) {
            persons.insert(&one.person);
            places.insert(place);
        }
    }
    u32::try_from(persons.len().min(places.len())).unwrap_or(u32::MAX)
}

/// Returns what all of them approve: the least of what each of them does.
pub(super) fn least(counted: &[Counted]) -> Option<(ApprovalScope, Timestamp)> {
    counted
        .iter()
        .filter_map(|one| one.scope)
        .reduce(|one, other| {
            let scope = match (one.0, other.0) {
                (
                    ApprovalScope::Task { amount, uses },
                    ApprovalScope::Task {
                        amount: most,
                        uses: often,
                    },
                ) => ApprovalScope::Task {
                    amount: match (amount, most) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    },
                    uses: uses.min(often),
                },
                _ => ApprovalScope::Once,
            };
            (scope, one.1.min(other.1))
        })
}

// === impl Counted ===

impl Counted {
    pub(super) fn of(
        by: PrincipalName,
        standing: Standing,
        scope: Option<(ApprovalScope, Timestamp)>,
    ) -> Self {
        let Standing {
            groups, mandates, ..
        } = standing;
        let person = mandates.person.unwrap_or_else(|| by.clone());
        let places = groups.into_iter().map(|(group, place)| {
            let of = mandates.persons.get(&place).cloned();
            let own = place == by;
            let of = of.unwrap_or_else(|| if own { person.clone() } else { place });
            (group, of)
        });
        Self {
            groups: places.collect(),
            by,
            person,
            scope,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn one(by: &str, person: &str, groups: &[(&str, &str)]) -> Counted {
        let groups = groups.iter();
        Counted {
            by: by.parse().unwrap(),
            person: person.parse().unwrap(),
            groups: groups
                .map(|(group, of)| ((*group).to_owned(), of.parse().unwrap()))
                .collect(),
            scope: None,
        }
    }

    #[test]
    fn persons_count_and_accounts_and_places_do_not() {
        let ann = || one("ann", "ann", &[("finance", "ann")]);
        for (who, persons) in [
            (vec![ann()], 1),
            (vec![ann(), one("ben", "ben", &[("finance", "ben")])], 2),
            (vec![ann(), one("ann-2", "ann", &[("finance", "ann")])], 1),
            (vec![ann(), one("ben", "ben", &[("finance", "ann")])], 1),
            (
                vec![
                    one("ben", "ben", &[("finance", "ann")]),
                    one("cy", "cy", &[("finance", "dan")]),
                ],
                2,
            ),
            (vec![one("ben", "ben", &[("legal", "ben")])], 0),
        ] {
            assert_eq!(persons_for("finance", &who), persons);
        }
    }

    #[test]
    fn several_approve_the_least_of_what_each_does() {
        let at = Timestamp::from_micros;
        let task = |amount, uses| ApprovalScope::Task { amount, uses };
        let with = |scope, until| Counted {
            scope: Some((scope, at(until))),
            ..one("ann", "ann", &[])
        };
        let both = [with(task(Some(5), 9), 10), with(task(None, 3), 8)];
        assert_eq!(least(&both), Some((task(Some(5), 3), at(8))));
        let once = [with(task(None, 9), 10), with(ApprovalScope::Once, 20)];
        assert_eq!(least(&once), Some((ApprovalScope::Once, at(10))));
        assert_eq!(least(&[]), None);
    }
}
