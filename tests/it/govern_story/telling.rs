//! How the story is told, what is asked in it, and how an answer is read.

use std::time::Instant;

use remit_tests::server::{Answer, Remit, client, send};
use reqwest::Method;
use serde_json::{Value, json};

/// How wide a line may be.
pub(super) const WIDTH: usize = 100;
/// The supplier that the change is about, and another one.
pub(super) const ALDER: &str = "FI2112345600000785";
const NORTHGATE: &str = "NL91ABNA0417164300";

/// Too much: five times the limit, for everybody.
pub(super) const BOLD: (&str, &str) = (
    "above 5,000.00 EUR",
    "unless { context.facts.approved || context.action.amount <= 500000 };",
);
/// What is meant: one supplier, a little more.
pub(super) const MODEST: (&str, &str) = (
    "above 1,000.00 EUR, or 2,500.00 EUR to Alder Paper,",
    r#"unless { context.facts.approved || context.action.amount <= 100000 }
unless { resource == Payee::"FI2112345600000785" && context.action.amount <= 250000 };"#,
);

/// What the records of administration say in the end, oldest first.
pub(super) const DONE: [&str; 17] = [
    "first key put_principal permit",
    "first key create_key permit",
    "first key put_principal permit",
    "first key create_key permit",
    "first key put_settings permit",
    "ana create_draft permit",
    "ana put_draft_policy permit",
    "ana check_draft permit",
    "ana put_draft_policy permit",
    "ana put_draft_bundle permit",
    "ana check_draft permit",
    "ana assess_draft permit",
    "ana publish_draft deny",
    "first key put_bundle deny",
    "ben review_draft permit",
    "ben publish_draft permit",
    "ben rollback_bundle permit",
];

/// What the cases say of it afterwards.
pub(super) const CASES: &str = r"
- name: Alder Paper is paid up to its own limit
  question:
    subject: { type: Agent, id: invoice-bot }
    action: { name: pay, properties: { amount: 250000, currency: EUR } }
    resource: { type: Payee, id: FI2112345600000785 }
  expect: { decision: permit, reason: policy_permit, because: [payer-payments], errors: [] }

- name: one cent more than the limit of Alder Paper waits for an approval
  question:
    subject: { type: Agent, id: invoice-bot }
    action: { name: pay, properties: { amount: 250001, currency: EUR } }
    resource: { type: Payee, id: FI2112345600000785 }
  expect: { decision: deny, reason: approval_required, because: [payment-approval], errors: [] }

- name: one cent more than the limit of all others waits for an approval
  question:
    subject: { type: Agent, id: invoice-bot }
    action: { name: pay, properties: { amount: 100001, currency: EUR } }
    resource: { type: Payee, id: NL91ABNA0417164300 }
  expect: { decision: deny, reason: approval_required, because: [payment-approval], errors: [] }
";

/// Tells a line, if it is one.
pub(super) fn tell(line: &str) {
    assert!(line.chars().count() <= WIDTH, "too wide: {line}");
    println!("{line}");
}

pub(super) fn chapter(number: u32, title: &str) {
    tell("");
    tell(&format!("{number}  {title}"));
}

pub(super) fn ms(since: Instant) -> u128 {
    since.elapsed().as_millis()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

pub(super) fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

pub(super) fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

/// Sends a request with somebody's key, under a precondition where there is one.
pub(super) async fn ask(
    at: &Remit,
    key: &str,
    method: Method,
    path: &str,
    tag: Option<&str>,
    body: Option<&Value>,
) -> Answer {
    let mut request = client()
        .request(method, format!("{}{path}", at.url))
        .bearer_auth(key);
    if let Some(tag) = tag {
        request = request.header("if-match", tag);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    send(request).await
}

#[track_caller]
pub(super) fn good(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()
}

#[track_caller]
pub(super) fn refused(answer: &Answer, status: u16, code: &str) -> Value {
    let problem = good(answer, status);
    assert_eq!(problem["code"], code, "{problem:#}");
    problem
}

pub(super) fn payment(payee: &str, amount: i64) -> Value {
    json!({
        "subject": { "type": "Agent", "id": "invoice-bot" },
        "action": { "name": "pay", "properties": { "amount": amount, "currency": "EUR" } },
        "resource": { "type": "Payee", "id": payee },
    })
}

/// Writes the policy that is changed, with its advice and its conditions.
pub(super) fn approval((above, conditions): (&str, &str)) -> Value {
    json!({ "text": format!(
        r#"@id("payment-approval")
@owner("finance")
@severity("high")
@control("AP-01, TK-05, OWASP-ASI-2026:ASI02, NIST-CSF-2.0:GV.RM-02")
@cure("approval:finance")
@advice("Payments {above} need the approval of a person in finance.")
forbid (principal is Agent, action == Action::"pay", resource is Payee)
{conditions}"#
    ) })
}

/// Writes an amount in cents the way people do.
pub(super) fn eur(cents: i64) -> String {
    let (thousands, rest) = (cents / 100_000, cents % 100_000);
    let (euros, cents) = (rest / 100, rest % 100);
    if thousands > 0 {
        format!("{thousands},{euros:03}.{cents:02} EUR")
    } else {
        format!("{euros}.{cents:02} EUR")
    }
}

pub(super) fn question(agent: &str, action: &str, kind: &str, id: &str) -> Value {
    json!({
        "subject": { "type": "Agent", "id": agent },
        "action": { "name": action },
        "resource": { "type": kind, "id": id },
    })
}

/// What a day of payments, tools and documents asks.
pub(super) fn questions() -> Vec<Value> {
    let mut all = Vec::new();
    for step in 1..=60 {
        all.push(payment(ALDER, step * 5_000));
        all.push(payment(NORTHGATE, step * 5_000));
    }
    let agents = [
        "invoice-bot",
        "crm-helper",
        "ops-runner",
        "trainee-bot",
        "payroll-bot",
        "rehearsal-bot",
        "orphan-bot",
    ];
    let tools = [
        "mail.list",
        "crm.lookup",
        "ledger.match",
        "crm.update",
        "ledger.book",
        "ledger.delete",
        "db.drop_table",
        "pdf.convert",
    ];
    let documents = [
        "invoice-4471",
        "month-end-oct",
        "customer-ledger",
        "salaries-2026",
        "price-list",
        "contract-draft",
    ];
    for agent in agents {
        all.extend(tools.map(|tool| question(agent, "call", "Tool", tool)));
        all.extend(documents.map(|it| question(agent, "read_data", "Document", it)));
    }
    all
}

/// How many of them the change is meant to permit: those to Alder Paper above the old limit and up to the new one.
pub(super) fn meant() -> u64 {
    (1..=60)
        .filter(|step| (100_001..=250_000).contains(&(step * 5_000)))
        .count() as u64
}

/// Names the cases of a check or a refusal that did not come out as expected.
pub(super) fn red(body: &Value) -> Vec<String> {
    let red = list(&body["cases"])
        .iter()
        .filter(|case| !list(&case["mismatches"]).is_empty());
    red.map(|case| text(&case["name"]).to_owned()).collect()
}

/// The names of the replicas that a barrier says have its revision.
pub(super) fn reached(fleet: &Value) -> Vec<String> {
    let mut names: Vec<String> = list(&fleet["replicas"])
        .iter()
        .filter(|replica| replica["state"] == "reached")
        .map(|replica| text(&replica["name"]).to_owned())
        .collect();
    names.sort();
    names
}

/// Breaks a text into lines.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}
