//! gzip for clients that ask for it (Prometheus does). Scrapes that share a text share its compressed form.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
};

use flate2::{Compression, write::GzEncoder};
use hyper::{
    HeaderMap,
    body::Bytes,
    header::{ACCEPT_ENCODING, HeaderValue},
};

/// Bytes from which on it is worth while.
const LEAST: usize = 1_024;

/// Compresses, and remembers the last text.
#[derive(Default)]
pub struct Gzip(Mutex<Option<(Bytes, Bytes)>>);

impl Gzip {
    /// The compressed text; None where the client did not ask for it, or the text is short.
    pub fn compress(&self, headers: &HeaderMap, text: &Bytes) -> Option<Bytes> {
        if text.len() < LEAST || !headers.get_all(ACCEPT_ENCODING).iter().any(wants) {
            return None;
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The same memory, which is kept as long as it is compared with.
        if let Some((known, compressed)) = &*last
            && (known.as_ptr(), known.len()) == (text.as_ptr(), text.len())
        {
            return Some(compressed.clone());
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
        encoder.write_all(text).ok()?;
        let compressed = Bytes::from(encoder.finish().ok()?);
        *last = Some((text.clone(), compressed.clone()));
        Some(compressed)
    }
}

/// Whether an Accept-Encoding header has gzip, or anything, with another weight than 0 (RFC 9110, 12.5.3).
fn wants(header: &HeaderValue) -> bool {
    header.to_str().unwrap_or_default().split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let is_zero = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        is_gzip && !parts.any(is_zero)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn asking(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_who_asks_gets_it() {
        for value in ["gzip", "deflate, GZIP;q=0.5", "*", "gzip, deflate, br, zstd", "gzip;q=0.001"] {
            assert!(wants(&HeaderValue::from_static(value)), "{value}");
        }
        for value in ["", "identity", "gzip;q=0", "gzip; q=0.000", "x-gzip", "gzipped", "*;q=0"] {
            assert!(!wants(&HeaderValue::from_static(value)), "{value}");
        }
    }

    #[test]
    fn what_is_unpacked_is_the_text_and_the_same_text_is_packed_once() {
        let gzip = Gzip::default();
        let text = Bytes::from("loopscope_loops{comm=\"a\"} 1\n".repeat(100));
        let packed = gzip.compress(&asking("gzip"), &text).unwrap();
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == text && packed.len() < text.len() / 10);
        assert_eq!(gzip.compress(&asking("gzip"), &text.clone()).unwrap().as_ptr(), packed.as_ptr());
        assert_eq!(gzip.compress(&asking("gzip"), &Bytes::from(text.to_vec())), Some(packed));
        assert_eq!(gzip.compress(&HeaderMap::new(), &text), None);
        assert_eq!(gzip.compress(&asking("gzip"), &Bytes::from("short")), None);
    }
}
