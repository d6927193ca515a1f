//! The life of one rule, told by two real replicas on one Postgres: written, blocked, mended, weighed against what was
//! decided, approved by a second person, in force everywhere, taken back, and proved afterwards.
//!
//! `cargo test --test it govern_story -- --nocapture` shows it. Every line of it is asserted before it is told.

use std::time::{Duration, Instant};

use remit_core::{Bundle, Case};
use remit_tests::postgres::Postgres;
use remit_tests::server::{Answer, Remit, send};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::{folder, with};

mod telling;

use telling::{
    ALDER, BOLD, CASES, DONE, MODEST, WIDTH, approval, ask, chapter, eur, good, list, meant, ms,
    number, payment, questions, reached, red, refused, tell, text, wrapped,
};

/// How long what arrives by itself may take, on a machine that compiles something meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);
/// A payment that waits for an approval before the change and does not after it, in cents.
const AMOUNT: i64 = 180_000;
/// The case that says where the limit is.
const LIMIT: &str = "one cent more waits for an approval";

/// Starts one replica, with more patience than usual: a machine that compiles something meanwhile is no lost replica.
async fn replica(url: &str, name: &str) -> Remit {
    Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .variable("REMIT__DATABASE__URL", url)
        .variable("REMIT__REPLICA__NAME", name)
        .variable("REMIT__AUTH__PEPPER", &"pepper".repeat(8))
        .variable("REMIT__POLICY__MAX_STALENESS_MS", "30000")
        .start()
        .await
}

/// Who takes part, and what is known so far.
struct Story {
    a: Remit,
    b: Remit,
    ana: String,
    ben: String,
    /// The bundle that the story begins with.
    first: u64,
    /// How many decisions were asked.
    asked: u64,
    /// The draft, and its `ETag`.
    draft: String,
    tag: String,
}

/// One payment that was asked about.
struct Payment {
    permitted: bool,
    reason: String,
    revision: u64,
}

// === impl Story ===

impl Story {
    /// Makes a principal and a key that is bound to it.
    async fn person(at: &Remit, name: &str, roles: &[&str]) -> String {
        let path = format!("/v1/principals/{name}");
        let body = json!({ "kind": "person", "roles": roles });
        let made = ask(at, &at.key, Method::PUT, &path, None, Some(&body)).await;
        assert_eq!(good(&made, 200)["roles"], json!(roles));
        let body = json!({
            "name": format!("{name}-laptop"), "environment": "dev", "scopes": ["read", "write"], "principal": name,
        });
        let made = ask(at, &at.key, Method::POST, "/v1/keys", None, Some(&body)).await;
        text(&good(&made, 201)["key"]).to_owned()
    }

    async fn begin(url: &str) -> Self {
        chapter(1, "Two replicas on one Postgres, and two people");
        let began = Instant::now();
        let a = replica(url, "a").await;
        let b = replica(url, "b").await;
        tell(&format!(
            "   a and b are ready after {} ms, with the policies of the starter pack",
            ms(began)
        ));
        let ana = Self::person(&a, "ana", &["author"]).await;
        let ben = Self::person(&a, "ben", &["publisher", "approver"]).await;
        let settings = a.get("/v1/settings").await;
        let tag = settings.header("etag").to_owned();
        let body = json!({ "second_person": true });
        let set = ask(
            &a,
            &a.key,
            Method::PUT,
            "/v1/settings",
            Some(&tag),
            Some(&body),
        )
        .await;
        assert_eq!(good(&set, 200)["second_person"], true);
        let revision = set.header("remit-revision").to_owned();
        let path = format!("/v1/revisions/{revision}?wait=10000");
        let there = good(&a.get(&path).await, 200);
        assert_eq!(reached(&there), ["a", "b"], "{there:#}");
        let who = good(
            &ask(&b, &ben, Method::GET, "/v1/whoami", None, None).await,
            200,
        );
        assert_eq!(who["principal"]["name"], "ben", "{who:#}");
        tell("   ana   author                 works on a");
        tell("   ben   publisher, approver    works on b, which knows the key that a made");
        tell(&format!(
            "   what may permit more now needs a second person: revision {revision}, on a and b"
        ));
        let first = good(&a.get("/v1/bundle/versions?limit=1").await, 200);
        Self {
            first: number(&first["versions"][0]["revision"]),
            a,
            b,
            ana,
            ben,
            asked: 0,
            draft: String::new(),
            tag: String::new(),
        }
    }

