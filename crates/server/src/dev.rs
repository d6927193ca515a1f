//! What `serve --dev` makes for itself: a data folder, a pepper, a key, and something to decide with.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use remit_core::{Bundle, Clock, KeyId, TenantId};
use remit_store::{ApiKey, Change, Expected, NewKey, Pepper, Scope, Store};

use crate::config::{check_private, read_small};
use crate::error::Error;

/// The variable that fixes the key.
pub(crate) const KEY_VARIABLE: &str = "REMIT_DEV_KEY";
/// The environment of development keys.
const ENVIRONMENT: &str = "dev";
/// The settings that `--dev` changes; a file, the environment and flags still go over them.
pub(crate) const PRESET: &[(&str, &str)] = &[("data.dir", ".remit"), ("telemetry.format", "text")];

/// The key of a development server.
#[derive(Debug)]
pub(crate) struct Key {
    /// The stored key.
    pub(crate) id: KeyId,
    /// What a caller presents.
    pub(crate) text: String,
    /// Whether that is a text of the developer's choice and not the stored key's own.
    pub(crate) fixed: bool,
}

/// Makes the data folder, for nobody else to read.
///
/// # Errors
///
/// [`Error::Io`].
pub(crate) fn make_folder(dir: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder
        .create(dir)
        .map_err(|why| Error::path("create the data folder", dir, why))
}

/// Reads the folder's pepper, or makes one.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::Config`] where others can read it.
pub(crate) fn pepper(dir: &Path) -> Result<String, Error> {
    let path = dir.join("pepper");
    check_private("the pepper of the data folder", &path)?;
    match read_small(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(why) if why.kind() == ErrorKind::NotFound => {
            let (mut first, mut second) = ([0; 16], [0; 16]);
            for half in [&mut first, &mut second] {
                getrandom::fill(half).map_err(|why| Error::io("take random bytes", why.into()))?;
            }
            let text = format!(
                "{:032x}{:032x}",
                u128::from_be_bytes(first),
                u128::from_be_bytes(second)
            );
            write_private(&path, &text)?;
            Ok(text)
        }
        Err(why) => Err(Error::path("read", &path, why)),
    }
}

/// Reads the text that REMIT_DEV_KEY fixes.
///
/// # Errors
///
/// [`Error::Config`] for one shorter than 8 characters.
pub(crate) fn fixed_key() -> Result<Option<String>, Error> {
    let text = std::env::var(KEY_VARIABLE)
        .ok()
        .filter(|text| !text.is_empty());
    let usable = |text: &String| {
        text.chars().count() >= 8 && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if text.as_ref().is_some_and(|text| !usable(text)) {
        return Err(Error::Config(format!(
            "  {KEY_VARIABLE}: needs 8 characters or more, ASCII without spaces"
        )));
    }
    Ok(text)
}

/// Makes sure that there is a key with every scope, and returns it.
///
/// Its text is kept in the data folder, so that a restart prints the same one.
///
/// # Errors
///
/// [`Error::Store`] and [`Error::Io`].
pub(crate) async fn key(
    dir: &Path,
    store: &Store,
    tenant: TenantId,
    pepper: &Pepper,
    fixed: Option<String>,
) -> Result<Key, Error> {
    let path = dir.join("dev.key");
    let kept = read_small(&path)
        .ok()
        .and_then(|text| ApiKey::parse(text.trim_end()).ok());
    let kept = match kept {
        Some(key) => {
            let stored = insert(store, tenant, &key, pepper).await?;
            // A key that somebody revoked is not to be printed as if it worked.
            (stored.revoked_at.is_none()).then_some(key)
        }
        None => None,
    };
    let key = match kept {
        Some(key) => key,
        None => {
            let id = KeyId::from_uuid(Clock::system().id());
            let key = ApiKey::generate(ENVIRONMENT, id).map_err(store_failed)?;
            insert(store, tenant, &key, pepper).await?;
            write_private(&path, &key.reveal())?;
            key
        }
    };
    let text = fixed.clone().unwrap_or_else(|| key.reveal());
    Ok(Key {
        id: key.id(),
        text,
        fixed: fixed.is_some(),
    })
}

async fn insert(
    store: &Store,
    tenant: TenantId,
    key: &ApiKey,
    pepper: &Pepper,
) -> Result<remit_store::StoredKey, Error> {
    let new = NewKey {
        name: "serve --dev".to_owned(),
        environment: ENVIRONMENT.to_owned(),
        scopes: Scope::ALL.iter().copied().collect(),
        expires_at: None,
        principal: None,
    };
    store
        .insert_key(tenant, key, &new, pepper, Change::default())
        .await
        .map_err(store_failed)
}

/// Puts `bundle` in force unless it is already; without `replace`, only where there is none at all.
///
/// Says whether it was put. The bundle must have been compiled.
///
/// # Errors
///
/// [`Error::Store`].
pub(crate) async fn load(
    store: &Store,
    tenant: TenantId,
    bundle: &Bundle,
    replace: bool,
) -> Result<bool, Error> {
    let current = store.bundle(tenant).await.map_err(store_failed)?;
    let wanted = match &current {
        Some(stored) => replace && stored.hash != bundle.content_hash(),
        None => true,
    };
    if wanted {
        store
            .put_bundle(tenant, Expected::Any, bundle, None)
            .await
            .map_err(store_failed)?;
    }
    Ok(wanted)
}

/// Returns the bundle in force.
///
/// # Errors
///
/// [`Error::Store`].
pub(crate) async fn in_force(store: &Store, tenant: TenantId) -> Result<Option<Bundle>, Error> {
    let stored = store.bundle(tenant).await.map_err(store_failed)?;
    Ok(stored.map(|stored| stored.bundle))
}

/// Writes a file that only its owner can read.
///
/// # Errors
///
/// [`Error::Io`].
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    // A torn write would be a secret that nobody has: the file appears whole or not at all.
    let write = || -> std::io::Result<()> {
        let parent = path
            .parent()
            .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        // Temporary files are made with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".remit-")
            .tempfile_in(parent)?;
        writeln!(file, "{text}")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|why| Error::path("write", path, why))
}

fn store_failed(source: remit_store::Error) -> Error {
    Error::Store {
        what: "prepare the database for development",
        source,
    }
}
