//! Text that others chose (names of processes, paths, messages) made safe for a terminal, and text made to
//! fit a number of columns.
//!
//! Everything that the human views print goes through here. Nothing here knows what the text is about.

use unicode_width::UnicodeWidthChar;

/// What stands for a character that is not shown.
const HIDDEN: char = '?';
const CUT: char = '…';

/// `text` with every character that could move the cursor, recolour, reorder or hide what a terminal shows
/// replaced by `?`: control characters, line separators, characters that reverse the direction and all that
/// take no room.
pub fn sanitize(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c } else { HIDDEN }).collect()
}

fn is_shown(c: char) -> bool {
    // Separators, direction marks and the blank Hangul fillers are named because terminals and tables of
    // widths disagree on whether they take room.
    let moves = matches!(c,
        '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{00ad}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    !moves && c.width().is_some_and(|width| width > 0)
}

/// `text` on one line: runs of white space become one space, then as [`sanitize`].
pub fn one_line(text: &str) -> String {
    sanitize(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Terminal columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `text` in at most `columns` columns; what is cut off is marked by `…`.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let mut used = 0;
    let mut short: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= room
        })
        .collect();
    short.push(CUT);
    short
}

/// `lead` and `text`, broken between words into lines of at most `columns`; what follows the first line is
/// indented to the end of `lead`. A word that is longer than a line is cut. None: one line.
pub fn wrap(lead: &str, text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else { return vec![format!("{lead}{text}")] };
    let indent = " ".repeat(width(lead));
    let mut lines = Vec::new();
    let mut line = lead.to_owned();
    let mut is_fresh = true;
    for word in text.split_whitespace() {
        if !is_fresh && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    lines.push(line);
    lines.iter().map(|line| cut(line, columns)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        let hostile = [
            '\u{0}',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200e}',
            '\u{202e}',
            '\u{2066}',
            '\u{2028}',
            '\u{feff}',
            '\u{fe0f}',
            '\u{301}',
            '\u{e0041}',
            '\u{61c}',
            '\u{115f}',
        ];
        for c in hostile {
            assert_eq!(sanitize(&format!("a{c}b")), "a?b", "{:04x}", u32::from(c));
        }
        assert_eq!(sanitize("nginx: wörker 日本 \u{fffd}"), "nginx: wörker 日本 \u{fffd}");
    }

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        assert_eq!(
            one_line("  load failed:\n\t0: R1 invalid\r\n 1: \u{1b}[31mno "),
            "load failed: 0: R1 invalid 1: ?[31mno"
        );
    }

    #[test]
    fn wide_characters_count_twice_and_are_never_halved() {
        assert_eq!(width("日本"), 4);
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn lines_break_between_words_and_never_exceed_the_width() {
        assert_eq!(wrap("- ", "one two three", Some(9)), ["- one two", "  three"]);
        assert_eq!(wrap("- ", "one two three", None), ["- one two three"]);
        assert_eq!(wrap("- ", "", Some(9)), ["- "]);
        for columns in 0..40 {
            for line in wrap("    ", "a wonderfully incomprehensible line", Some(columns)) {
                assert!(width(&line) <= columns, "{line}");
            }
        }
    }
}
