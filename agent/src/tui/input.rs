//! Bytes of a terminal to keys. Pure: knows no descriptor and no clock; whoever reads says when nothing more came.
//!
//! Sequences that are not known give no key, and never one for each of their bytes.

/// A key, as far as top tells keys apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A printable character.
    Char(char),
    /// A letter with Ctrl.
    Ctrl(char),
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Backspace.
    Backspace,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// The mouse wheel, away from the reader.
    WheelUp,
    /// The mouse wheel, towards the reader.
    WheelDown,
    /// The left button of the mouse was pressed: column and row, from 0.
    Click(u16, u16),
}

/// What follows ESC [ or ESC O, and the key that it is (xterm's control sequences; ~ forms are those of VT220).
const SEQUENCES: [(&str, Key); 14] = [
    ("A", Key::Up),
    ("B", Key::Down),
    ("C", Key::Right),
    ("D", Key::Left),
    ("H", Key::Home),
    ("F", Key::End),
    ("1~", Key::Home),
    ("7~", Key::Home),
    ("4~", Key::End),
    ("8~", Key::End),
    ("5~", Key::PageUp),
    ("6~", Key::PageDown),
    ("M", Key::Enter),
    ("3~", Key::Backspace),
];

/// The most bytes that a sequence may have; one that is longer is none.
const LONGEST: usize = 32;

/// Bytes that are not a whole key yet.
#[derive(Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

/// What the front of the pending bytes is.
enum Front {
    /// A key, or none, of that many bytes.
    Whole(Option<Key>, usize),
    /// More has to come.
    Part,
}

impl Decoder {
    /// Takes bytes in, and gives the keys that are whole.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while !self.pending.is_empty() {
            match front(&self.pending) {
                Front::Whole(key, used) => {
                    keys.extend(key);
                    self.pending.drain(..used.clamp(1, self.pending.len()));
                }
                Front::Part if self.pending.len() > LONGEST => self.pending.clear(),
                Front::Part => break,
            }
        }
        keys
    }

    /// Whether something waits for more bytes.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing more came: an ESC alone is the key of that name, all else was nothing.
    pub fn flush(&mut self) -> Option<Key> {
        let pending = std::mem::take(&mut self.pending);
        (pending.first() == Some(&0x1b) && pending.len() == 1).then_some(Key::Esc)
    }
}

fn front(bytes: &[u8]) -> Front {
    let Some((first, rest)) = bytes.split_first() else { return Front::Part };
    let key = match *first {
        0x1b => return escape(rest),
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        control @ 1..=26 => Key::Ctrl(char::from(control - 1 + b'a')),
        0 | 28..=31 => return Front::Whole(None, 1),
        _ => return character(bytes),
    };
    Front::Whole(Some(key), 1)
}

/// What follows an ESC.
fn escape(rest: &[u8]) -> Front {
    match rest.first() {
        None => Front::Part,
        Some(b'[' | b'O') => {
            let body = rest.get(1..).unwrap_or_default();
            // Parameters and intermediates, then one final byte (ECMA-48 5.4).
            let Some(end) = body.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                return Front::Part;
            };
            let sequence = body.get(..=end).unwrap_or_default();
            Front::Whole(named(sequence), end + 3)
        }
        // ESC twice, or with a letter (Alt): the first was the key.
        Some(_) => Front::Whole(Some(Key::Esc), 1),
    }
}

/// The key of a sequence, whatever modifiers it carries.
fn named(sequence: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(sequence).ok()?;
    let (parameters, end) = text.split_at(text.len().checked_sub(1)?);
    if let Some(report) = parameters.strip_prefix('<') {
        // A button that is let go ends with m, and is no key.
        return if end == "M" { mouse(report) } else { None };
    }
    let first = parameters.split(';').next().unwrap_or_default();
    let plain = if end == "~" { format!("{first}~") } else { end.to_owned() };
    SEQUENCES.iter().find(|(name, _)| *name == plain).map(|(_, key)| *key)
}

/// A report of the mouse (xterm's SGR mode, 1006): button and modifiers, column and row from 1.
fn mouse(report: &str) -> Option<Key> {
    /// Shift, Alt and Ctrl.
    const MODIFIERS: u16 = 4 | 8 | 16;
    let mut numbers = report.split(';').map(|number| number.parse::<u16>().ok());
    let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
    match button & !MODIFIERS {
        0 => Some(Key::Click(x.checked_sub(1)?, y.checked_sub(1)?)),
        64 => Some(Key::WheelUp),
        65 => Some(Key::WheelDown),
        _ => None,
    }
}

fn character(bytes: &[u8]) -> Front {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    let Some(whole) = bytes.get(..length) else { return Front::Part };
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) => Front::Whole((!c.is_control()).then_some(Key::Char(c)), length),
        None => Front::Whole(None, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_controls_and_sequences_are_told_apart() {
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.feed(b"j\x03\r\x1b[A\x1bOB\x1b[5~\x1b[1;5C\x7f"),
            [
                Key::Char('j'),
                Key::Ctrl('c'),
                Key::Enter,
                Key::Up,
                Key::Down,
                Key::PageUp,
                Key::Right,
                Key::Backspace
            ]
        );
        assert_eq!(decoder.feed("ü日".as_bytes()), [Key::Char('ü'), Key::Char('日')]);
        assert!(!decoder.is_waiting());
    }

    #[test]
    fn a_sequence_in_pieces_is_one_key_and_escape_alone_is_one_when_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert_eq!(decoder.feed(b"["), []);
        assert_eq!(decoder.feed(b"6~x"), [Key::PageDown, Key::Char('x')]);
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert_eq!((decoder.is_waiting(), decoder.flush(), decoder.flush()), (true, Some(Key::Esc), None));
        assert_eq!(decoder.feed(b"\x1b\x1b[B"), [Key::Esc, Key::Down]);
    }

    #[test]
    fn the_mouse_clicks_and_turns_its_wheel() {
        let mut decoder = Decoder::default();
        let bytes = b"\x1b[<0;12;5M\x1b[<0;12;5m\x1b[<64;1;1M\x1b[<65;1;1M\x1b[<16;1;1M\x1b[<35;3;3Mq";
        assert_eq!(
            decoder.feed(bytes),
            [Key::Click(11, 4), Key::WheelUp, Key::WheelDown, Key::Click(0, 0), Key::Char('q')]
        );
        assert_eq!(decoder.feed(b"\x1b[<0;0;0M\x1b[<99999999;1;1M\x1b[<0;1M\x1b[<M"), []);
    }

    #[test]
    fn an_unknown_sequence_is_no_key_at_all() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b[?1;2c\x1b[200~q"), [Key::Char('q')]);
        assert_eq!(decoder.feed(&[0xff, b'q']), [Key::Char('q')]);
        assert_eq!(decoder.feed(&[b'\x1b'; 1]), []);
        assert_eq!(decoder.feed(&[&b"["[..], &[b'1'; 64]].concat()), []);
        assert!(!decoder.is_waiting());
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_leave_little(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut decoder = Decoder::default();
            for piece in bytes.chunks(7) {
                prop_assert!(decoder.feed(piece).len() <= 7 + LONGEST);
            }
            prop_assert!(decoder.pending.len() <= LONGEST);
        }
    }
}
