//! `remit demo`: a recorded agent run, replayed over HTTP against a Remit of its own.
//!
//! The Remit is wired as `remit serve --dev` wires it, in a temporary folder on a free loopback port. Whatever happens,
//! also an error or Ctrl-C, it is stopped and the folder is removed.

mod show;
mod story;

use std::path::Path;

use remit_core::{Bundle, DecisionRecord, PolicyId, Question, Reason, Verdict};
use remit_engine::Explanation;
use remit_log::Report;
use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::story::{Call, Run};
use crate::client::{Client, Reply};
use crate::embedded::Embedded;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone};
use crate::serve;
use crate::starter;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit demo
    remit demo --serve      # keep it up afterwards, to ask it questions of your own";

/// The most records that are fetched at once.
const PAGE: &str = "1000";

/// The flags of `remit demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep Remit up after the run, until Ctrl-C.
    #[arg(long)]
    serve: bool,
}

/// What the demo came to, for `-o json`.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Questions answered.
    answered: usize,
    /// Of these, permitted.
    permitted: usize,
    /// Of these, denied.
    denied: usize,
    /// Of the denied, those that a person could approve.
    approval_required: usize,
    /// Whether the edited policy permitted what it denied before.
    flipped: bool,
    /// Records in the store.
    recorded: usize,
    /// What checking the log found.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Report>,
}

/// The answer to one question, as far as the demo reads it.
#[derive(Debug, Deserialize)]
struct Answer {
    decision: bool,
    context: AnswerContext,
}

#[derive(Debug, Deserialize)]
struct AnswerContext {
    evaluation_id: String,
    reason: AnswerReason,
    policies: Vec<PolicyId>,
}

#[derive(Debug, Deserialize)]
struct AnswerReason {
    code: Reason,
}

/// One page of records.
#[derive(Debug, Deserialize)]
struct Records {
    decisions: Vec<DecisionRecord>,
}

/// A decision made again, clause by clause.
#[derive(Debug, Deserialize)]
struct Explained {
    explanation: Explanation,
}

/// What the server says of a bundle it put in force.
#[derive(Debug, Deserialize)]
struct Applied {
    revision: u64,
    policies: usize,
}

/// The demo while it runs.
struct Stage<'a> {
    client: Client,
    out: &'a Output,
    summary: Summary,
}

/// Runs the demo.
///
/// # Errors
///
/// Those of the server and the client; [`Error::Invalid`] when what was answered and what was recorded differ.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    // Before the folder is made, so that no signal finds it unguarded.
    let (stop, _) = watch::channel(false);
    serve::watch_signals(stop.clone())?;
    let folder = tempfile::Builder::new()
        .prefix("remit-demo-")
        .tempdir()
        .map_err(|why| Error::io("make a temporary folder", why))?;
    let path = folder.path().to_owned();
    let ended = perform(&args, &path, stop, out).await;
    // Dropping the folder would remove it too, but say nothing when that fails.
    folder
        .close()
        .map_err(|why| Error::path("remove", &path, why))?;
    let Some(summary) = ended? else {
        out.note("interrupted; Remit was stopped and its folder removed");
        return Ok(Exit::Unexpected);
    };
    if out.is_machine() {
        out.value(&summary, |_| String::new())?;
    } else {
        out.print(&closing(out, &path))?;
    }
    Ok(Exit::Ok)
}

/// Starts Remit, tells the story and stops Remit; `None` when it was interrupted.
async fn perform(
    args: &Args,
    folder: &Path,
    stop: watch::Sender<bool>,
    out: &Output,
) -> Result<Option<Summary>, Error> {
    let Some(remit) = Embedded::start(folder, starter::bundle()?, stop, out).await? else {
        return Ok(None);
    };
    let told = tokio::select! {
        biased;
        () = remit.interrupted() => Ok(None),
        told = tell(&remit, out) => told.map(Some),
    };
    if args.serve && matches!(told, Ok(Some(_))) {
        say(out, &keys_to(&remit, out))?;
        remit.interrupted().await;
    }
    remit.stop().await?;
    told
}

