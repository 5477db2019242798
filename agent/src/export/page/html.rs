//! The page as HTML: the whole table, so that it needs no script. Whatever is put in is escaped here.

use super::view::{COLUMNS, Cell, Row, SORTED, View};

/// The style sheet, served beside the page: the page's policy forbids styles within it.
pub const CSS: &str = include_str!("page.css");
/// The script, likewise.
pub const SCRIPT: &str = include_str!("page.js");

const TEMPLATE: &str = include_str!("page.html");

/// The page of a view.
pub fn page(view: &View) -> String {
    fill(|part, page| match part {
        "host" => escape(&view.host, page),
        "status" => escape(&view.status, page),
        "summary" => view.summary.iter().for_each(|entry| {
            page.push_str("<div><dt>");
            escape(entry.name, page);
            page.push_str("</dt><dd>");
            escape(&entry.text, page);
            page.push_str("</dd></div>");
        }),
        "rows" => view.rows.iter().for_each(|one| row(one, page)),
        "more" => escape(&view.more, page),
        _ => {}
    })
}

/// The page without a table, and why.
pub fn empty(why: &str) -> String {
    fill(|part, page| match part {
        "host" => page.push_str("this host"),
        "status" => escape(why, page),
        _ => {}
    })
}

/// The template with its parts filled in. What was filled in is not looked at again.
fn fill(part: impl Fn(&str, &mut String)) -> String {
    let mut page = String::with_capacity(TEMPLATE.len());
    for (i, piece) in TEMPLATE.split("{{").enumerate() {
        match piece.split_once("}}") {
            Some((name, rest)) if i > 0 => {
                match name {
                    "version" => page.push_str(env!("CARGO_PKG_VERSION")),
                    "heads" => heads(&mut page),
                    name => part(name, &mut page),
                }
                page.push_str(rest);
            }
            _ => page.push_str(piece),
        }
    }
    page
}

fn heads(page: &mut String) {
    for (i, column) in COLUMNS.iter().enumerate() {
        let sorted = if i == SORTED { " aria-sort=\"descending\"" } else { "" };
        let class = if column.is_text { " class=\"left\" data-first=\"rising\"" } else { "" };
        page.push_str(&format!("<th scope=\"col\"{class}{sorted}>{}</th>", column.head));
    }
}

fn row(row: &Row, page: &mut String) {
    page.push_str("<tr>");
    for (value, column) in row.cells.iter().zip(&COLUMNS) {
        page.push_str(if column.is_text { "<td class=\"left\">" } else { "<td>" });
        cell(value, page);
        page.push_str("</td>");
    }
    page.push_str("</tr>\n");
}

fn cell(cell: &Cell, page: &mut String) {
    let Some(levels) = &cell.strip else {
        escape(&cell.text, page);
        if let Some(share) = cell.bar {
            page.push_str(&format!(
                "<progress max=\"1\" value=\"{share:.3}\" aria-hidden=\"true\"></progress>"
            ));
        }
        return;
    };
    page.push_str("<span class=\"strip\" role=\"img\" aria-label=\"");
    escape(&cell.text, page);
    page.push_str("\">");
    for level in levels {
        page.push_str(&format!("<i class=\"h{level}\"></i>"));
    }
    page.push_str("</span>");
}

/// Adds a text, in an element or in an attribute between double quotes.
fn escape(text: &str, page: &mut String) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
}
