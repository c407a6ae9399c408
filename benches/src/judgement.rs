//! The verdict on each case.
use crate::baseline::Entry;
use crate::environment::Environment;

/// One case's line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    instructions: u64,
    committed: Option<u64>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Dearer,
    Cheaper,
    /// Nothing is committed that it could be compared with.
    New,
    /// What is committed was counted by another compiler, C library, valgrind or kind of processor.
    Elsewhere,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        instructions: u64,
        entry: Option<&Entry>,
        here: &Environment,
    ) -> Self {
        let verdict = match entry {
            None => Verdict::New,
            Some(entry) if entry.environment() != *here => Verdict::Elsewhere,
            Some(entry) => judge(instructions, entry.instructions, entry.tolerance_percent),
        };
        Self { name, instructions, committed: entry.map(|entry| entry.instructions), verdict }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count is far below 2^52")]
fn judge(instructions: u64, committed: u64, tolerance_percent: f64) -> Verdict {
    let percent = (instructions as f64 - committed as f64) * 100.0 / committed as f64;
    if percent > tolerance_percent {
        Verdict::Dearer
    } else if percent < -tolerance_percent {
        Verdict::Cheaper
    } else {
        Verdict::Same
    }
}

/// The table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<12} {:>15} {:>15} {:>7}\n", "case", "instructions", "committed", "ratio");
    for row in rows {
        let (committed, ratio) = match row.committed {
            Some(committed) => (grouped(committed), ratio(row.instructions, committed)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let verdict = match row.verdict {
            Verdict::Same => "",
            Verdict::Dearer => "DEARER",
            Verdict::Cheaper => "cheaper",
            Verdict::New => "new",
            Verdict::Elsewhere => "not judged",
        };
        let line = format!(
            "{:<12} {:>15} {committed:>15} {ratio:>7} {verdict}",
            row.name,
            grouped(row.instructions)
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Whether nothing is wrong, and what to do in words.
pub(crate) fn advice(rows: &[Row], here: &Environment) -> (bool, String) {
    let has = |verdict| rows.iter().any(|row| row.verdict == verdict);
    let mut text = String::new();
    let accept = "`make counts ARGS=update` and commit benches/counts.toml with the reason";
    if has(Verdict::Elsewhere) {
        text += &format!(
            "Not judged: the committed counts were not made with {here}. To judge here: {accept}.\n"
        );
    }
    if has(Verdict::New) {
        text += &format!("New: {accept}.\n");
    }
    if has(Verdict::Cheaper) {
        text += &format!("Cheaper: to hold what was won, {accept}.\n");
    }
    if has(Verdict::Dearer) {
        text += &format!("DEARER: find out why; to accept it, {accept}.\n");
    }
    (!has(Verdict::Dearer) && !has(Verdict::New), text)
}

#[expect(clippy::cast_precision_loss, reason = "four digits of it are shown")]
fn ratio(instructions: u64, committed: u64) -> String {
    format!("{:.4}", instructions as f64 / committed as f64)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_may_cost_as_much_more_as_its_tolerance_says() {
        assert_eq!(judge(1050, 1000, 5.0), Verdict::Same);
        assert_eq!(judge(1051, 1000, 5.0), Verdict::Dearer);
        assert_eq!(judge(949, 1000, 5.0), Verdict::Cheaper);
        assert_eq!(judge(1011, 1000, 1.0), Verdict::Dearer);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