/// Tells the story to its end.
async fn tell(remit: &Embedded, out: &Output) -> Result<Summary, Error> {
    let mut stage = Stage {
        client: remit.client()?,
        out,
        summary: Summary::default(),
    };
    let story = Run::read()?;
    let opening = format!(
        "{}\n{}",
        out.paint(
            Tone::Strong,
            "Remit decides, before each action, whether an agent may take it."
        ),
        show::remark(
            out,
            0,
            &format!(
                "{} Remit itself runs at {} until this ends.",
                story.about, remit.url
            )
        )
    );
    say(out, &opening)?;
    let denied = stage.replay(&story).await?;
    stage.explain(&denied).await?;
    let call = story
        .calls
        .last()
        .ok_or_else(|| Error::Invalid("the recorded run is empty".to_owned()))?;
    stage.change(call).await?;
    stage.review().await?;
    let report = remit_log::fsck(&remit.log_folder()).map_err(|source| Error::Log {
        what: "check the log",
        source,
    })?;
    let mut summary = stage.summary;
    say(out, &verify(&summary, &report, out)?)?;
    summary.log = Some(report);
    Ok(summary)
}

// === impl Stage ===

impl Stage<'_> {
    /// Asks every call of the run; returns the id of the last denial.
    async fn replay(&mut self, story: &Run) -> Result<String, Error> {
        let aside = format!(
            "{} calls, each asked over HTTP first: POST /access/v1/evaluation",
            story.calls.len()
        );
        say(
            self.out,
            &show::heading(self.out, 1, "A recorded run", &aside),
        )?;
        let mut denied = String::new();
        for call in &story.calls {
            if let Some(note) = &call.note {
                say(self.out, &show::remark(self.out, 10, note))?;
            }
            let answer = self.ask(&call.at, &call.question).await?;
            if !answer.decision {
                denied = answer.context.evaluation_id;
            }
        }
        Ok(denied)
    }

    /// Asks one question and shows the answer.
    async fn ask(&mut self, at: &str, question: &Question) -> Result<Answer, Error> {
        let request = self
            .client
            .request(Method::POST, &["access", "v1", "evaluation"])?;
        let answer: Answer = self.client.send(request.json(question)).await?.json()?;
        let context = &answer.context;
        self.summary.answered += 1;
        if answer.decision {
            self.summary.permitted += 1;
        } else {
            self.summary.denied += 1;
        }
        if context.reason.code == Reason::ApprovalRequired {
            self.summary.approval_required += 1;
        }
        let line = show::call(
            self.out,
            at,
            question,
            answer.decision,
            context.reason.code,
            &context.policies,
        );
        say(self.out, &line)?;
        Ok(answer)
    }

    /// Shows one denial clause by clause.
    async fn explain(&self, id: &str) -> Result<(), Error> {
        let aside = "POST /v1/decisions/{id}/explain";
        say(
            self.out,
            &show::heading(self.out, 2, "Why the last one was denied", aside),
        )?;
        let path = ["v1", "decisions", id, "explain"];
        let request = self.client.request(Method::POST, &path)?;
        let explained: Explained = self.client.send(request).await?.json()?;
        say(
            self.out,
            &show::explanation(self.out, &explained.explanation),
        )
    }

    /// Edits one line of policy, puts it in force, and asks `call` again.
    async fn change(&mut self, call: &Call) -> Result<(), Error> {
        let aside = "Birch Audit is who it says it is, so security adds its domain";
        say(
            self.out,
            &show::heading(self.out, 3, "One line of policy changes", aside),
        )?;
        let bundle = &["v1", "bundle"];
        let reply: Reply = self
            .client
            .send(self.client.request(Method::GET, bundle)?)
            .await?;
        let tag = reply.header(ETAG.as_str()).unwrap_or_default().to_owned();
        let mut edited: Bundle = reply.json()?;
        let cases = edited.cases.len();
        let edit = story::edit(&mut edited)?;
        say(self.out, &show::diff(self.out, &edit))?;
        let put = self
            .client
            .request(Method::PUT, bundle)?
            .header(IF_MATCH, &tag)
            .json(&edited);
        let applied: Applied = self.client.send(put).await?.json()?;
        let put = format!(
            "  PUT /v1/bundle, If-Match: {tag} → revision {}: {} policies compiled, {cases} cases passed\n",
            applied.revision, applied.policies
        );
        say(self.out, &self.out.paint(Tone::Dim, &put))?;
        let again = self.ask("again   ", &call.question).await?;
        self.summary.flipped = again.decision;
        if again.decision {
            return Ok(());
        }
        Err(Error::Invalid(
            "the edited policy still denies the call, which it should permit".to_owned(),
        ))
    }

    /// Lists what was recorded.
    async fn review(&mut self) -> Result<(), Error> {
        let query = [("limit", PAGE.to_owned())];
        let page: Records = self.client.get(&["v1", "decisions"], &query).await?;
        self.summary.recorded = page.decisions.len();
        let denied = page
            .decisions
            .iter()
            .filter(|record| record.decision.verdict == Verdict::Deny)
            .count();
        let aside = format!(
            "{} records: {} permits, {denied} denials",
            page.decisions.len(),
            page.decisions.len() - denied
        );
        say(
            self.out,
            &show::heading(
                self.out,
                4,
                "Each was recorded before its answer left",
                &aside,
            ),
        )?;
        for record in page.decisions.iter().take(3) {
            say(self.out, &show::record(self.out, record))?;
        }
        Ok(())
    }
}

