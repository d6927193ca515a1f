//! A bundle as a folder: `*.cedarschema`, `*.cedar`, `entities.json`, `links.json`, `admin/*.cedar` and `cases/*.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use remit_core::{Bundle, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cases;
use crate::error::Error;

/// The largest file of a bundle, in bytes.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The most files of a bundle.
const FILES: usize = 2_000;
/// The largest bundle, in bytes.
const TOTAL_BYTES: usize = 16 * 1024 * 1024;
/// Where pulled cases are written: a bundle does not keep which file a case came from.
const CASES_FILE: &str = "cases/cases.yaml";

/// A folder that has been read.
#[derive(Debug)]
pub(crate) struct Folder {
    /// What it holds.
    pub(crate) bundle: Bundle,
    /// What was left out, in words.
    pub(crate) warnings: Vec<String>,
}

/// What writing a bundle into a folder changes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Changes {
    /// Files that are new.
    pub(crate) added: Vec<String>,
    /// Files whose text changes.
    pub(crate) changed: Vec<String>,
    /// Files of a bundle that this one does not have.
    pub(crate) removed: Vec<String>,
}

/// Reads the bundle in `dir`.
///
/// # Errors
///
/// [`Error::Invalid`] naming the file and, where there is one, the line; [`Error::Io`] when it cannot be read.
pub(crate) fn read(dir: &Path) -> Result<Folder, Error> {
    let (files, mut warnings) = files(dir)?;
    let bundle = assemble(&files)?;
    if bundle.policies.is_empty() {
        warnings.push(format!(
            "`{}` holds no *.cedar file: everything will be denied",
            dir.display()
        ));
    }
    Ok(Folder { bundle, warnings })
}

/// Makes a bundle of files by their names relative to the folder.
///
/// # Errors
///
/// [`Error::Invalid`] naming the file and the line.
pub(crate) fn assemble(files: &BTreeMap<String, String>) -> Result<Bundle, Error> {
    let mut bundle = Bundle::default();
    for (name, text) in files {
        let source = || Source {
            file: name.clone(),
            text: text.clone(),
        };
        match kind(name) {
            Kind::Schema => bundle.schema.push(source()),
            Kind::Policies => bundle.policies.push(source()),
            Kind::Admin => bundle.admin.push(source()),
            Kind::Entities => bundle.entities = json(name, text)?,
            Kind::Links => bundle.links = json(name, text)?,
            Kind::Cases => bundle.cases.extend(cases::parse(name, text)?),
            Kind::Other => {}
        }
    }
    Ok(bundle)
}

/// Finds what writing `bundle` into `dir` would change.
///
/// # Errors
///
/// As [`read`], and [`Error::Invalid`] for a bundle with a file name that does not stay in the folder.
pub(crate) fn changes(dir: &Path, bundle: &Bundle) -> Result<Changes, Error> {
    let there = if dir.exists() {
        files(dir)?.0
    } else {
        BTreeMap::new()
    };
    let wanted = disassemble(bundle)?;
    let mut changes = Changes::default();
    for (name, text) in &wanted {
        match there.get(name) {
            None => changes.added.push(name.clone()),
            Some(old) if old != text => changes.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    changes.removed = there
        .into_keys()
        .filter(|name| !wanted.contains_key(name))
        .collect();
    Ok(changes)
}

/// Writes `bundle` into `dir` and removes files of a bundle that it does not have.
///
/// Each file is replaced whole, so that an interrupted pull leaves no half of one.
///
/// # Errors
///
/// As [`changes`], and [`Error::Io`] when a file cannot be written.
pub(crate) fn write(dir: &Path, bundle: &Bundle) -> Result<Changes, Error> {
    let changes = changes(dir, bundle)?;
    let wanted = disassemble(bundle)?;
    for name in changes.added.iter().chain(&changes.changed) {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent).map_err(|why| Error::path("create", parent, why))?;
        let text = wanted.get(name).map_or("", String::as_str);
        replace(&path, text.as_bytes())?;
    }
    for name in &changes.removed {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(|why| Error::path("remove", &path, why))?;
    }
    Ok(changes)
}

/// Replaces a file whole: a reader sees the old one or the new one.
///
/// # Errors
///
/// [`Error::Io`].
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        use std::io::Write as _;
        let mut file = tempfile::Builder::new()
            .prefix(".remit-")
            .tempfile_in(parent)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|why| Error::path("write", path, why))
}

/// The files of a bundle by name, with their length and when they were last written.
pub(crate) type Stamps = BTreeMap<String, (u64, Option<SystemTime>)>;

/// Looks at the files of the bundle in `dir` without reading them; what cannot be looked at is left out.
pub(crate) fn stamps(dir: &Path) -> Stamps {
    let mut found = Stamps::new();
    for prefix in ["", "admin/", "cases/"] {
        for name in list(dir, prefix).unwrap_or_default() {
            if matches!(kind(&name), Kind::Other) {
                continue;
            }
            if let Ok(metadata) = fs::metadata(dir.join(&name)) {
                found.insert(name, (metadata.len(), metadata.modified().ok()));
            }
        }
    }
    found
}

