//! Tables as aligned text.

/// Rows under headings. The first column is for words, the others for numbers.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    /// Text with a line under the headings.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            push_line(&mut text, row, &widths);
            if index == 0 {
                let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                push_line(&mut text, &lines, &widths);
            }
        }
        text
    }
}

fn push_line(text: &mut String, cells: &[String], widths: &[usize]) {
    let start = text.len();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if column == 0 {
            text.push_str(&format!("{cell:<width$}"));
        } else {
            text.push_str(&format!("{GAP}{cell:>width$}"));
        }
    }
    text.truncate(start + text.get(start..).unwrap_or("").trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new(&["what", "µs"]);
        table.push(["sealing", "0.25"]);
        table.push(["both together", "11.7"]);
        let expected = "what             µs\n-------------  ----\nsealing        0.25\nboth together  11.7\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn short_rows_leave_the_rest_empty() {
        let mut table = Table::new(&["a", "b"]);
        table.push(["x"]);
        assert_eq!(table.render(), "a  b\n-  -\nx\n");
    }
}
