//! Columns of text: words to the left, numbers to the right, two spaces between.

use std::fmt::{self, Write as _};

/// On which side of a column its cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under an optional heading.
#[derive(Debug)]
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with a side per column and no heading.
    pub(crate) fn new(sides: impl Into<Vec<Side>>) -> Self {
        Self { sides: sides.into(), rows: Vec::new() }
    }

    /// An empty table with a heading.
    pub(crate) fn headed<const N: usize>(columns: [(&str, Side); N]) -> Self {
        let mut table = Self::new(columns.map(|(_, side)| side));
        table.row(columns.map(|(title, _)| title.to_owned()));
        table
    }

    /// Adds a row with a cell per column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.sides.len(), "a cell per column");
        self.rows.push(cells.into());
    }

    /// The table behind a margin.
    pub(crate) fn indented(&self, margin: usize) -> impl fmt::Display + '_ {
        Indented { table: self, margin }
    }

    fn widths(&self) -> Vec<usize> {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (0..self.sides.len()).map(width).collect()
    }
}

struct Indented<'a> {
    table: &'a Table,
    margin: usize,
}

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.table.widths();
        let mut line = String::new();
        for row in &self.table.rows {
            line.clear();
            for ((cell, side), &width) in row.iter().zip(&self.table.sides).zip(&widths) {
                let gap = if line.is_empty() { "" } else { "  " };
                match side {
                    Side::Left => write!(line, "{gap}{cell:<width$}")?,
                    Side::Right => write!(line, "{gap}{cell:>width$}")?,
                }
            }
            match line.trim_end() {
                "" => writeln!(f)?,
                line => writeln!(f, "{:margin$}{line}", "", margin = self.margin)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::headed([("name", Side::Left), ("dim", Side::Right), ("note", Side::Left)]);
        table.row(["é".to_owned(), "1,024".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "7".to_owned(), "x".to_owned()]);
        let expected = "  name      dim  note\n  é       1,024\n  longer      7  x\n";
        assert_eq!(table.indented(2).to_string(), expected);
    }
}
