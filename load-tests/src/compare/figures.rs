//! The numbers in a JSON file, by name.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Numbers of a file that are compared; the rest are left out.
const FIGURES_MAX: usize = 256;

/// Numbers by where they stand: `delay.p99_ms`. Lists are not looked into.
pub(super) type Figures = BTreeMap<String, f64>;

/// Those of a file.
pub(super) fn read(path: &Path) -> anyhow::Result<Figures> {
    let len = std::fs::metadata(path).context("the work wrote no figures")?.len();
    ensure!(len <= FILE_BYTES_MAX, "the work wrote more than {FILE_BYTES_MAX} bytes of figures");
    let value = serde_json::from_slice(&std::fs::read(path)?).context("the work's figures are no JSON")?;
    let mut figures = Figures::new();
    collect(&value, String::new(), &mut figures);
    Ok(figures)
}

/// The depth is bounded by `serde_json`, which reads 128 levels.
fn collect(value: &Value, name: String, figures: &mut Figures) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                collect(member, name, figures);
            }
        }
        Value::Number(number) if figures.len() < FIGURES_MAX => {
            figures.extend(number.as_f64().map(|number| (name, number)));
        }
        _ => {}
    }
}

/// The figure called so, or the only one whose last part is.
pub(super) fn find(figures: &Figures, name: &str) -> Option<f64> {
    if let Some(exact) = figures.get(name) {
        return Some(*exact);
    }
    let mut ending = figures.iter().filter(|(key, _)| key.rsplit('.').next() == Some(name));
    let found = ending.next().map(|(_, value)| *value);
    found.filter(|_| ending.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(text: &str) -> Figures {
        let mut figures = Figures::new();
        collect(&serde_json::from_str(text).unwrap(), String::new(), &mut figures);
        figures
    }

    #[test]
    fn numbers_are_found_by_name() {
        let figures =
            figures(r#"{"packets": 5, "a": {"x": 1.5, "n": "no", "l": [1]}, "b": {"x": 2, "y": 3}}"#);
        let names: Vec<&str> = figures.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.x", "b.x", "b.y", "packets"]);
        assert_eq!(find(&figures, "packets"), Some(5.0));
        assert_eq!(find(&figures, "y"), Some(3.0));
        assert_eq!((find(&figures, "x"), find(&figures, "a.x")), (None, Some(1.5)));
    }

    #[test]
    fn more_numbers_than_anybody_reads_are_left_out() {
        let members: Vec<String> = (0..1000).map(|number| format!("\"n{number}\": {number}")).collect();
        assert_eq!(figures(&format!("{{{}}}", members.join(","))).len(), FIGURES_MAX);
    }
}
