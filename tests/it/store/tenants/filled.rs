//! A tenant that has something in every table.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    AdminAction, AdminActionId, Budget, ContentHash, DecisionId, DraftId, EntityUid, KeyId, Label,
    Outcome, OutcomeResult, Principal, PrincipalKind, ReplicaId, Role, TenantId, WebhookId,
};
use remit_store::{
    Applied, Authorship, Change, Disagreement, Expected, NewDraft, NewReview, Once,
    PendingSettings, Replica, Report, ReviewVerdict, Settings, ShadowGroup, ShadowNote,
};

use crate::store::break_glass::ask;
use crate::store::decisions::{batch, position};
use crate::store::{Fixture, budgets, bundle, entity, new_key, pepper};

/// Puts something into every table that has rows of tenants.
pub async fn fill(fixture: &Fixture, tenant: TenantId, rows: u64) {
    let store = &fixture.store;
    let once = Once {
        key: "once",
        request: ContentHash::of(b"it"),
        answer: "{}",
    };
    let authorship = Authorship {
        message: Some("it begins"),
        ..Authorship::default()
    };
    let principal = Principal {
        kind: PrincipalKind::Person,
        name: "maya".parse().unwrap(),
        roles: BTreeSet::from([Role::Admin]),
    };
    store
        .put_principal(tenant, None, &principal, Change::default())
        .await
        .unwrap();
    let record = AdminAction::of_itself(
        AdminActionId::from_uuid(fixture.clock.id()),
        fixture.clock.now(),
        "put_bundle",
        EntityUid::new("Tenant", tenant.to_string()),
    );
    let change = Change {
        record: Some(&record),
        once: Some(once),
    };
    store
        .put_version(tenant, Expected::Any, &bundle("// it"), authorship, change)
        .await
        .unwrap();
    let entities: Vec<_> = (0..rows)
        .map(|number| entity("Agent", &format!("a{number}"), 1))
        .collect();
    store.upsert_entities(tenant, &entities).await.unwrap();
    store
        .delete_entities(tenant, &[EntityUid::new("Agent", "a0")])
        .await
        .unwrap();
    store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    fill_drafts(fixture, tenant).await;
    fill_approvers(fixture, tenant).await;
    fill_budgets(fixture, tenant).await;
    fill_approvals(fixture, tenant).await;
    fill_webhooks(fixture, tenant).await;
    crate::store::tasks::fill(fixture, tenant).await;
    let replica = fixture.replica();
    fill_shadow(fixture, tenant, replica).await;
    let records = batch(fixture, tenant, replica, 1..rows + 1);
    store
        .ship(&position(replica, rows), &records)
        .await
        .unwrap();
    let beating = Replica {
        id: replica,
        name: "a".into(),
        version: "1".into(),
        lease: Duration::from_secs(5),
    };
    let applied = Applied {
        tenant,
        revision: remit_core::Revision::new(1),
        failure: None,
    };
    store.heartbeat(&beating, &[applied]).await.unwrap();
}

/// Makes a group of approvers, and somebody who answers in the place of another.
async fn fill_approvers(fixture: &Fixture, tenant: TenantId) {
    let (store, none) = (&fixture.store, Change::default);
    let rules = remit_store::GroupRules {
        escalate_after: None,
        escalates_to: None,
        most_open: 1,
        most_per_hour: 1,
    };
    let members = [remit_store::GroupMember {
        principal: "maya".parse().unwrap(),
        until: None,
    }];
    let group = ("finance", &rules, &members[..]);
    store
        .put_approver_group(tenant, None, group, none())
        .await
        .unwrap();
    let delegation = remit_store::StoredDelegation {
        from: "maya".parse().unwrap(),
        to: "ben".parse().unwrap(),
        until: fixture.clock.now(),
        reason: "on leave".to_owned(),
        made_by: "maya".parse().unwrap(),
        at: fixture.clock.now(),
        revision: remit_core::Revision::default(),
    };
    let put = store.put_approver_delegation(tenant, None, &delegation, none());
    put.await.unwrap();
}

/// Opens a task with a budget, of which something is reserved and something was told.
async fn fill_budgets(fixture: &Fixture, tenant: TenantId) {
    let budget = Budget {
        calls: Some(3),
        ..Budget::default()
    };
    let task = budgets::task(fixture, tenant, None, budget).await;
    let record = budgets::shared(fixture, tenant, 0);
    budgets::consume(&fixture.store, tenant, &[task], budgets::calls(1), &record).await;
    let told = Outcome {
        labels: Label::worst(),
        ..budgets::outcome(fixture, fixture.decision_id(), OutcomeResult::Succeeded)
    };
    let report = Report {
        outcome: &told,
        request: ContentHash::of(b"it"),
        chain: &[task],
        charges: None,
        made: told.at,
        escrowed: false,
        hold: budgets::HOLD,
        trusted: &BTreeSet::from([[7; 16]]),
    };
    fixture.store.report(tenant, &report).await.unwrap();
}