/// What a file of the folder is to a bundle.
enum Kind {
    Schema,
    Policies,
    Admin,
    Entities,
    Links,
    Cases,
    Other,
}

fn kind(name: &str) -> Kind {
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    match (name.split_once('/'), extension) {
        (None, Some("cedarschema")) => Kind::Schema,
        (None, Some("cedar")) => Kind::Policies,
        (None, _) if name == "entities.json" => Kind::Entities,
        (None, _) if name == "links.json" => Kind::Links,
        (Some(("admin", rest)), Some("cedar")) if !rest.contains('/') => Kind::Admin,
        (Some(("cases", rest)), Some("yaml")) if !rest.contains('/') => Kind::Cases,
        _ => Kind::Other,
    }
}

/// Reads every file of a bundle in `dir`, by name, and says what was left out.
fn files(dir: &Path) -> Result<(BTreeMap<String, String>, Vec<String>), Error> {
    let root = fs::canonicalize(dir).map_err(|why| Error::path("open the folder", dir, why))?;
    let mut names = list(&root, "")?;
    for folder in ["admin", "cases"] {
        if root.join(folder).is_dir() {
            names.extend(list(&root, &format!("{folder}/"))?);
        }
    }
    names.sort();
    let mut files = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut total = 0;
    for name in names {
        if matches!(kind(&name), Kind::Other) {
            let expected = name.starts_with('.')
                || name.contains("/.")
                || Path::new(&name)
                    .extension()
                    .is_some_and(|extension| extension == "md");
            if !expected {
                warnings.push(format!("`{name}` is no part of a bundle and is left out"));
            }
            continue;
        }
        let text = read_file(&root, &name)?;
        total += text.len();
        files.insert(name, text);
        if files.len() > FILES || total > TOTAL_BYTES {
            return Err(Error::Invalid(format!(
                "`{}` is too large for a bundle: the limits are {FILES} files and {TOTAL_BYTES} bytes",
                dir.display()
            )));
        }
    }
    Ok((files, warnings))
}

/// Lists the names of what is not a folder in `root`/`prefix`.
fn list(root: &Path, prefix: &str) -> Result<Vec<String>, Error> {
    let folder = root.join(prefix);
    let failed = |why| Error::path("list", &folder, why);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() {
            continue;
        }
        match entry.file_name().into_string() {
            Ok(name) => names.push(format!("{prefix}{name}")),
            Err(name) => {
                return Err(Error::Invalid(format!(
                    "the name of `{}` is not UTF-8",
                    Path::new(&name).display()
                )));
            }
        }
    }
    Ok(names)
}

/// Reads one file; a link must not lead out of the folder, and the file must be a small regular one.
fn read_file(root: &Path, name: &str) -> Result<String, Error> {
    let path = root.join(name);
    let real = fs::canonicalize(&path).map_err(|why| Error::path("read", &path, why))?;
    if !real.starts_with(root) {
        return Err(Error::Invalid(format!(
            "`{name}` is a link that leads out of the bundle's folder"
        )));
    }
    let failed = |why| Error::path("read", &path, why);
    let file = fs::File::open(&real).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::Invalid(format!("`{name}` is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(Error::Invalid(format!(
            "`{name}` is larger than {FILE_BYTES} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|why| {
        let at = why.utf8_error().valid_up_to();
        Error::Invalid(format!(
            "`{name}` is not UTF-8: the first wrong byte is at offset {at}"
        ))
    })
}

fn json<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|why| {
        let (line, column) = (why.line(), why.column());
        let what = why.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Error::Invalid(format!("{name}:{line}:{column}: {what}"))
    })
}

/// Turns a bundle into files, refusing names that are not those of a bundle's folder.
fn disassemble(bundle: &Bundle) -> Result<BTreeMap<String, String>, Error> {
    let mut files = BTreeMap::new();
    for (source, folder, extension) in bundle
        .schema
        .iter()
        .map(|source| (source, "", "cedarschema"))
        .chain(bundle.policies.iter().map(|source| (source, "", "cedar")))
        .chain(
            bundle
                .admin
                .iter()
                .map(|source| (source, "admin/", "cedar")),
        )
    {
        let name = source.file.strip_prefix(folder).unwrap_or_default();
        let path = PathBuf::from(name);
        let mut parts = path.components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        if !plain
            || source.file.contains('\\')
            || path.extension().is_none_or(|found| found != extension)
        {
            return Err(Error::Invalid(format!(
                "the bundle has a file named `{}`, which cannot stand in a folder; `{folder}` and a plain name ending in .{extension} was expected",
                source.file.escape_debug()
            )));
        }
        files.insert(source.file.clone(), source.text.clone());
    }
    if !bundle.entities.is_empty() {
        files.insert("entities.json".to_owned(), pretty(&bundle.entities)?);
    }
    if !bundle.links.is_empty() {
        files.insert("links.json".to_owned(), pretty(&bundle.links)?);
    }
    if !bundle.cases.is_empty() {
        files.insert(CASES_FILE.to_owned(), cases::write(&bundle.cases)?);
    }
    Ok(files)
}

fn pretty(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value).map_err(Error::Unwritable)?;
    Ok(text + "\n")
}
