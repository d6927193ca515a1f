//! Golden files: what was published once and changes only on purpose.

use crate::root;

/// Compares `text` with the file at `path`, seen from the root of the repository.
///
/// With `REMIT_GOLDEN=write` in the environment the file is written instead; read the difference before you commit it.
///
/// # Panics
///
/// When they differ.
pub fn compare(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("REMIT_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let same = kept
        .lines()
        .zip(text.lines())
        .take_while(|(kept, new)| kept == new)
        .count();
    assert!(
        kept == text,
        "{} differs from line {}: kept {:?}, now {:?}; REMIT_GOLDEN=write writes it",
        path.display(),
        same + 1,
        kept.lines().nth(same),
        text.lines().nth(same),
    );
}
