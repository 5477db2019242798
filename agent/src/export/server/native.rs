//! Which clients get native histograms: those that would rather have protobuf than text.

use hyper::{HeaderMap, header::ACCEPT};

use super::pages::Form;
use crate::export::{Subject, native::CONTENT_TYPE};

/// Protobuf, with native histograms.
pub const FORM: Form = Form { subject: Subject::Native, kind: CONTENT_TYPE };

/// Whether a client names protobuf's families with at least the weight that it gives text (RFC 9110, 12.5.1).
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let (mut protobuf, mut text) = (0.0_f32, 0.0_f32);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let parts: Vec<&str> = range.split(';').map(str::trim).collect();
        let has = |wanted: &str| parts.iter().any(|part| part.eq_ignore_ascii_case(wanted));
        let weight = parts.iter().find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if has("application/vnd.google.protobuf")
            && has("proto=io.prometheus.client.MetricFamily")
            && has("encoding=delimited")
        {
            protobuf = protobuf.max(weight);
        } else if has("text/plain") {
            text = text.max(weight);
        }
    }
    protobuf > 0.0 && protobuf >= text
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn protobuf_is_for_those_who_prefer_it() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let wanted = |accept: &str| {
            is_wanted(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]))
        };
        // As Prometheus 2.42 asks with its flag, and without.
        assert!(wanted(&format!(
            "{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )));
        assert!(!wanted(
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ));
        assert!(!wanted(&format!("text/plain, {protobuf};q=0.3")));
        assert!(!wanted("application/vnd.google.protobuf") && !wanted("*/*") && !wanted(""));
        assert!(!wanted(&format!("{protobuf};q=0")));
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