    /// Asks one replica about a payment, at a revision or later.
    async fn pay(&mut self, on: &str, amount: i64, revision: Option<u64>) -> Payment {
        let at = if on == "a" { &self.a } else { &self.b };
        let mut request = at.request(Method::POST, "/access/v1/evaluation");
        if let Some(revision) = revision {
            request = request.header("remit-revision", revision.to_string());
        }
        let answer = send(request.json(&payment(ALDER, amount))).await;
        let body = good(&answer, 200);
        self.asked += 1;
        Payment {
            permitted: body["decision"] == true,
            reason: text(&body["context"]["reason"]).to_owned(),
            revision: answer.header("remit-revision").parse().unwrap(),
        }
    }

    async fn a_day_of_questions(&mut self) {
        chapter(
            2,
            "A day of questions: payments, tools, documents, asked of both",
        );
        let began = Instant::now();
        let mut permitted = 0;
        for (number, question) in questions().iter().enumerate() {
            let at = if number % 2 == 0 { &self.a } else { &self.b };
            let body = good(&at.post("/access/v1/evaluation", question).await, 200);
            permitted += u64::from(body["decision"] == true);
            self.asked += 1;
        }
        let took = ms(began);
        let paid = self.pay("b", AMOUNT, None).await;
        assert!(!paid.permitted);
        assert_eq!(paid.reason, "approval_required");
        assert!(self.asked >= 200);
        let shipped = self.shipped().await;
        tell(&format!(
            "   {} decisions in {took} ms, {permitted} of them permits; all in the database {shipped} ms later",
            self.asked
        ));
        tell(&format!(
            "   one of them: invoice-bot pays Alder Paper {} → deny, {}",
            eur(AMOUNT),
            paid.reason
        ));
    }

