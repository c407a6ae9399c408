//! What people and programs read: aligned tables, JSON files, plots.
pub(crate) mod plot;
mod svg;
pub(crate) mod table;

use std::fs::File;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;

/// Bytes of a file to draw at most: a hundred thousand points are far below, and no picture shows more.
const PLOT_FILE_BYTES_MAX: u64 = 16 << 20;

/// The command line of `report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Draws lines or bars as SVG.
    ///
    /// Lines: {"title": "CPU by viewers", "x": "viewers", "y": "CPU (% of a core)",
    /// "lines": [{"name": "lectern", "points": [[100, 4.2], [200, 8.1]]}]}.
    /// Bars: {"title": "Delay", "x": "delay (ms)", "y": "frames", "bars": [{"from": 0, "to": 10, "count": 5}]}.
    #[command(verbatim_doc_comment)]
    Plot {
        /// What to draw.
        input: PathBuf,
        /// Where to.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Draws.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let What::Plot { input, output } = &arguments.what;
    let context = || format!("{}", input.display());
    let len = std::fs::metadata(input).with_context(context)?.len();
    ensure!(len <= PLOT_FILE_BYTES_MAX, "{}: more than {PLOT_FILE_BYTES_MAX} bytes", input.display());
    let plot: plot::Plot =
        serde_json::from_slice(&std::fs::read(input).with_context(context)?).with_context(context)?;
    let drawing = plot.draw().with_context(context)?;
    std::fs::write(output, drawing).with_context(|| format!("{}", output.display()))
}

/// A result, on the standard output. A reader that has gone away is no error.
pub(crate) fn result(text: &str) {
    let _ = writeln!(stdout().lock(), "{}", text.trim_end());
}

/// What happens meanwhile, on the standard error.
pub(crate) fn progress(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

/// Writes `value` for programs to read.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(context)?;
    serde_json::to_writer_pretty(&mut file, value).with_context(context)?;
    writeln!(file).with_context(context)
}

/// The middle one of `values`; the mean of two middle ones. `None` when there are none.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(values.len() / 2 - 1)?, upper))
}

/// A number for people: four digits that count, thousands apart.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 0.1 => 4,
        size if size < 10.0 => 3,
        size if size < 100.0 => 2,
        size if size < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_show_what_counts() {
        for (value, text) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (1.7, "1.7"),
            (2.34567, "2.346"),
            (128.04, "128"),
            (4_500.2, "4,500"),
            (-1_234_567.0, "-1,234,567"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
