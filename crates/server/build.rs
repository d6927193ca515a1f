//! Lists the files of the bundles that the binary carries, so that `remit serve --dev` and `remit demo` work anywhere.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The packs, by the names of their folders.
const PACKS: [&str; 2] = ["starter", "agent-baseline"];

fn main() -> Result<(), Box<dyn Error>> {
    let policies = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../policies");
    for pack in PACKS {
        let list = list(&policies.join(pack))?;
        let file = Path::new(&std::env::var("OUT_DIR")?).join(format!("{pack}.rs"));
        fs::write(file, list)?;
    }
    Ok(())
}

fn list(pack: &Path) -> Result<String, Box<dyn Error>> {
    let mut list = String::from("&[\n");
    for folder in ["", "cases/"] {
        let dir = pack.join(folder);
        // Cargo looks at a folder's own time, which changes when a file comes or goes.
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(
                    entry
                        .file_name()
                        .into_string()
                        .map_err(|_| "a file name is not UTF-8")?,
                );
            }
        }
        names.sort();
        for name in names {
            let path = fs::canonicalize(dir.join(&name))?;
            writeln!(
                list,
                "    ({:?}, include_str!({:?})),",
                format!("{folder}{name}"),
                path.to_str().ok_or("a path is not UTF-8")?
            )?;
        }
    }
    list.push_str("]\n");
    Ok(list)
}
