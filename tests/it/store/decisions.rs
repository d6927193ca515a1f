//! Decision records in the store: found by every filter, a page at a time.

use remit_core::{
    Action, Caller, ContentHash, Decision, DecisionId, DecisionRecord, Facts, PolicyId, Question,
    Reason, ReplicaId, Resource, Revision, Subject, TenantId, Verdict, canonical_json,
};
use remit_store::{
    DecisionFilter, EntityPattern, Error, ShippedRecord, SpoolPosition, StoredDecision,
};
use serde_json::{Map, json};

use super::{Fixture, time};

for_each_database! {
    decisions_are_found_by_every_filter;
    decisions_are_listed_in_pages;
    a_damaged_decision_is_reported;
}

/// One record of `tenant`; its number decides what it says.
pub fn record(fixture: &Fixture, tenant: TenantId, number: u64) -> ShippedRecord {
    let permit = !number.is_multiple_of(3);
    let policies = if permit {
        vec!["floor"]
    } else {
        vec!["no-export", "quiet-hours"]
    };
    let decision = Decision {
        limit: None,
        approval: None,
        duties: Vec::new(),
        exceptions: Vec::new(),
        lease: None,
        modify: None,
        ttl: None,
        verdict: if permit {
            Verdict::Permit
        } else {
            Verdict::Deny
        },
        reason: if permit {
            Reason::PolicyPermit
        } else {
            Reason::PolicyForbid
        },
        determining: policies.into_iter().map(PolicyId::new).collect(),
        errors: Vec::new(),
        obligations: Vec::new(),
        shadow: Vec::new(),
        notes: Vec::new(),
        revision: Revision::new(number),
        bundle: ContentHash::of(b""),
    };
    let context = json!({ "note": "\u{0} é 😀 \" \\ \n" });
    let question = Question {
        subject: Subject {
            kind: if number.is_multiple_of(2) {
                "Agent"
            } else {
                "Person"
            }
            .into(),
            id: format!("s{}", number % 5),
            properties: Map::new(),
        },
        action: Action {
            name: if number.is_multiple_of(7) {
                "export"
            } else {
                "call"
            }
            .into(),
            properties: Map::new(),
        },
        resource: Resource {
            kind: if number.is_multiple_of(2) {
                "Tool"
            } else {
                "File"
            }
            .into(),
            id: format!("r{}", number % 4),
            properties: Map::new(),
        },
        context: context.as_object().unwrap().clone(),
    };
    let at = fixture.clock.now();
    let record = DecisionRecord {
        id: fixture.decision_id(),
        tenant,
        at,
        caller: Caller {
            key: fixture.key_id(),
            request_id: None,
            trace_id: None,
        },
        question,
        facts: Facts::plain(fixture.key_id(), "live", at),
        decision,
        duration_us: 7,
    };
    shipped(&record, fixture.replica(), number)
}

/// The whole of a record that is on its way.
pub fn whole(shipped: &ShippedRecord) -> DecisionRecord {
    serde_json::from_str(&shipped.body).unwrap()
}

pub fn shipped(record: &DecisionRecord, replica: ReplicaId, sequence: u64) -> ShippedRecord {
    let body = String::from_utf8(canonical_json(record).unwrap()).unwrap();
    ShippedRecord {
        replica,
        sequence,
        head: serde_json::from_str(&body).unwrap(),
        body,
    }
}

/// The records `numbers` of one replica.
pub fn batch(
    fixture: &Fixture,
    tenant: TenantId,
    replica: ReplicaId,
    numbers: std::ops::Range<u64>,
) -> Vec<ShippedRecord> {
    numbers
        .map(|number| ShippedRecord {
            replica,
            ..record(fixture, tenant, number)
        })
        .collect()
}

pub fn position(replica: ReplicaId, sequence: u64) -> SpoolPosition {
    SpoolPosition {
        replica,
        segment: 1 + sequence / 10,
        offset: 100 * sequence,
        sequence,
    }
}

