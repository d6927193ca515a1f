//! Output: data on stdout in the form asked for, everything else on stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::diagnostics;
use crate::error::Error;

/// The flags every command takes.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// How data is written on stdout.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    /// Write no notes and no progress on stderr; errors are still written.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// When to use colour; `auto` obeys NO_COLOR and asks whether the stream is a terminal.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: When,
}

/// The form of data on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: aligned columns and sentences.
    #[default]
    Table,
    /// One JSON value, as the API gives it.
    Json,
    /// One JSON value a line.
    Ndjson,
    /// Annotations for GitHub Actions; `remit policy validate` only.
    Github,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// What a piece of text means, which colour then shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It is well: permit, pass.
    Good,
    /// It is not: deny, fail, error.
    Bad,
    /// Look at it.
    Warn,
    /// Secondary.
    Dim,
    /// A heading.
    Strong,
}

/// Where a command writes; one value a process, handed to every command.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    format: Format,
    quiet: bool,
    stdout_color: bool,
    stderr_color: bool,
}

// === impl Output ===

impl Output {
    /// Settles format and colour for this process.
    pub(crate) fn new(args: &Args) -> Self {
        Self(Arc::new(Settings {
            format: args.output,
            quiet: args.quiet,
            stdout_color: color(args.color, io::stdout().is_terminal()),
            stderr_color: color(args.color, io::stderr().is_terminal()),
        }))
    }

    /// Returns the form asked for.
    pub(crate) fn format(&self) -> Format {
        self.0.format
    }

    /// Says whether stdout is for a program and not for a person.
    pub(crate) fn is_machine(&self) -> bool {
        matches!(self.0.format, Format::Json | Format::Ndjson)
    }

    /// Writes one value: as JSON, or as the text `human` makes of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when stdout cannot be written; a closed pipe is not an error.
    pub(crate) fn value<T: Serialize>(
        &self,
        value: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        match self.0.format {
            Format::Json => self.print(&pretty(value)?),
            Format::Ndjson => self.print(&compact(value)?),
            Format::Table => self.print(&human(value)),
            Format::Github => Err(only_validate()),
        }
    }

    /// Writes many values: as one JSON array, as one JSON value a line, or as a table with these columns.
    ///
    /// # Errors
    ///
    /// As [`Output::value`].
    pub(crate) fn rows<T: Serialize>(
        &self,
        rows: &[T],
        columns: &[&str],
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Error> {
        match self.0.format {
            Format::Json => self.print(&pretty(&rows)?),
            Format::Ndjson => rows.iter().try_for_each(|row| self.print(&compact(row)?)),
            Format::Table if rows.is_empty() => {
                self.note("none");
                Ok(())
            }
            Format::Table => {
                let rows: Vec<_> = rows.iter().map(cells).collect();
                self.print(&self.table(columns, &rows))
            }
            Format::Github => Err(only_validate()),
        }
    }

    /// Lays out rows in columns; the last column is not padded.
    pub(crate) fn table(&self, columns: &[&str], rows: &[Vec<String>]) -> String {
        let width = |index: usize| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| visible(cell)).max().unwrap_or(0);
            widest.max(columns.get(index).map_or(0, |name| name.len()))
        };
        let widths: Vec<_> = (0..columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = Cow<'_, str>>| {
            let mut text = String::new();
            for (index, (cell, width)) in cells.zip(&widths).enumerate() {
                if index > 0 {
                    text.push_str("  ");
                }
                text.push_str(&cell);
                if index + 1 < widths.len() {
                    text.extend(std::iter::repeat_n(
                        ' ',
                        width.saturating_sub(visible(&cell)),
                    ));
                }
            }
            text
        };
        let heading = columns
            .iter()
            .map(|name| self.paint(Tone::Dim, name).into());
        let mut lines = vec![line(&mut heading.into_iter())];
        lines.extend(rows.iter().map(|row| line(&mut row.iter().map(Into::into))));
        lines.join("\n")
    }

    /// Writes one line or block of data on stdout.
    ///
    /// # Errors
    ///
    /// As [`Output::value`].
    #[expect(
        clippy::unused_self,
        reason = "all output goes through this value, whatever it needs of it"
    )]
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        match written {
            // The reader, such as `head`, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Error::io("write to stdout", error)),
            Ok(()) => Ok(()),
        }
    }

    /// Writes a remark on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.0.quiet {
            complain(text);
        }
    }

    /// Writes a warning on stderr, unless `--quiet`.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!(
            "{} {text}",
            tint(self.0.stderr_color, Tone::Warn, "warning:")
        ));
    }

    /// Writes what went wrong, why, and what to do about it, on stderr.
    pub(crate) fn error(&self, error: &Error) {
        if let Some(found) = error.diagnostics() {
            complain(&diagnostics::render(found, self.0.stderr_color));
        }
        let mut text = tint(self.0.stderr_color, Tone::Bad, "error:");
        text.push(' ');
        text.push_str(&plain_lines(&error.to_string()));
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str("\n  because ");
            text.push_str(&plain_lines(&cause.to_string()));
            source = cause.source();
        }
        if let Some(help) = error.help() {
            text.push('\n');
            text.push_str(&tint(self.0.stderr_color, Tone::Good, "  help:"));
            text.push(' ');
            text.push_str(&plain_lines(&help));
        }
        complain(&text);
    }

    /// Writes diagnostics with their source on stderr.
    pub(crate) fn diagnostics(&self, found: &diagnostics::Found) {
        complain(&diagnostics::render(found, self.0.stderr_color));
    }

    /// Colours text for stdout.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        tint(self.0.stdout_color, tone, text)
    }

    /// Colours text for stderr.
    pub(crate) fn paint_note(&self, tone: Tone, text: &str) -> String {
        tint(self.0.stderr_color, tone, text)
    }

    /// Makes a progress bar on stderr; hidden when stderr is no terminal, and with `--quiet`.
    pub(crate) fn progress(&self, total: u64, what: &'static str) -> ProgressBar {
        let hidden = self.0.quiet || !io::stderr().is_terminal();
        let target = if hidden {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        match ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Escapes control characters, so that a name from elsewhere cannot steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    let escape = |character: char| match character {
        // Marks that turn the direction of what follows, and line ends that are no control characters.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            character.escape_unicode().to_string()
        }
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// As [`plain`], for a text of several lines.
fn plain_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(plain).collect();
    lines.join("\n")
}

/// Says whether to colour a stream (<https://no-color.org>).
fn color(when: When, terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if set("NO_COLOR") => false,
        When::Auto => terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}

fn tint(color: bool, tone: Tone, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "1;31",
        Tone::Warn => "33",
        Tone::Dim => "2",
        Tone::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Counts the characters of a cell that take room: colour codes do not.
fn visible(cell: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for character in cell.chars() {
        match (escape, character) {
            (false, '\u{1b}') => escape = true,
            (false, _) => count += 1,
            (true, 'm') => escape = false,
            (true, _) => {}
        }
    }
    count
}

fn complain(text: &str) {
    // There is nowhere left to report a stderr that is closed.
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

fn pretty(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(Error::Unwritable)
}

fn compact(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::Unwritable)
}

fn only_validate() -> Error {
    Error::Usage("`--output github` is for `remit policy validate`".to_owned())
}
