//! `remit entities`: live entities from a file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// The largest file with one JSON array, which has to be held in memory; NDJSON has no such limit.
const ARRAY_BYTES: u64 = 256 * 1024 * 1024;
/// The largest line of NDJSON, in bytes.
const LINE_BYTES: u64 = 1024 * 1024;
/// How much one request carries, in bytes.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// Examples in `--help`.
const IMPORT: &str = "\
Examples:
    remit entities import agents.json
    remit entities import people.ndjson --chunk 1000
    ./export-directory | remit entities import -

The file holds entities in the JSON form of Cedar's entity files, as one array or one a line; {\"remove\": {\"type\": …,
\"id\": …}} removes one. Each chunk is applied whole or not at all; on an error the chunks before it stay applied, and
running the import again is harmless.";

/// The commands around entities.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the entities of a file, an array or one a line.
    #[command(after_help = IMPORT)]
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// How many entities one request carries.
        #[arg(long, default_value_t = 5_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        chunk: u32,
        #[command(flatten)]
        server: Server,
    },
}

/// What an import came to.
#[derive(Debug, Default, Serialize)]
struct Imported {
    written: u64,
    removed: u64,
    chunks: u64,
    revision: u64,
}

/// What the server says of one chunk.
#[derive(Debug, Deserialize)]
struct Applied {
    revision: u64,
    written: u64,
    removed: u64,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the file, naming its line, and of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let Command::Import {
        file,
        chunk,
        server,
    } = command;
    let client = server.client()?;
    let items = Items::open(&file)?;
    let bar = out.progress(items.total(), "entities");
    let mut imported = Imported::default();
    let mut lines = Vec::new();
    let mut first = 1;
    for item in items {
        let (number, taken, item) = item?;
        lines.extend_from_slice(item.as_bytes());
        lines.push(b'\n');
        bar.inc(taken);
        if number + 1 - first >= u64::from(chunk) || lines.len() >= CHUNK_BYTES {
            send(&client, std::mem::take(&mut lines), first, &mut imported).await?;
            first = number + 1;
        }
    }
    if !lines.is_empty() {
        send(&client, lines, first, &mut imported).await?;
    }
    bar.finish_and_clear();
    if imported.chunks == 0 {
        return Err(Error::Invalid(format!(
            "`{}` holds no entities",
            file.display()
        )));
    }
    out.value(&imported, |done| {
        format!(
            "{} written, {} removed, at revision {}",
            done.written, done.removed, done.revision
        )
    })?;
    Ok(Exit::Ok)
}

/// Applies one chunk; `first` is the number of its first item, for an error that names the item.
async fn send(
    client: &Client,
    lines: Vec<u8>,
    first: u64,
    imported: &mut Imported,
) -> Result<(), Error> {
    let request = client.request(Method::POST, &["v1", "entities", "bulk"])?;
    let request = request
        .header(CONTENT_TYPE, "application/x-ndjson")
        .body(lines);
    let applied: Applied = match client.send(request).await {
        Ok(reply) => reply.json()?,
        Err(Error::Refused(mut problem)) => {
            let at = problem
                .line
                .map_or(first, |line| first + line.saturating_sub(1));
            problem.detail = format!(
                "{} (entity {at} of the file; {} applied before it)",
                problem.detail, imported.written
            );
            return Err(Error::Refused(problem));
        }
        Err(error) => return Err(error),
    };
    imported.written += applied.written;
    imported.removed += applied.removed;
    imported.chunks += 1;
    imported.revision = applied.revision;
    Ok(())
}

/// The items of a file, one by one, each as one line of JSON with its number and the bytes it took.
enum Items {
    Array {
        items: std::vec::IntoIter<Value>,
        total: u64,
        number: u64,
    },
    Lines {
        reader: Box<dyn std::io::BufRead + Send>,
        total: u64,
        number: u64,
        line: u64,
        file: String,
    },
}

// === impl Items ===

impl Items {
    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |why| Error::path("read", path, why);
        let (reader, total): (Box<dyn std::io::Read + Send>, u64) = if path == Path::new("-") {
            (Box::new(std::io::stdin()), 0)
        } else {
            let file = File::open(path).map_err(failed)?;
            let bytes = file.metadata().map_err(failed)?.len();
            (Box::new(file), bytes)
        };
        let mut reader: Box<dyn std::io::BufRead + Send> = Box::new(BufReader::new(reader));
        let file = path.display().to_string();
        let start = reader.fill_buf().map_err(failed)?;
        if start.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
            return Ok(Self::Lines {
                reader,
                total,
                number: 0,
                line: 0,
                file,
            });
        }
        let mut text = String::new();
        let taken = reader
            .take(ARRAY_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        if taken as u64 > ARRAY_BYTES {
            return Err(Error::Invalid(format!(
                "`{file}` is larger than {ARRAY_BYTES} bytes; write one entity a line"
            )));
        }
        let items: Vec<Value> = serde_json::from_str(&text).map_err(|why| {
            Error::Invalid(format!("`{file}` is not a JSON array of entities: {why}"))
        })?;
        Ok(Self::Array {
            total: items.len() as u64,
            items: items.into_iter(),
            number: 0,
        })
    }

    /// Returns what the progress counts to: items of an array, bytes of lines.
    fn total(&self) -> u64 {
        match self {
            Self::Array { total, .. } | Self::Lines { total, .. } => *total,
        }
    }
}

impl Iterator for Items {
    type Item = Result<(u64, u64, String), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Array { items, number, .. } => {
                *number += 1;
                Some(Ok((*number, 1, items.next()?.to_string())))
            }
            Self::Lines {
                reader,
                number,
                line,
                file,
                ..
            } => loop {
                let mut text = String::new();
                let read = reader.by_ref().take(LINE_BYTES + 1).read_line(&mut text);
                *line += 1;
                match read {
                    Err(why) => {
                        return Some(Err(Error::io(format!("read line {line} of `{file}`"), why)));
                    }
                    Ok(0) => return None,
                    Ok(taken) if taken as u64 > LINE_BYTES => {
                        let text =
                            format!("{file}:{line}: the line is longer than {LINE_BYTES} bytes");
                        return Some(Err(Error::Invalid(text)));
                    }
                    Ok(_) if text.trim().is_empty() => {}
                    Ok(taken) => {
                        // Checked here, so that the error names the line of this file.
                        if let Err(why) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                            return Some(Err(Error::Invalid(format!(
                                "{file}:{line}:{}: not JSON: {why}",
                                why.column()
                            ))));
                        }
                        *number += 1;
                        return Some(Ok((*number, taken as u64, text.trim().to_owned())));
                    }
                }
            },
        }
    }
}