/// Compares what was answered with what was recorded and with the log.
fn verify(summary: &Summary, report: &Report, out: &Output) -> Result<String, Error> {
    let logged: u64 = report
        .replicas
        .iter()
        .map(|replica| replica.last_sequence)
        .sum();
    let equal = summary.answered == summary.recorded && summary.answered as u64 == logged;
    if !equal || !report.problems.is_empty() {
        return Err(Error::Invalid(format!(
            "{} decisions were answered, {} recorded and {logged} logged, and the log has {} problems",
            summary.answered,
            summary.recorded,
            report.problems.len()
        )));
    }
    let heading = show::heading(
        out,
        5,
        "The log checks out",
        "remit log fsck: checksums, sequence and hash chain",
    );
    let line = format!(
        "  {} {} decisions answered = {} recorded = {logged} in the log, 0 problems",
        out.paint(Tone::Good, "✓"),
        summary.answered,
        summary.recorded
    );
    Ok(format!("{heading}\n{line}"))
}

/// Says where Remit is and how to ask it.
fn keys_to(remit: &Embedded, out: &Output) -> String {
    let Embedded { url, key, .. } = remit;
    format!(
        "\n{}\n  export REMIT_URL={url}\n  export REMIT_KEY={key}\n  remit decide -s Agent:invoice-bot -a call -r Tool:mail.list\n  {}",
        out.paint(
            Tone::Strong,
            "Remit stays up until Ctrl-C. In another terminal:"
        ),
        out.paint(Tone::Dim, &format!("{url}/docs has the whole API")),
    )
}

fn closing(out: &Output, folder: &Path) -> String {
    let gone = format!(
        "Nothing is left behind: Remit is stopped and {} is removed.",
        folder.display()
    );
    format!(
        "\n{}\n{}\n  remit demo --serve                   the same, and it stays up for your own questions\n  \
         remit serve --dev                    a Remit of your own with these policies, kept in ./.remit\n  \
         remit policy test policies/starter   edit a policy there, and see which of its cases notices",
        out.paint(Tone::Dim, &gone),
        out.paint(Tone::Strong, "What next"),
    )
}

/// Writes a piece of the story, for people only.
fn say(out: &Output, text: &str) -> Result<(), Error> {
    if out.is_machine() {
        Ok(())
    } else {
        out.print(text)
    }
}
