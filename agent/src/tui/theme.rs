//! Colours and attributes by meaning. The terminal's own foreground and background stay, so that light and dark both
//! work; nothing is said by colour alone.

use ratatui::style::{Color, Modifier, Style};

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours beside attributes.
    pub color: bool,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary.
    Plain,
    /// A heading.
    Title,
    /// The heads of the columns.
    Head,
    /// The row under the cursor.
    Cursor,
    /// A row that ended, or a hint.
    Faint,
    /// A loop that is busy nearly always, or something was lost.
    Alarm,
    /// A loop that is busy most of the time.
    Warm,
    /// A key's name, a figure's name.
    Name,
}

impl Theme {
    /// By the environment: NO_COLOR (no-color.org) that is not empty turns colours off, as does a terminal without.
    pub fn from_environment(no_color: Option<&str>, term: Option<&str>) -> Theme {
        Theme { color: no_color.is_none_or(str::is_empty) && term != Some("dumb") }
    }

    /// The style of a tone.
    pub fn style(self, tone: Tone) -> Style {
        let (attribute, color) = match tone {
            Tone::Plain => (Modifier::empty(), None),
            Tone::Title => (Modifier::BOLD, None),
            Tone::Head => (Modifier::BOLD.union(Modifier::UNDERLINED), None),
            Tone::Cursor => (Modifier::REVERSED, None),
            Tone::Faint => (Modifier::DIM, None),
            Tone::Alarm => (Modifier::BOLD, Some(Color::Red)),
            Tone::Warm => (Modifier::empty(), Some(Color::Magenta)),
            Tone::Name => (Modifier::empty(), Some(Color::Cyan)),
        };
        let style = Style::new().add_modifier(attribute);
        match color.filter(|_| self.color) {
            Some(color) => style.fg(color),
            None => style,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_leaves_attributes() {
        let plain = Theme::from_environment(Some("1"), Some("xterm"));
        assert_eq!(plain.style(Tone::Alarm), Style::new().add_modifier(Modifier::BOLD));
        assert!(Theme::from_environment(Some(""), None).color);
        assert!(!Theme::from_environment(None, Some("dumb")).color);
        assert_eq!(Theme { color: true }.style(Tone::Alarm).fg, Some(Color::Red));
    }
}
