//! Lists the files of the starter bundle, so that the binary carries them and `remit serve --dev` works anywhere.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let starter = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../policies/starter");
    let mut list = String::from("&[\n");
    for folder in ["", "cases/"] {
        let dir = starter.join(folder);
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
    fs::write(
        Path::new(&std::env::var("OUT_DIR")?).join("starter.rs"),
        list,
    )?;
    Ok(())
}