pub async fn all(fixture: &Fixture, tenant: TenantId) -> Vec<StoredDecision> {
    fixture
        .store
        .decisions(tenant, &DecisionFilter::default(), None, 1_000)
        .await
        .unwrap()
}

async fn decisions_are_found_by_every_filter(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let mut records = Vec::new();
    let start = fixture.clock.now();
    for number in 1..61 {
        let mut one = whole(&record(&fixture, tenant, number));
        one.at = time(start.micros() + number as i64 * 1_000_000);
        records.push(shipped(&one, replica, number));
    }
    store.ship(&position(replica, 60), &records).await.unwrap();

    let none = DecisionFilter::default;
    let subject = |kind: Option<&str>, id: Option<&str>| DecisionFilter {
        subject: EntityPattern {
            kind: kind.map(Into::into),
            id: id.map(Into::into),
        },
        ..none()
    };
    let resource = |kind: Option<&str>, id: Option<&str>| DecisionFilter {
        resource: EntityPattern {
            kind: kind.map(Into::into),
            id: id.map(Into::into),
        },
        ..none()
    };
    let at = |seconds: i64| Some(time(start.micros() + seconds * 1_000_000));
    let policy = |id: &str| DecisionFilter {
        policy: Some(PolicyId::new(id)),
        ..none()
    };
    let filters = [
        none(),
        DecisionFilter {
            from: at(20),
            ..none()
        },
        DecisionFilter {
            until: at(20),
            ..none()
        },
        DecisionFilter {
            from: at(20),
            until: at(40),
            ..none()
        },
        DecisionFilter {
            from: at(40),
            until: at(20),
            ..none()
        },
        DecisionFilter {
            until: Some(time(0)),
            ..none()
        },
        DecisionFilter {
            from: at(1_000_000),
            ..none()
        },
        DecisionFilter {
            verdict: Some(Verdict::Permit),
            ..none()
        },
        DecisionFilter {
            verdict: Some(Verdict::Deny),
            ..none()
        },
        DecisionFilter {
            reason: Some(Reason::PolicyForbid),
            ..none()
        },
        DecisionFilter {
            reason: Some(Reason::EngineFault),
            ..none()
        },
        subject(Some("Agent"), None),
        subject(None, Some("s3")),
        subject(Some("Agent"), Some("s3")),
        subject(Some("Agent"), Some("S3")),
        DecisionFilter {
            action: Some("export".into()),
            ..none()
        },
        resource(Some("Tool"), None),
        resource(None, Some("r2")),
        resource(Some("File"), Some("r2")),
        policy("floor"),
        policy("quiet-hours"),
        policy("Quiet-Hours"),
        policy("' OR TRUE --"),
        DecisionFilter {
            newer_than: Some(records[29].head.id),
            ..none()
        },
        DecisionFilter {
            policy: Some(PolicyId::new("no-export")),
            from: at(10),
            ..subject(Some("Agent"), Some("s1"))
        },
        DecisionFilter {
            verdict: Some(Verdict::Deny),
            action: Some("call".into()),
            ..resource(None, Some("r1"))
        },
        DecisionFilter {
            reason: Some(Reason::PolicyPermit),
            action: Some("export".into()),
            ..none()
        },
        DecisionFilter {
            verdict: Some(Verdict::Permit),
            reason: Some(Reason::PolicyForbid),
            ..none()
        },
    ];
    let mut sizes = Vec::new();
    for filter in filters {
        let mut wanted: Vec<DecisionId> = records
            .iter()
            .map(whole)
            .filter(|one| fits(&filter, one))
            .map(|one| one.id)
            .collect();
        wanted.sort();
        wanted.reverse();
        let found = store.decisions(tenant, &filter, None, 1_000).await.unwrap();
        let found: Vec<DecisionId> = found.into_iter().map(|one| one.record.id).collect();
        assert_eq!(found, wanted, "{filter:?}");
        sizes.push(found.len());
    }
    assert!(
        sizes.iter().filter(|size| (1..60).contains(*size)).count() >= 18,
        "{sizes:?}: most filters must bite"
    );
}