    /// Waits until the database has every decision that was asked, and returns how long that took.
    async fn shipped(&self) -> u128 {
        let began = Instant::now();
        loop {
            let page = good(&self.a.get("/v1/decisions?limit=1000").await, 200);
            if list(&page["decisions"]).len() as u64 == self.asked {
                return ms(began);
            }
            assert!(began.elapsed() < PATIENCE, "they are not shipped");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a request of Ana's about the draft.
    async fn edit(&mut self, method: Method, path: &str, body: &Value) -> Value {
        let path = format!("/v1/drafts/{}{path}", self.draft);
        let saved = ask(
            &self.a,
            &self.ana,
            method,
            &path,
            Some(&self.tag),
            Some(body),
        )
        .await;
        saved.header("etag").clone_into(&mut self.tag);
        good(&saved, 200)
    }

    /// Checks the draft, and returns what came of it and how long it took.
    async fn check(&self) -> (Value, u128) {
        let began = Instant::now();
        let path = format!("/v1/drafts/{}/check", self.draft);
        let checked = ask(&self.a, &self.ana, Method::POST, &path, None, None).await;
        (good(&checked, 200), ms(began))
    }

    async fn publish(&self, at: &Remit, key: &str) -> Answer {
        let path = format!("/v1/drafts/{}/publish?wait=fleet", self.draft);
        ask(
            at,
            key,
            Method::POST,
            &path,
            Some(&self.tag),
            Some(&json!({})),
        )
        .await
    }

    async fn a_bold_draft(&mut self) {
        chapter(
            3,
            "Ana raises the limit of payment-approval to 5,000.00 EUR, in a draft",
        );
        let body =
            json!({ "name": "alder-paper", "message": "Alder Paper is paid up to 2,500.00 EUR" });
        let made = ask(
            &self.a,
            &self.ana,
            Method::POST,
            "/v1/drafts",
            None,
            Some(&body),
        )
        .await;
        text(&good(&made, 201)["id"]).clone_into(&mut self.draft);
        made.header("etag").clone_into(&mut self.tag);
        let policy = approval(BOLD);
        let saved = self
            .edit(Method::PUT, "/policies/payment-approval", &policy)
            .await;
        assert_eq!(saved["compiles"], true);
        let (checked, took) = self.check().await;
        assert_eq!(checked["valid"], false);
        let names = red(&checked);
        assert_eq!(names, [LIMIT]);
        let of = list(&checked["cases"]).len();
        tell(&format!(
            "   checked in {took} ms: it compiles, and 1 of {of} cases is red"
        ));
        let case = list(&checked["cases"])
            .iter()
            .find(|case| case["name"] == LIMIT)
            .unwrap();
        let first = &case["mismatches"][0];
        assert_eq!(first["member"], "decision");
        tell(&format!(
            "     ✗ {LIMIT}: expected {}, came out {}",
            text(&first["expected"]),
            text(&first["actual"])
        ));
        let blocked = refused(&self.publish(&self.b, &self.ben).await, 422, "cases-failed");
        assert_eq!(red(&blocked), [LIMIT]);
        let now = good(&self.a.get("/v1/bundle/versions?limit=1").await, 200);
        assert_eq!(number(&now["versions"][0]["revision"]), self.first);
        tell("   ben tries to publish it → 422 cases-failed, the same case; nothing has changed");
    }

    async fn a_modest_draft(&mut self) {
        chapter(
            4,
            "Ana mends it: only Alder Paper, only up to 2,500.00 EUR, and the cases say so",
        );
        let policy = approval(MODEST);
        self.edit(Method::PUT, "/policies/payment-approval", &policy)
            .await;
        let path = format!("/v1/drafts/{}", self.draft);
        let draft = good(
            &ask(&self.a, &self.ana, Method::GET, &path, None, None).await,
            200,
        );
        let mut bundle: Bundle = serde_json::from_value(draft["bundle"].clone()).unwrap();
        let before = bundle.cases.len();
        bundle.cases.retain(|case| case.name != LIMIT);
        let cases: Vec<Case> = serde_norway::from_str(CASES).unwrap();
        bundle.cases.extend(cases);
        assert_eq!(bundle.cases.len(), before + 2, "one case in three places");
        self.edit(Method::PUT, "/bundle", &json!(bundle)).await;
        let (checked, took) = self.check().await;
        assert_eq!(checked["valid"], true, "{checked:#}");
        assert!(red(&checked).is_empty());
        let comparison = &checked["comparison"];
        assert_eq!(comparison["loosens"], true);
        let changes = list(&comparison["changes"]);
        let codes: Vec<&str> = changes.iter().map(|one| text(&one["code"])).collect();
        assert_eq!(codes, ["forbid_condition_added", "obligations_changed"]);
        let of = list(&checked["cases"]).len();
        tell(&format!(
            "   checked in {took} ms: all {of} cases are green"
        ));
        for change in changes {
            assert_eq!(change["policy"], "payment-approval");
            let loosens = change["code"] == "forbid_condition_added";
            assert_eq!(change["loosens"], loosens, "{change:#}");
            let how = if loosens { "it loosens" } else { "it does not" };
            tell(&format!(
                "   {how}: {} in payment-approval",
                text(&change["code"])
            ));
            for line in wrapped(text(&change["message"]), WIDTH - 5) {
                tell(&format!("     {line}"));
            }
        }
    }

    async fn impact(&mut self) {
        chapter(
            5,
            "What would it have changed? The day of questions again, under the draft",
        );
        let began = Instant::now();
        let path = format!("/v1/drafts/{}/impact", self.draft);
        let impact = good(
            &ask(&self.a, &self.ana, Method::POST, &path, None, None).await,
            200,
        );
        let took = ms(began);
        // Those of the list, and the one that was asked by itself.
        let meant = meant() + 1;
        assert_eq!(number(&impact["replayed"]), self.asked);
        assert_eq!(number(&impact["unchanged"]), self.asked - meant);
        assert_eq!(
            impact["totals"],
            json!({ "newly_permitted": meant }),
            "{impact:#}"
        );
        assert_eq!(impact["not_replayable"], json!([]));
        let groups = list(&impact["groups"]);
        assert_eq!(groups.len(), 1, "{impact:#}");
        let group = &groups[0];
        assert_eq!(number(&group["count"]), meant);
        assert_eq!(group["before"]["policies"], json!(["payment-approval"]));
        assert_eq!(group["after"]["policies"], json!(["payer-payments"]));
        tell(&format!(
            "   {} decisions made again in {took} ms: {} the same, {meant} newly permitted, 0 not replayable",
            self.asked,
            self.asked - meant
        ));
        tell(&format!(
            "   all in one group: {}, {} by payment-approval → {} by payer-payments",
            text(&group["action"]),
            text(&group["before"]["reason"]),
            text(&group["after"]["reason"])
        ));
        let sample = text(&group["samples"][0]);
        let record = good(&self.a.get(&format!("/v1/decisions/{sample}")).await, 200);
        let asked = &record["question"];
        let amount = asked["action"]["properties"]["amount"].as_i64().unwrap();
        assert_eq!(asked["resource"]["id"], ALDER, "{record:#}");
        assert!((100_001..=250_000).contains(&amount), "{record:#}");
        tell(&format!(
            "   for example {sample}: {} to Alder Paper",
            eur(amount)
        ));
    }

    async fn second_person(&mut self) -> u64 {
        chapter(6, "Ana may not, the machine may not alone, Ben may");
        let problem = refused(
            &self.publish(&self.a, &self.ana).await,
            403,
            "not-permitted",
        );
        assert_eq!(problem["roles"], json!(["publisher"]), "{problem:#}");
        tell("   ana publishes → 403 not-permitted: it takes the role publisher");
        let path = format!("/v1/drafts/{}", self.draft);
        let draft = good(
            &ask(&self.a, &self.ana, Method::GET, &path, None, None).await,
            200,
        );
        let in_force = self.a.get("/v1/bundle").await.header("etag").to_owned();
        let body = &draft["bundle"];
        let pushed = ask(
            &self.a,
            &self.a.key,
            Method::PUT,
            "/v1/bundle",
            Some(&in_force),
            Some(body),
        )
        .await;
        let problem = refused(&pushed, 403, "review-required");
        assert_eq!(problem["policies"], json!(["remit.second-person"]));
        let way = text(&problem["detail"]);
        assert!(
            way.contains("/v1/drafts") && way.contains("/review"),
            "{way}"
        );
        tell("   the first key pushes the same bundle → 403 review-required, which says how:");
        for line in wrapped(way, WIDTH - 5) {
            tell(&format!("     {line}"));
        }
        let path = format!("/v1/drafts/{}/review", self.draft);
        let body = json!({ "verdict": "approve", "message": "Alder Paper has a contract" });
        let review = ask(
            &self.b,
            &self.ben,
            Method::POST,
            &path,
            Some(&self.tag),
            Some(&body),
        )
        .await;
        assert_eq!(good(&review, 201)["principal"], "ben");
        tell("   ben reads it on b and approves: Alder Paper has a contract");
        let began = Instant::now();
        let published = good(&self.publish(&self.b, &self.ben).await, 200);
        let took = ms(began);
        assert_eq!(published["loosens"], true);
        let revision = number(&published["revision"]);
        assert_eq!(published["fleet"]["reached"], true);
        assert_eq!(reached(&published["fleet"]), ["a", "b"], "{published:#}");
        tell(&format!(
            "   ben publishes → revision {revision}, in force on a and b after {took} ms"
        ));
        revision
    }

    async fn the_same_payment(&mut self, revision: u64, permitted: bool, reason: &str) {
        for on in ["b", "a"] {
            let began = Instant::now();
            let paid = self.pay(on, AMOUNT, Some(revision)).await;
            assert_eq!(paid.permitted, permitted, "{}", paid.reason);
            assert_eq!(paid.reason, reason);
            assert!(paid.revision >= revision);
            let verdict = if permitted { "permit" } else { "deny" };
            tell(&format!(
                "   {on}, at revision {}: {} to Alder Paper → {verdict}, {reason}   ({} ms)",
                paid.revision,
                eur(AMOUNT),
                ms(began)
            ));
        }
    }

    async fn roll_back(&mut self) -> u64 {
        chapter(8, "Back again: Ben rolls back");
        let tag = self.b.get("/v1/bundle").await.header("etag").to_owned();
        let body = json!({ "to": self.first, "message": "The contract has ended" });
        let began = Instant::now();
        let path = "/v1/bundle/rollback?wait=fleet";
        let back = ask(
            &self.b,
            &self.ben,
            Method::POST,
            path,
            Some(&tag),
            Some(&body),
        )
        .await;
        let took = ms(began);
        let back = good(&back, 200);
        assert_eq!(back["loosens"], false, "{back:#}");
        assert_eq!(reached(&back["fleet"]), ["a", "b"], "{back:#}");
        let revision = number(&back["revision"]);
        tell(&format!(
            "   revision {revision} is what revision {} was, in force on a and b after {took} ms",
            self.first
        ));
        tell("   it does not loosen, so it waits for nobody");
        self.the_same_payment(revision, false, "approval_required")
            .await;
        revision
    }

    async fn history(&self, published: u64, back: u64) {
        chapter(9, "The proof");
        let page = good(&self.a.get("/v1/bundle/versions").await, 200);
        let versions = list(&page["versions"]);
        let revisions: Vec<u64> = versions
            .iter()
            .map(|one| number(&one["revision"]))
            .collect();
        assert_eq!(revisions, [back, published, self.first]);
        assert_eq!(number(&versions[0]["restores"]), self.first);
        assert_eq!(versions[2]["author"], Value::Null, "by Remit itself");
        let evidence = &versions[1]["evidence"];
        assert_eq!(evidence["draft"], self.draft.as_str());
        assert_eq!(evidence["authors"], json!(["ana"]));
        assert_eq!(evidence["reviewers"], json!(["ben"]));
        assert_eq!(evidence["publisher"], "ben");
        assert_eq!(evidence["loosens"], true);
        assert_eq!(evidence["cases"]["failed"], 0);
        let newly = meant() + 1;
        assert_eq!(
            evidence["impact"]["totals"],
            json!({ "newly_permitted": newly })
        );
        assert_eq!(versions[0]["evidence"]["loosens"], false);
        tell("   history");
        tell(&format!(
            "     {back}  by ben, restores {}: {}",
            self.first,
            text(&versions[0]["message"])
        ));
        tell(&format!(
            "     {published}  by ben: {}",
            text(&versions[1]["message"])
        ));
        tell(&format!(
            "         written by ana, approved by ben, {} cases green, loosens, {newly} newly permitted",
            evidence["cases"]["passed"]
        ));
        tell(&format!(
            "     {}  {}",
            self.first, "the starter pack, by Remit itself"
        ));
        self.records().await;
        let shipped = self.shipped().await;
        let began = Instant::now();
        let dir = folder();
        let variables = [
            ("REMIT_URL", self.b.url.as_str()),
            ("REMIT_KEY", self.b.key.as_str()),
        ];
        let run = with(
            dir.path(),
            &variables,
            &["decisions", "replay", "-o", "json"],
        );
        let took = ms(began);
        run.succeeds(&[]);
        let replay = run.json();
        assert_eq!(number(&replay["replayed"]), self.asked, "{replay:#}");
        assert_eq!(number(&replay["reproduced"]), self.asked, "{replay:#}");
        tell(&format!(
            "   remit decisions replay   (all shipped after {shipped} ms, made again in {took} ms)"
        ));
        tell(&format!(
            "     {0} decisions made again under their own revisions: {0} came out the same",
            self.asked
        ));
    }

    /// Tells what was done and what was denied, oldest first.
    async fn records(&self) {
        let page = good(&self.a.get("/v1/admin/actions?limit=100").await, 200);
        tell("   who did what");
        let mut told = Vec::new();
        for record in list(&page["actions"]).iter().rev() {
            let principal = text(&record["principal"]);
            let principal = if principal.starts_with("key:") {
                "first key"
            } else {
                principal
            };
            let (action, verdict) = (text(&record["action"]), text(&record["verdict"]));
            let more = match &record["revision"] {
                Value::Null if verdict == "deny" => text(&record["reason"]).to_owned(),
                Value::Null => String::new(),
                revision => format!("revision {revision}"),
            };
            let line = format!("     {principal:<10} {action:<18} {verdict:<7} {more}");
            tell(line.trim_end());
            told.push(format!("{principal} {action} {verdict}"));
        }
        assert_eq!(told, DONE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn govern_story() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let began = Instant::now();
    let mut story = Story::begin(&url).await;
    story.a_day_of_questions().await;
    story.a_bold_draft().await;
    story.a_modest_draft().await;
    story.impact().await;
    let published = story.second_person().await;
    chapter(7, "The same payment again");
    story
        .the_same_payment(published, true, "policy_permit")
        .await;
    let back = story.roll_back().await;
    story.history(published, back).await;
    tell("");
    tell(&format!("   the whole story took {} ms", ms(began)));
}
