//! `/v1/approver-groups`: who answers for what a policy gives into the hands of a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{PrincipalName, Revision, Timestamp};
use remit_store::{
    Change, GROUP_NAME_BYTES, GroupMember, GroupRules, MOST_GROUPS, MOST_MEMBERS, StoredGroup,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::wants::ANY;
use crate::admin::{Act, Action, lockout::head, principals};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Page, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire};

/// How many requests may wait for a group, for each of its members, where it does not say.
pub(crate) const USUALLY_OPEN: u32 = 100;
/// How many answers a member gives within an hour at most, where the group does not say.
pub(crate) const USUALLY_PER_HOUR: u32 = 60;
/// After how many seconds something may go on to another group: a minute to a week.
const ESCALATES: std::ops::RangeInclusive<u32> = 60..=604_800;
/// The most that a group may say of both.
const LARGEST: u32 = 10_000;

/// A group to be made or replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupBody {
    members: Vec<GroupMember>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    escalates_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    escalate_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most_open: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most_per_hour: Option<u32>,
}

/// A group as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    name: String,
    members: Vec<GroupMember>,
    #[serde(flatten)]
    rules: GroupRules,
}

/// Lists the groups by name.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "approver_groups", "tenant": caller.tenant });
    let paging = Paging::<String>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let limit = paging.limit.min(MOST_GROUPS) + 1;
    let found = app
        .store
        .approver_groups(caller.tenant, paging.after.as_deref(), limit)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.name.clone())?;
    let groups: Vec<_> = found.into_iter().map(Shown::of).collect();
    Ok(paging::answer(&uri, "groups", &groups, next.as_deref()))
}

