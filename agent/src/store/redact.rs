//! `--redact`: names and paths become tokens, the same for the same text within one recording, and of no use to find
//! the text again: they are keyed with a secret that is thrown away.

use std::{
    hash::{BuildHasher, RandomState},
    mem::offset_of,
};

use loopscope_probe::Head;
use serde_json::Value;

/// The secret of a recording.
#[derive(Default)]
pub struct Tokens {
    secret: RandomState,
}

/// Ends of names that say what kind of thing it is, and are kept.
const KINDS: [&str; 5] = [".service", ".scope", ".slice", ".socket", ".mount"];

impl Tokens {
    /// The token of a text; nothing stays nothing.
    pub fn token(&self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let kind = KINDS.iter().find(|kind| text.ends_with(**kind)).copied().unwrap_or_default();
        format!("x{:08x}{kind}", self.secret.hash_one(text) as u32)
    }

    /// A path with a token for each of its parts; what is no path is one part.
    pub fn path(&self, path: &str) -> String {
        path.split('/').map(|part| self.token(part)).collect::<Vec<_>>().join("/")
    }

    /// Every text in a JSON value, as paths.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.path(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.json(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The names in the head of a record, in place.
    pub fn record(&self, bytes: &mut [u8]) {
        for at in [offset_of!(Head, comm), offset_of!(Head, thread)] {
            let Some(Ok(name)) = bytes.get_mut(at..at + 16).map(<&mut [u8; 16]>::try_from) else { continue };
            let token = self.token(&crate::decode::name(name));
            *name = [0; 16];
            // One byte stays for the NUL at the end.
            for (to, from) in name.iter_mut().take(15).zip(token.bytes()) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_stable_within_a_recording_and_another_one_in_the_next() {
        let (one, other) = (Tokens::default(), Tokens::default());
        assert_eq!(one.token("nginx"), one.token("nginx"));
        assert_ne!(one.token("nginx"), one.token("redis"));
        assert_ne!(one.token("nginx"), other.token("nginx"));
        let path = one.path("/system.slice/shop.service");
        assert!(path.starts_with("/x") && path.ends_with(".service") && !path.contains("shop"), "{path}");
        assert_eq!(one.path("/"), "/");
    }

    #[test]
    fn nothing_of_a_name_is_left_in_a_record() {
        let mut bytes = vec![0; size_of::<Head>()];
        let at = offset_of!(Head, comm);
        bytes[at..at + 16].copy_from_slice(b"secret-server-15");
        Tokens::default().record(&mut bytes);
        let head = Head::read(&bytes).unwrap();
        assert!(crate::decode::name(&head.comm).starts_with('x'));
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(crate::decode::name(&head.thread), "");
    }
}
