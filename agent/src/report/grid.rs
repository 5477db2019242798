//! Rows of text under headers, aligned, and fitted to a width by leaving the least important columns out.
//!
//! Every cell is made safe for a terminal here, so that no view can forget it.

use std::io::{self, Write};

use super::text::{cut, sanitize, width};

const GAP: usize = 2;

/// On which side a column's text lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For figures.
    Right,
}

/// The head of a column.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// What stands above it.
    pub header: &'static str,
    /// How it is aligned.
    pub align: Align,
    /// Which columns go first where not all fit: those with the highest number. 0 always stays.
    pub rank: u8,
}

/// A table: its columns and the cells of each row.
#[derive(Debug)]
pub struct Grid {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    head: Head,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| width(cell)).fold(width(self.head.header), usize::max)
    }
}

impl Grid {
    /// A table without rows.
    pub fn new(heads: impl IntoIterator<Item = Head>) -> Self {
        Self { columns: heads.into_iter().map(|head| Column { head, cells: Vec::new() }).collect() }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones are empty.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        let mut row = row.into_iter();
        for column in &mut self.columns {
            column.cells.push(sanitize(&row.next().unwrap_or_default()));
        }
    }

    /// Writes header and rows in at most `limit` terminal columns; returns the headers that were left out.
    pub fn write(&self, limit: Option<usize>, out: &mut dyn Write) -> io::Result<Vec<&'static str>> {
        let limit = limit.unwrap_or(usize::MAX);
        let widths: Vec<usize> = self.columns.iter().map(Column::width).collect();
        let highest = self.highest_rank(&widths, limit);
        let kept = || self.columns.iter().zip(&widths).filter(|(column, _)| column.head.rank <= highest);
        let mut put = |text: fn(&Column, usize) -> &str, row: usize| {
            let mut line = String::new();
            kept().for_each(|(column, width)| pad(&mut line, text(column, row), column.head.align, *width));
            writeln!(out, "{}", cut(line.trim_end(), limit))
        };
        put(|column, _| column.head.header, 0)?;
        for row in 0..self.columns.first().map_or(0, |column| column.cells.len()) {
            put(|column, row| column.cells.get(row).map_or("", String::as_str), row)?;
        }
        let left_out = self.columns.iter().filter(|column| column.head.rank > highest);
        Ok(left_out.map(|column| column.head.header).collect())
    }

    /// The highest rank whose columns fit `limit` together with all of lower rank.
    fn highest_rank(&self, widths: &[usize], limit: usize) -> u8 {
        let fits = |rank: u8| {
            let kept = self.columns.iter().zip(widths).filter(|(column, _)| column.head.rank <= rank);
            kept.map(|(_, width)| width + GAP).sum::<usize>() <= limit.saturating_add(GAP)
        };
        self.columns.iter().map(|column| column.head.rank).filter(|rank| fits(*rank)).max().unwrap_or(0)
    }
}

fn pad(line: &mut String, text: &str, align: Align, columns: usize) {
    if !line.is_empty() {
        line.push_str(&" ".repeat(GAP));
    }
    let padding = " ".repeat(columns.saturating_sub(width(text)));
    match align {
        Align::Left => line.extend([text, &padding]),
        Align::Right => line.extend([&padding, text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let head = |header, align, rank| Head { header, align, rank };
        let mut grid =
            Grid::new([head("NAME", Align::Left, 0), head("A", Align::Right, 2), head("B", Align::Right, 1)]);
        grid.push(["日本\u{1b}".to_owned(), "1".to_owned(), "22".to_owned()]);
        grid.push(["x".to_owned()]);
        grid
    }

    fn text(columns: Option<usize>) -> (String, Vec<&'static str>) {
        let mut out = Vec::new();
        let left_out = grid().write(columns, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), left_out)
    }

    #[test]
    fn columns_are_aligned_and_cells_made_safe() {
        assert_eq!(text(None), ("NAME   A   B\n日本?  1  22\nx\n".to_owned(), vec![]));
    }

    #[test]
    fn the_columns_of_the_highest_rank_go_first_and_rank_zero_stays() {
        assert_eq!(text(Some(12)).1, Vec::<&str>::new());
        assert_eq!(text(Some(11)), ("NAME    B\n日本?  22\nx\n".to_owned(), vec!["A"]));
        assert_eq!(text(Some(8)), ("NAME\n日本?\nx\n".to_owned(), vec!["A", "B"]));
        assert_eq!(text(Some(3)).0, "NA…\n日…\nx\n");
    }
}