/// Answers with one group.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let stored = app.store.approver_group(caller.tenant, &name).await?;
    let stored = stored.ok_or_else(|| absent(&name))?;
    let revision = stored.revision;
    let mut response = if preconditions.unchanged(revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(Shown::of(stored)).into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Makes or replaces a group.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(mut body): Body<GroupBody>,
) -> Result<Response, Problem> {
    check_name("name", &name)?;
    body.check(&name)?;
    body.members.sort();
    let (rules, members) = (body.rules(), body.members.clone());
    let asks = json!({ "caller": caller.key, "action": Action::PutApproverGroup.name(), "name": name, "group": body });
    let named = Named::of(&key, move || asks).await?;
    let make = put_once(
        &app,
        &caller,
        (&name, &rules, &members),
        &preconditions,
        named.as_ref(),
    );
    let (revision, ()) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let shown = Shown {
        name,
        members,
        rules,
    };
    let mut response = Json(shown).into_response();
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn put_once(
    app: &App,
    caller: &Caller,
    (name, rules, members): (&str, &GroupRules, &[GroupMember]),
    preconditions: &Preconditions,
    named: Option<&Named>,
) -> Result<(Revision, ()), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let before = app.store.approver_group(tenant, name).await?;
        preconditions.check(before.as_ref().map(|stored| stored.revision))?;
        let heir = before
            .as_ref()
            .and_then(|stored| stored.rules.escalates_to.clone());
        let were = before.map(|stored| stored.members).unwrap_or_default();
        let own = joins(app, caller, &were, members).await?
            || follows(app, caller, heir.as_deref(), rules).await?;
        let act = Act::on(Action::PutApproverGroup, name)
            .own(own)
            .with("members", json!(members))
            .with("before", json!(were))
            .with("rules", json!(rules));
        let record = app.permit(caller, act).await?;
        there(app, caller, rules, members).await?;
        let answer = Answer::of(named, &())?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let written = app
            .store
            .put_approver_group(tenant, Some(checked), (name, rules, members), change)
            .await;
        match Attempt::of(written)? {
            Attempt::Written(revision) => {
                principals::log(caller, &record, revision);
                return Ok((revision, ()));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Removes a group; what waits for it can be answered by nobody of it any more.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks =
        json!({ "caller": caller.key, "action": Action::DeleteApproverGroup.name(), "name": name });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let before = app.store.approver_group(tenant, &name).await?;
            let before = before.ok_or_else(|| absent(&name))?;
            preconditions.check(Some(before.revision))?;
            let act = Act::on(Action::DeleteApproverGroup, &name);
            let record = app.permit(&caller, act).await?;
            let answer = Answer::of(named.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written = app
                .store
                .delete_approver_group(tenant, Some(checked), &name, change)
                .await;
            match Attempt::of(written)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, ()));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, ()): (Revision, ()) =
        once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Returns the accounts of whoever makes a change, and of those in whose place they answer.
async fn answered_for(app: &App, caller: &Caller) -> Result<BTreeSet<PrincipalName>, Problem> {
    let at = app.exact_time().await?;
    let by = &caller.principal.name;
    Ok(app.store.mandates(caller.tenant, by, at).await?.accounts)
}

/// Whether a change puts an account of whoever makes it into a group, or of somebody in whose place they answer; or lets
/// one stay longer.
async fn joins(
    app: &App,
    caller: &Caller,
    had: &[GroupMember],
    members: &[GroupMember],
) -> Result<bool, Problem> {
    let accounts = answered_for(app, caller).await?;
    let end = |member: &GroupMember| member.until.map_or(i64::MAX, Timestamp::micros);
    Ok(members
        .iter()
        .filter(|member| accounts.contains(&member.principal))
        .any(|member| {
            let before = had.iter().find(|one| one.principal == member.principal);
            before.is_none_or(|before| end(before) < end(member))
        }))
}

/// Whether a change lets what is not answered go on to a group that has such an account.
async fn follows(
    app: &App,
    caller: &Caller,
    before: Option<&str>,
    rules: &GroupRules,
) -> Result<bool, Problem> {
    let Some(next) = rules
        .escalates_to
        .as_deref()
        .filter(|next| before != Some(*next))
    else {
        return Ok(false);
    };
    let accounts = answered_for(app, caller).await?;
    let group = app.store.approver_group(caller.tenant, next).await?;
    Ok(group.is_some_and(|group| {
        let mut members = group.members.iter();
        members.any(|member| accounts.contains(&member.principal))
    }))
}

/// Makes sure that members and the group that comes after are there.
async fn there(
    app: &App,
    caller: &Caller,
    rules: &GroupRules,
    members: &[GroupMember],
) -> Result<(), Problem> {
    for member in members {
        let found = app
            .store
            .principal(caller.tenant, &member.principal)
            .await?;
        let enabled = found.filter(|found| found.disabled_at.is_none());
        if enabled.is_none() {
            let detail = format!(
                "`members`: there is no enabled principal `{}`",
                member.principal
            );
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
    }
    if let Some(next) = &rules.escalates_to
        && app
            .store
            .approver_group(caller.tenant, next)
            .await?
            .is_none()
    {
        let detail = format!("`escalates_to`: there is no group `{next}`");
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    Ok(())
}

/// Checks the name of a group, which policies, paths and files have.
pub(crate) fn check_name(member: &str, name: &str) -> Result<(), Problem> {
    let mut bytes = name.bytes();
    let begins = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !(begins && goes_on && name.len() <= GROUP_NAME_BYTES) {
        let detail = format!(
            "`{member}`: the name of a group has 1 to {GROUP_NAME_BYTES} letters and digits of ASCII, `-`, `_` and `.`, and \
             begins with one of the first two"
        );
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    if name == ANY {
        let detail = format!("`{member}`: `{ANY}` stands for any approver and is no group");
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    Ok(())
}

fn absent(name: &str) -> Problem {
    let name: String = name.chars().take(GROUP_NAME_BYTES).collect();
    Problem::new(
        Kind::NOT_FOUND,
        format!("there is no group of approvers `{name}`"),
    )
}

// === impl GroupBody ===

impl GroupBody {
    fn check(&self, name: &str) -> Result<(), Problem> {
        let wrong = |detail: String| Err(Problem::new(Kind::INVALID_REQUEST, detail));
        if self.members.len() > MOST_MEMBERS {
            return wrong(format!("`members` has at most {MOST_MEMBERS} entries"));
        }
        let mut names: Vec<_> = self.members.iter().map(|one| &one.principal).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(one.as_str()),
            _ => None,
        }) {
            return wrong(format!("`members` names `{twice}` twice"));
        }
        if self.escalates_to.is_some() != self.escalate_after.is_some() {
            return wrong("`escalates_to` and `escalate_after` go together".to_owned());
        }
        if let Some(next) = &self.escalates_to {
            check_name("escalates_to", next)?;
            if next == name {
                return wrong("`escalates_to` must name another group".to_owned());
            }
        }
        if self
            .escalate_after
            .is_some_and(|after| !ESCALATES.contains(&after))
        {
            return wrong("`escalate_after` must be 60 to 604,800 seconds".to_owned());
        }
        for (member, value) in [
            ("most_open", self.most_open),
            ("most_per_hour", self.most_per_hour),
        ] {
            if value.is_some_and(|value| !(1..=LARGEST).contains(&value)) {
                return wrong(format!("`{member}` must be 1 to {LARGEST}"));
            }
        }
        Ok(())
    }

    fn rules(&self) -> GroupRules {
        GroupRules {
            escalate_after: self.escalate_after,
            escalates_to: self.escalates_to.clone(),
            most_open: self.most_open.unwrap_or(USUALLY_OPEN),
            most_per_hour: self.most_per_hour.unwrap_or(USUALLY_PER_HOUR),
        }
    }
}

// === impl Shown ===

impl Shown {
    fn of(stored: StoredGroup) -> Self {
        Self {
            name: stored.name,
            members: stored.members,
            rules: stored.rules,
        }
    }
}

impl Wire for GroupBody {}