/// Makes requests that were joined and asked together, and one that was approved and used.
async fn fill_approvals(fixture: &Fixture, tenant: TenantId) {
    crate::store::approvals::used(fixture, tenant).await;
    let store = &fixture.store;
    let asked = crate::store::approvals::pending((store, &fixture.clock), tenant, 7).await;
    let by = "maya".parse().unwrap();
    let answer = remit_store::NewAnswer {
        by: &by,
        key: KeyId::from_uuid(fixture.clock.id()),
        approves: true,
        groups: &std::collections::BTreeMap::new(),
        scope: None,
        card_hash: remit_core::ContentHash::of(b"card"),
        reason: "",
        at: fixture.clock.now(),
    };
    let kept = (&answer, remit_store::Makes::Nothing);
    store
        .answer_request(tenant, None, asked, kept, Change::default())
        .await
        .unwrap();
}

/// Makes a webhook that was given a second secret, to which something is to be sent.
async fn fill_webhooks(fixture: &Fixture, tenant: TenantId) {
    let (store, none) = (&fixture.store, Change::default);
    let webhook = WebhookId::from_uuid(fixture.clock.id());
    let target = remit_store::WebhookTarget {
        url: "https://chat.example.com/remit".to_owned(),
        kinds: vec!["access_request.".to_owned()],
        callbacks: true,
    };
    let by = "maya".parse().unwrap();
    let made = store.create_webhook(tenant, None, (webhook, &by, &target, "sealed"), none());
    made.await.unwrap();
    let later = fixture.clock.now().plus(Duration::from_hours(24));
    let rotated = store.rotate_webhook(tenant, None, (webhook, "sealed again", later), none());
    rotated.await.unwrap();
    let delivery = remit_store::NewDelivery {
        id: fixture.clock.id(),
        about: "event/1.0".to_owned(),
        kind: "access_request.created".to_owned(),
        subject: "one".to_owned(),
        url: Some("https://chat.example.com/remit/1".to_owned()),
        body: "{}".to_owned(),
    };
    let hook = remit_store::Hook { tenant, webhook };
    store.queue_delivery(hook, &delivery, none()).await.unwrap();
}

/// Makes a draft with a review, and a change of the settings and a break-glass grant that wait for another person.
async fn fill_drafts(fixture: &Fixture, tenant: TenantId) {
    let (store, at) = (&fixture.store, fixture.clock.now());
    crate::store::registry::fill(fixture, tenant).await;
    let key = KeyId::from_uuid(fixture.clock.id());
    let new = NewDraft {
        id: DraftId::from_uuid(fixture.clock.id()),
        at,
        name: "one",
        message: None,
        base: None,
        bundle: &bundle("// a draft"),
        author: "ana",
    };
    let made = store.create_draft(tenant, new, Change::default());
    let draft = made.await.unwrap();
    let review = NewReview {
        principal: "maya",
        key,
        at,
        verdict: ReviewVerdict::Approve,
        message: None,
    };
    store
        .review_draft(tenant, (draft.id, draft.version), review, Change::default())
        .await
        .unwrap();
    let pending = PendingSettings {
        settings: Settings {
            second_person: true,
        },
        asked_by: "maya".parse().unwrap(),
        key,
        at,
    };
    store
        .ask_settings(tenant, Some(&pending), Change::default())
        .await
        .unwrap();
    ask(fixture, tenant, "maya", at).await.unwrap();
    let lease = DecisionId::from_uuid(fixture.clock.id());
    let longest = Duration::from_hours(24);
    store.end_lease(tenant, lease, (at, longest)).await.unwrap();
    crate::store::exceptions::propose(fixture, tenant)
        .await
        .unwrap();
}

/// Puts a shadow that has found something.
async fn fill_shadow(fixture: &Fixture, tenant: TenantId, replica: ReplicaId) {
    let store = &fixture.store;
    let bundle = bundle("// a shadow");
    let put = store.put_shadow(tenant, Expected::Any, &bundle, None, Change::default());
    let shadow = put.await.unwrap();
    let group = ShadowGroup {
        kind: ContentHash::of(b"one"),
        outcome: "newly_denied".to_owned(),
        action: "call".to_owned(),
        before: "{}".to_owned(),
        after: "{}".to_owned(),
    };
    let note = ShadowNote {
        groups: vec![(group.clone(), 1)],
        disagreements: vec![Disagreement {
            decision: DecisionId::from_uuid(fixture.clock.id()),
            group,
            at: fixture.clock.now(),
        }],
        ..ShadowNote::default()
    };
    store
        .note_shadow(tenant, shadow, replica, &note)
        .await
        .unwrap();
}
