//! `remit decide`: one question to a server, the verdict in the exit code.

use remit_core::{KillId, Limit, Obligation, PolicyId, Reason};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::question;
use crate::client::Server;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit decide -s Agent:invoice-bot -a call -r Tool:mail.send
    remit decide -s Agent:invoice-bot -a call -r Tool:ledger.book -c '{\"amount\": 120}'
    remit decide -s Agent:crm-helper -a call -r Tool:ledger.delete -c @context.json -o json

Exits with 0 for a permit, 2 for a deny, 5 where a person's approval would make it a permit.";

/// The flags of `remit decide`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    question: question::Args,
    #[command(flatten)]
    server: Server,
}

/// The answer of an evaluation (AuthZEN 1.0 §6.2), with what Remit puts into its context.
#[derive(Debug, Deserialize)]
struct Evaluation {
    decision: bool,
    context: Context,
}

#[derive(Debug, Deserialize)]
struct Context {
    #[serde(default)]
    evaluation_id: Option<String>,
    reason: Reason,
    #[serde(default)]
    message: String,
    #[serde(default)]
    kill: Option<Killed>,
    #[serde(default)]
    limit: Option<Limit>,
    #[serde(default)]
    policies: Vec<PolicyId>,
    #[serde(default)]
    obligations: Vec<Obligation>,
    #[serde(default)]
    revision: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Killed {
    id: KillId,
    reason: String,
}

/// Asks the question and prints the answer.
///
/// # Errors
///
/// Those of the question and of the client; a deny is not an error.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    let question = args.question.question()?;
    let client = args.server.client()?;
    let request = client
        .request(Method::POST, &["access", "v1", "evaluation"])?
        .json(&question);
    let reply = client.send(request).await?;
    let body: Value = reply.json()?;
    let answer: Evaluation = reply.json()?;
    out.value(&body, |_| describe(&answer, out))?;
    Ok(match (answer.decision, answer.context.reason) {
        (true, _) => Exit::Ok,
        (false, Reason::ApprovalRequired) => Exit::ApprovalRequired,
        (false, _) => Exit::Deny,
    })
}

fn describe(answer: &Evaluation, out: &Output) -> String {
    let context = &answer.context;
    let verdict = if answer.decision {
        out.paint(Tone::Good, "permit")
    } else {
        out.paint(Tone::Bad, "deny")
    };
    let mut lines = vec![format!(
        "{verdict}  {}: {}",
        context.reason,
        plain(&context.message)
    )];
    if let Some(kill) = &context.kill {
        lines.push(format!(
            "  stopped     {} ({})",
            plain(&kill.reason),
            kill.id
        ));
    }
    if let Some(limit) = &context.limit {
        lines.push(format!("  limit       {}", plain(&limit.to_string())));
    }
    if !context.policies.is_empty() {
        let ids: Vec<_> = context
            .policies
            .iter()
            .map(|id| plain(id.as_str()))
            .collect();
        lines.push(format!("  policies    {}", ids.join(", ")));
    }
    for obligation in &context.obligations {
        for (key, value) in &obligation.annotations {
            lines.push(format!(
                "  {key:<11} {} (by {})",
                plain(value),
                plain(obligation.policy.as_str())
            ));
        }
    }
    if let Some(id) = &context.evaluation_id {
        lines.push(format!("  decision    {}", plain(id)));
        if !answer.decision {
            lines.push(out.paint(
                Tone::Dim,
                &format!("  remit explain {} shows every clause", plain(id)),
            ));
        }
    }
    lines.push(format!("  revision    {}", context.revision));
    lines.join("\n")
}