/// What a filter means, in so many words.
fn fits(filter: &DecisionFilter, record: &DecisionRecord) -> bool {
    let text = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted == found)
    };
    let question = &record.question;
    filter.from.is_none_or(|from| record.at >= from)
        && filter.until.is_none_or(|until| record.at < until)
        && filter.newer_than.is_none_or(|id| record.id > id)
        && filter
            .verdict
            .is_none_or(|verdict| record.decision.verdict == verdict)
        && filter
            .reason
            .is_none_or(|reason| record.decision.reason == reason)
        && text(&filter.subject.kind, &question.subject.kind)
        && text(&filter.subject.id, &question.subject.id)
        && text(&filter.action, &question.action.name)
        && text(&filter.resource.kind, &question.resource.kind)
        && text(&filter.resource.id, &question.resource.id)
        && filter
            .policy
            .as_ref()
            .is_none_or(|policy| record.decision.determining.contains(policy))
}

async fn decisions_are_listed_in_pages(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let records = batch(&fixture, tenant, replica, 1..41);
    store.ship(&position(replica, 40), &records).await.unwrap();
    for policy in [None, Some(PolicyId::new("floor"))] {
        let filter = DecisionFilter {
            policy,
            ..DecisionFilter::default()
        };
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = store.decisions(tenant, &filter, after, 7).await.unwrap();
            assert!(page.len() <= 7);
            let Some(last) = page.last() else { break };
            after = Some(last.record.id);
            ids.extend(page.iter().map(|one| one.record.id));
            // What arrives meanwhile is newer than the page, so no page shows it and none repeats or skips a row.
            let number = 1_000 + ids.len() as u64;
            store
                .ship(&position(replica, 41), &[record(&fixture, tenant, number)])
                .await
                .unwrap();
        }
        let mut wanted: Vec<DecisionId> = records
            .iter()
            .map(whole)
            .filter(|one| fits(&filter, one))
            .map(|one| one.id)
            .collect();
        wanted.reverse();
        ids.retain(|id| wanted.contains(id));
        assert_eq!(ids, wanted);
    }
    let many = store
        .decisions(tenant, &DecisionFilter::default(), None, usize::MAX)
        .await
        .unwrap();
    assert!(many.len() > 40);
    assert_eq!(
        store
            .decisions(tenant, &DecisionFilter::default(), None, 0)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// F19: a row that was changed by hand is an error that names it, and the others can still be read.
async fn a_damaged_decision_is_reported(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let records = batch(&fixture, tenant, replica, 1..3);
    store.ship(&position(replica, 2), &records).await.unwrap();
    let (fine, bad) = (records[0].head.id, records[1].head.id);
    let swapped = format!(
        "UPDATE decisions SET body = '{}' WHERE sequence = 2",
        records[0].body.replace('\'', "''")
    );
    for damage in [
        "UPDATE decisions SET body = '{\"id\":1}' WHERE sequence = 2",
        &swapped,
    ] {
        if !fixture.damage(damage).await {
            return;
        }
        let listed = store
            .decisions(tenant, &DecisionFilter::default(), None, 10)
            .await
            .map(drop);
        for result in [listed, store.decision(tenant, bad).await.map(drop)] {
            match result {
                Err(Error::Corrupt {
                    table: "decisions",
                    what,
                }) => assert!(what.contains(&bad.to_string()), "{what}"),
                other => panic!("{damage}: {other:?}"),
            }
        }
        assert!(store.decision(tenant, fine).await.unwrap().is_some());
        // Shipping the true record again does not paper over the damage.
        let again = store.ship(&position(replica, 2), &records).await;
        assert!(matches!(again, Err(Error::Diverged { .. })), "{again:?}");
    }
}
