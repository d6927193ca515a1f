//! The layers of the configuration: the commented default file, a file, the environment, flags; each over the one before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Env, Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use serde::Serialize;

use super::{Config, DEFAULT, read_small, without_password};
use crate::error::Error;

/// What starts a variable of the environment that is a setting.
const PREFIX: &str = "REMIT__";

/// One setting as it is in force, and where it was said.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    /// Section and key: `listen.http`.
    pub(crate) key: String,
    /// The value; `***` for a secret, absent where the setting has none.
    pub(crate) value: serde_json::Value,
    /// `default`, `--dev`, a file, a variable of the environment, or a flag.
    pub(crate) source: String,
}

/// The layers of one configuration, before they are read.
#[derive(Debug)]
pub(crate) struct Layers(Figment);

/// Settings that did not come from a file or the environment.
struct Said {
    by: &'static str,
    settings: Vec<(String, Value)>,
}

/// A configuration file that has been read.
struct FromFile {
    path: PathBuf,
    data: Dict,
}

// === impl Layers ===

impl Layers {
    /// Stacks the default, `file` where there is one, and the environment.
    ///
    /// `preset` goes right over the default, so that file and environment can still change it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `file` cannot be read.
    pub(crate) fn new(file: Option<&Path>, preset: &[(&str, &str)]) -> Result<Self, Error> {
        let mut figment = Figment::from(Toml::string(DEFAULT)).merge(Said {
            by: "--dev",
            settings: preset
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).into()))
                .collect(),
        });
        if let Some(path) = file {
            let text = read_small(path).map_err(|why| {
                Error::Config(format!(
                    "  --config: cannot read `{}`: {why}",
                    path.display()
                ))
            })?;
            // Read here and not by figment, which takes a missing file for an empty one.
            let data: Dict = toml::from_str(&text).map_err(|why| {
                Error::Config(format!(
                    "  in `{}`: {}",
                    path.display(),
                    indent(&why.to_string())
                ))
            })?;
            figment = figment.merge(FromFile {
                path: path.to_owned(),
                data,
            });
        }
        Ok(Self(figment.merge(Env::prefixed(PREFIX).split("__"))))
    }

    /// Stacks the default and these settings only: for a process that must not touch what the environment names.
    pub(crate) fn apart(by: &'static str, settings: &[(&str, &str)]) -> Self {
        let settings = settings
            .iter()
            .map(|(key, value)| {
                let number = value.parse::<u64>();
                let value = number.map_or_else(|_| (*value).into(), Into::into);
                ((*key).to_owned(), value)
            })
            .collect();
        Self(Figment::from(Toml::string(DEFAULT)).merge(Said { by, settings }))
    }

    /// Lays one flag of the command line over everything.
    #[must_use]
    pub(crate) fn flag<V: fmt::Display>(
        self,
        flag: &'static str,
        key: &str,
        value: Option<V>,
    ) -> Self {
        match value {
            Some(value) => {
                let settings = vec![(key.to_owned(), value.to_string().into())];
                Self(self.0.merge(Said { by: flag, settings }))
            }
            None => self,
        }
    }

    /// Reads and checks what is in force.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming every key at fault, where it was said and what was expected.
    pub(crate) fn read(&self) -> Result<Config, Error> {
        let config: Config = self.0.extract().map_err(|errors| {
            let lines: Vec<_> = errors
                .into_iter()
                .map(|error| self.describe(&error))
                .collect();
            Error::Config(lines.join("\n"))
        })?;
        let mut faults = config.faults();
        if faults.is_empty() {
            return Ok(config);
        }
        for (key, problem) in &mut faults {
            *problem = format!("  {key}: {problem}, from {}", self.source(key));
        }
        let lines: Vec<_> = faults.into_iter().map(|(_, line)| line).collect();
        Err(Error::Config(lines.join("\n")))
    }

    /// Lists every setting with where it was said, by key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the layers are no table.
    pub(crate) fn settings(&self) -> Result<Vec<Setting>, Error> {
        let dict: Dict = self
            .0
            .extract()
            .map_err(|error| Error::Config(format!("  {error}")))?;
        let mut found = BTreeMap::new();
        for (section, value) in dict {
            for (key, value) in value.into_dict().unwrap_or_default() {
                found.insert(format!("{section}.{key}"), value);
            }
        }
        let shown = |(key, value): (String, Value)| {
            let value = serde_json::to_value(&value).unwrap_or_default();
            let value = match (key.as_str(), value) {
                ("auth.pepper", _) => "***".into(),
                ("database.url" | "database.migrate_url", serde_json::Value::String(url)) => {
                    without_password(&url).into()
                }
                (_, value) => value,
            };
            Setting {
                source: self.source(&key),
                key,
                value,
            }
        };
        Ok(found.into_iter().map(shown).collect())
    }

    fn describe(&self, error: &figment::Error) -> String {
        use figment::error::Kind;
        let mut path = error.path.clone();
        if let Kind::UnknownField(name, _) = &error.kind
            && path.last() != Some(name)
        {
            path.push(name.clone());
        }
        let key = path.join(".");
        let problem = match &error.kind {
            Kind::UnknownField(_, []) => "is not a setting".to_owned(),
            Kind::UnknownField(name, known) => {
                format!("is not a setting{}", suggestion(name, known))
            }
            kind if is_secret(&key) => {
                // The value is not repeated.
                let _ = kind;
                "has the wrong type; a text was expected".to_owned()
            }
            kind => kind.to_string(),
        };
        let source = error
            .metadata
            .as_ref()
            .map_or_else(|| self.source(&key), |from| describe_source(from, &key));
        format!("  {key}: {problem}, from {source}")
    }

    fn source(&self, key: &str) -> String {
        self.0
            .find_metadata(key)
            .map_or_else(|| "default".to_owned(), |from| describe_source(from, key))
    }
}

// === impl Provider ===

impl Provider for Said {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.by)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut dict = Dict::new();
        for (key, value) in &self.settings {
            let (section, key) = key.split_once('.').unwrap_or(("", key));
            let entry = dict
                .entry(section.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, section) = entry {
                section.insert(key.to_owned(), value.clone());
            }
        }
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

impl Provider for FromFile {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", Source::File(self.path.clone()))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.data.clone())]))
    }
}

fn describe_source(from: &Metadata, key: &str) -> String {
    match (&from.source, from.name.as_ref()) {
        (Some(Source::File(path)), _) => format!("`{}`", path.display()),
        (_, name) if name.contains("environment") => {
            format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
        }
        (_, name) if name.starts_with("--") => name.to_owned(),
        _ => "default".to_owned(),
    }
}

/// Names the known setting that was probably meant, else all of them.
fn suggestion(name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|other| (likeness(name, other), other))
        .max();
    match near {
        Some((alike, near)) if alike * 2 >= name.len().max(near.len()) => {
            format!("; did you mean `{near}`?")
        }
        _ => format!("; there are {}", known.join(", ")),
    }
}

/// Counts the bytes that two names begin and end with alike.
fn likeness(a: &str, b: &str) -> usize {
    let alike =
        |pairs: &mut dyn Iterator<Item = (u8, u8)>| pairs.take_while(|(a, b)| a == b).count();
    let start = alike(&mut a.bytes().zip(b.bytes()));
    let end = alike(&mut a.bytes().rev().zip(b.bytes().rev()));
    (start + end).min(a.len().min(b.len()))
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

fn is_secret(key: &str) -> bool {
    matches!(key, "auth.pepper" | "database.url" | "database.migrate_url")
}
