//! Text tables that line up.

/// A table whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Columns {
    /// Names the columns; one that ends in `>` is aligned to the right.
    pub(crate) fn new(names: &[&str]) -> Self {
        let right = names.iter().map(|name| name.ends_with('>')).collect();
        let head = names.iter().map(|name| name.trim_end_matches('>').to_owned()).collect();
        Self { rows: vec![head], right }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table as text, each line with `indent` blanks in front.
    pub(crate) fn render(&self, indent: usize) -> String {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let blanks = " ".repeat(width - cell.chars().count().min(*width));
                let (before, after) = if *right { (&*blanks, "") } else { ("", &*blanks) };
                line.push_str(before);
                line.push_str(cell);
                line.push_str(after);
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Text of a feed may hold anything; a terminal must not obey it.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut columns = Columns::new(&["feed", "indicators>", "why"]);
        columns.row(["a".to_owned(), "12345".to_owned(), "x".to_owned()]);
        columns.row(["longer".to_owned(), "7".to_owned(), String::new()]);
        let expected = "  feed    indicators  why\n  a            12345  x\n  longer           7\n";
        assert_eq!(columns.render(2), expected);
    }

    #[test]
    fn a_feed_cannot_steer_the_terminal() {
        let mut columns = Columns::new(&["malware"]);
        columns.row(["\u{1b}[2Jgone".to_owned()]);
        assert!(!columns.render(0).contains('\u{1b}'));
    }
}
