//! The table at the end: each target, what was measured, and whether it holds.

use std::fmt::Write as _;

/// What came of each target, in the order of measuring.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    target: String,
    measured: String,
    verdict: String,
}

// === impl Report ===

impl Report {
    /// Notes a target that holds when the figure is no more than `limit`.
    pub fn at_most(&mut self, what: impl Into<String>, measured: f64, limit: f64, unit: &str) {
        let over = measured / limit;
        self.push(what, "≤", measured, limit, unit, over, measured <= limit);
    }

    /// Notes a target that holds when the figure is no less than `limit`.
    pub fn at_least(&mut self, what: impl Into<String>, measured: f64, limit: f64, unit: &str) {
        let over = limit / measured;
        self.push(what, "≥", measured, limit, unit, over, measured >= limit);
    }

    /// Notes a target that nothing was measured for.
    pub fn missing(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.rows.push(Row {
            what: what.into(),
            target: String::new(),
            measured: String::new(),
            verdict: format!("not measured: {}", why.into()),
        });
    }

    /// Notes a figure that has no target.
    pub fn note(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push(Row {
            what: what.into(),
            target: "-".to_owned(),
            measured: measured.into(),
            verdict: String::new(),
        });
    }

    fn push(
        &mut self,
        what: impl Into<String>,
        relation: &str,
        measured: f64,
        limit: f64,
        unit: &str,
        over: f64,
        holds: bool,
    ) {
        let verdict = if holds && !over.is_finite() {
            "holds".to_owned()
        } else if holds {
            format!("holds ({:.0} % of what it may)", over * 100.0)
        } else {
            format!("MISSED by {over:.2} x")
        };
        self.rows.push(Row {
            what: what.into(),
            target: format!("{relation} {} {unit}", short(limit)),
            measured: format!("{} {unit}", short(measured)),
            verdict,
        });
    }

    /// Writes the table.
    pub fn table(&self) -> String {
        let width = |of: fn(&Row) -> &String| {
            let lengths = self.rows.iter().map(|row| of(row).chars().count());
            lengths.max().unwrap_or(0).max(8)
        };
        let (what, target, measured) = (
            width(|row| &row.what),
            width(|row| &row.target),
            width(|row| &row.measured),
        );
        let mut text = format!(
            "{:<what$} | {:<target$} | {:<measured$} | verdict\n",
            "what", "target", "measured"
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:<what$} | {:<target$} | {:<measured$} | {}",
                row.what, row.target, row.measured, row.verdict
            );
        }
        text
    }
}

/// Writes a figure with as many digits as it deserves.
fn short(figure: f64) -> String {
    let digits = match figure.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{figure:.digits$}");
    match text.strip_suffix(".00").or_else(|| text.strip_suffix(".0")) {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}
