//! A server of our own on loopback, with answers as Prometheus gives them.

mod fake;

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use fake::Fake;

use serde_json::json;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
};

use super::{
    answer::{Refused, vector},
    document::{FleetDocument, FleetRow, HostRow},
    queries::{Form, QUERIES, expression},
    rows::{Numbers, Table},
    *,
};
use crate::export::{METRICS, metric::Kind};

const HOSTILE: &str = "\u{1b}[2J\u{202e}evil";

/// An answer of the query API: labels and value of each series.
fn body(series: &[(&[(&str, &str)], &str)]) -> String {
    let series = series.iter().map(|(labels, value)| {
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({ "metric": labels, "value": [1_800_000_000.5, value] })
    });
    let result: Vec<_> = series.collect();
    json!({ "status": "success", "data": { "resultType": "vector", "result": result } }).to_string()
}

/// What a server of three hosts says: two nginx, one hostile name, one agent that groups by unit; NaN where nothing came.
fn said(query: &str) -> String {
    let web: [&[(&str, &str)]; 2] = [
        &[("instance", "web-1:10178"), ("job", "loopscope"), ("comm", "nginx"), ("mechanism", "epoll")],
        &[("instance", "web-2:10178"), ("job", "loopscope"), ("comm", "nginx"), ("mechanism", "epoll")],
    ];
    let evil: &[(&str, &str)] = &[("instance", HOSTILE), ("comm", HOSTILE), ("mechanism", "poll")];
    let unit: &[(&str, &str)] = &[("instance", "db"), ("unit", "redis.service"), ("mechanism", "epoll")];
    let rows = [web[0], web[1], evil, unit];
    let with = |labels: &[(&'static str, &'static str)], values: [&'static str; 4]| {
        let series = rows.iter().zip(values).filter(|(_, value)| !value.is_empty());
        let series: Vec<(Vec<(&str, &str)>, &str)> =
            series.map(|(row, value)| ([row, labels].concat(), value)).collect();
        let series: Vec<(&[(&str, &str)], &str)> =
            series.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
        body(&series)
    };
    let both = |a: String, b: String| {
        let mut a: serde_json::Value = serde_json::from_str(&a).unwrap();
        let mut b: serde_json::Value = serde_json::from_str(&b).unwrap();
        let more = b["data"]["result"].as_array_mut().unwrap().drain(..).collect::<Vec<_>>();
        a["data"]["result"].as_array_mut().unwrap().extend(more);
        a.to_string()
    };
    match query {
        q if q.contains("build_info") => body(&[
            (&[("instance", "web-1:10178"), ("version", "0.1.0")], "1"),
            (&[("instance", "web-2:10178"), ("version", "0.1.0")], "1"),
            (&[("instance", HOSTILE)], "1"),
            (&[("instance", "db")], if q.contains("last_over_time") { "1" } else { "NaN" }),
        ]),
        q if q.contains("lost_total") => body(&[(&[("instance", "db"), ("reason", "events")], "0.5")]),
        q if q.contains("waits_total") && !q.contains("saturated") => both(
            with(&[("result", "ready")], ["100", "50", "1", ""]),
            with(&[("result", "empty")], ["100", "0", "NaN", ""]),
        ),
        q if q.contains("events_total") => with(&[], ["300", "50", "1", ""]),
        q if q.contains("saturated") => with(&[], ["20", "0", "", ""]),
        q if q.contains("loop_time") => both(
            with(&[("state", "busy")], ["3", "0.25", "", ""]),
            with(&[("state", "wait")], ["1", "0.75", "", ""]),
        ),
        q if q.contains("quantile(0.99, rate(loopscope_busy") => with(&[], ["0.06", "0.001", "", "NaN"]),
        q if q.contains("quantile(0.99, rate(loopscope_wait") => with(&[], ["0.1", "0.2", "0.3", "+Inf"]),
        q if q.contains("quantile(0.99, rate(loopscope_backlog") => with(&[], ["7.4", "1", "", ""]),
        q if q.contains("loopscope_loops") => with(&[], ["4", "1", "0", "1"]),
        q if q.contains("loopscope_waiters") => with(&[], ["4", "2", "1", "1"]),
        q if q.contains("watched") => both(
            with(&[("trigger", "level")], ["10", "0", "", ""]),
            with(&[("trigger", "edge")], ["2", "5", "", ""]),
        ),
        _ => body(&[]),
    }
}

/// The answer that views get of it.
pub(crate) fn three_hosts() -> Answer {
    let url = Fake::start(|query, _| ("200 OK", said(query))).url();
    view(&url, None).unwrap().answer(&mut Numbers::default()).unwrap()
}

fn view(url: &str, file: Option<&std::path::Path>) -> Result<View, String> {
    let client = Client::with_patience(url.parse()?, file, Duration::from_millis(500))?;
    Ok(View { client, window: 60, comms: None })
}

/// What is said instead of an answer.
fn refusal(url: &str, file: Option<&std::path::Path>) -> String {
    match view(url, file).and_then(|view| view.answer(&mut Numbers::default())) {
        Ok(answer) => panic!("{answer:?}"),
        Err(why) => why,
    }
}

/// Files that go with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("loopscope-fleet-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn row<'a>(answer: &'a Answer, host: &str) -> &'a FleetRow {
    answer.document.loops.iter().find(|row| row.host == host).unwrap()
}

#[test]
fn what_is_asked_for_is_what_the_agent_exports() {
    for query in &QUERIES {
        let metric = METRICS.iter().find(|metric| metric.name == query.metric).unwrap();
        assert_eq!(metric.labels.first().copied().unwrap_or(""), query.label, "{}", query.metric);
        let kind = match query.form {
            Form::Now => Kind::Gauge,
            Form::Rate => Kind::Counter,
            Form::Quantile(_) => Kind::Histogram,
        };
        assert_eq!(metric.kind, kind, "{}", query.metric);
    }
    assert_eq!(expression("a_total", Form::Rate, 90), "rate(a_total[90s])");
}

#[test]
fn rows_are_the_groups_of_all_hosts_and_what_is_missing_is_unknown() {
    let answer = three_hosts();
    let document = &answer.document;
    assert_eq!((document.loops.len(), answer.rows.len(), document.hosts.len()), (4, 4, 4));
    let first = row(&answer, "web-1:10178");
    assert_eq!(first.comm.as_deref(), Some("nginx"));
    assert_eq!((first.waits_per_second, first.events_per_second), (Some(200.0), Some(300.0)));
    assert_eq!((first.events_per_wait, first.utilization), (Some(1.5), Some(0.75)));
    assert_eq!((first.saturated_share, first.empty_share), (Some(0.1), Some(0.5)));
    assert_eq!((first.loops, first.watched, first.edge), (Some(4), Some(12), Some(2)));
    assert_eq!((first.busy_seconds.p99, first.busy_seconds.p50), (Some(0.06), None));
    let silent = row(&answer, "db");
    assert_eq!(silent.unit.as_deref(), Some("redis.service"));
    assert_eq!((silent.waits_per_second, silent.utilization, silent.comm.as_deref()), (None, None, None));
    assert_eq!(
        (silent.wait_seconds.p99, silent.busy_seconds.p99),
        (None, None),
        "+Inf and NaN are no figures"
    );
    assert_eq!(silent.empty_share, None);
    assert!(document.notes.iter().any(|note| note == "not scraped now: db"), "{:?}", document.notes);
    assert_eq!(document.lost_per_second["events"], 0.5);
    assert_eq!(answer.at, UNIX_EPOCH + Duration::from_secs_f64(1_800_000_000.5));
    let shown = answer.rows.iter().find(|row| row.key.host == "web-1:10178").unwrap();
    assert_eq!((shown.row.waits, shown.members, shown.key.pid), (12_000, 4, 0));
    assert_eq!(shown.row.busy_seconds.unwrap().max, None, "largest values are not in the metrics");
}

#[test]
fn all_is_asked_as_of_one_time() {
    let fake = Fake::start(|query, _| ("200 OK", said(query)));
    view(&fake.url(), None).unwrap().answer(&mut Numbers::default()).unwrap();
    let heads = fake.heads.lock().unwrap();
    assert_eq!(heads.len(), QUERIES.len() + 3);
    assert!(!heads[0].contains("time=") && heads[0].starts_with("GET /api/v1/query?query="), "{}", heads[0]);
    assert!(heads[1..].iter().all(|head| head.contains("time=1800000000.500")), "{}", heads[1]);
}

#[test]
fn a_row_keeps_its_number_as_long_as_it_is_there() {
    let table = |hosts: &[&str]| {
        let mut table = Table::default();
        for host in hosts {
            let labels: [(&str, &str); 3] = [("instance", host), ("comm", "x"), ("mechanism", "epoll")];
            table.put(&QUERIES[0], vector(&body(&[(&labels, "1")])).unwrap());
        }
        table
    };
    let mut numbers = Numbers::default();
    let mut keys = |hosts: &[&str]| -> Vec<u64> {
        let answer = table(hosts).answer(FleetDocument::default(), &mut numbers, UNIX_EPOCH, |_| true);
        answer.rows.iter().map(|row| row.key.instance).collect()
    };
    assert_eq!(keys(&["b"]), [1]);
    assert_eq!(keys(&["a", "b"]), [2, 1]);
    assert_eq!(keys(&["a"]), [2]);
}

#[test]
fn a_groups_own_labels_are_told_from_those_of_the_scrape() {
    let of = |labels: &[(&str, &str)]| {
        let labels = [labels, &[("mechanism", "epoll")]].concat();
        let mut table = Table::default();
        table.put(&QUERIES[0], vector(&body(&[(&labels, "1")])).unwrap());
        let known = FleetDocument { hosts: vec![HostRow::default()], ..FleetDocument::default() };
        table.answer(known, &mut Numbers::default(), UNIX_EPOCH, |_| true).document.loops.remove(0)
    };
    let kubernetes = [("container", "loopscope"), ("namespace", "monitoring"), ("pod", "loopscope-x")];
    let comm = of(&[&kubernetes[..], &[("comm", "nginx")]].concat());
    assert_eq!((comm.comm.as_deref(), comm.container, comm.pod), (Some("nginx"), None, None));
    let pod = of(&[&kubernetes[..], &[("exported_pod", "web"), ("exported_namespace", "shop")]].concat());
    assert_eq!((pod.pod.as_deref(), pod.container), (Some("shop/web"), None));
    let container = of(&[("container", "c0ffee")]);
    assert_eq!(container.container.as_deref(), Some("c0ffee"));
    let thread = of(&[("pid", "7"), ("tid", "8"), ("comm", "node"), ("thread", "libuv")]);
    assert_eq!((thread.pid, thread.tid, thread.thread.as_deref()), (Some(7), Some(8), Some("libuv")));
    let strange = of(&[("pid", "-1"), ("tid", "99999999999"), ("comm", "")]);
    assert_eq!((strange.pid, strange.tid, strange.comm), (None, None, None));
}

#[test]
fn a_mechanism_that_nobody_knows_is_said_and_left_out() {
    let mut table = Table::default();
    let labels: [(&str, &str); 3] = [("instance", "a"), ("comm", "x"), ("mechanism", "kqueue")];
    table.put(&QUERIES[0], vector(&body(&[(&labels, "1")])).unwrap());
    let answer = table.answer(FleetDocument::default(), &mut Numbers::default(), UNIX_EPOCH, |_| true);
    assert!(answer.rows.is_empty() && answer.document.notes[0].contains("kqueue"), "{answer:?}");
}

#[test]
fn answers_are_believed_in_nothing() {
    for text in ["", "[]", "{}", "null", "<html>", r#"{"status":"success"}"#, r#"{"status":"error"}"#] {
        assert_eq!(vector(text), Err(Refused::NotPrometheus), "{text}");
    }
    for kind in ["matrix", "scalar", "string"] {
        let text = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[]}}}}"#);
        assert_eq!(vector(&text), Err(Refused::NotPrometheus), "{kind}");
    }
    let long = "\u{e9}".repeat(2_000);
    let text =
        body(&[(&[("comm", &long), ("__name__", "x")], "1e3"), (&[], "NaN"), (&[], "x"), (&[], "-Inf")]);
    let series = vector(&text).unwrap();
    assert_eq!((series.len(), series[0].value, series[0].labels["comm"].len()), (1, 1_000.0, 512));
    let histogram =
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}}"#;
    assert_eq!(vector(histogram), Ok(Vec::new()));
    let said = r#"{"status":"error","errorType":"bad_data","error":"parse \u001b[2J\nerror"}"#;
    assert_eq!(vector(said), Err(Refused::Said("parse ?[2J error".to_owned())));
}

#[test]
fn whatever_keeps_a_server_from_answering_is_one_line_that_names_it() {
    let cases: [(&'static str, &'static str, &str); 9] = [
        ("401 Unauthorized", "", "--http.config.file"),
        ("403 Forbidden", "", "(403)"),
        ("302 Found\r\nLocation: https://login.example/?a=b", "", "leads on to https://login.example/"),
        ("404 Not Found", "404 page not found", "no Prometheus"),
        ("200 OK", "<html>Grafana\u{1b}[2J", "no Prometheus"),
        ("503 Service Unavailable", "TSDB\u{1b}[31m not\nready", "answers 503: TSDB?[31m not ready"),
        ("502 Bad Gateway", "", "answers 502: nothing"),
        (
            "422 Unprocessable Entity",
            r#"{"status":"error","errorType":"execution","error":"too many samples"}"#,
            "Prometheus refuses: too many samples",
        ),
        (
            "200 OK",
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            "no metrics of loopscope",
        ),
    ];
    for (status, body, expected) in cases {
        let fake = Fake::start(move |_, _| (status, body.to_owned()));
        let why = refusal(&fake.url(), None);
        assert!(why.starts_with(&format!("{}: ", fake.url())) && why.contains(expected), "{status}: {why}");
        assert!(!why.contains(char::is_control), "{why:?}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let why = refusal(&format!("http://{closed}"), None);
    assert!(why.contains("nobody listens there"), "{why}");
    let why = refusal("http://nowhere.invalid:9090", None);
    assert!(why.starts_with("http://nowhere.invalid:9090: "), "{why}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let why = refusal(&format!("http://{}", silent.local_addr().unwrap()), None);
    assert!(why.contains("no answer within 0.5 s"), "{why}");
    let endless = Fake::start(|_, _| ("200 OK", " ".repeat((32 << 20) + 1)));
    let client = Client::new(endless.url().parse().unwrap(), None).unwrap();
    let why = client.instant("x", None).unwrap_err();
    assert!(why.contains("longer than 32 MB"), "{why}");
    let plain = Fake::start(|_, _| ("200 OK", String::new()));
    let why = refusal(&plain.url().replace("http:", "https:"), None);
    assert!(why.contains("try http://"), "{why}");
}

#[test]
fn a_url_is_a_scheme_and_a_host() {
    for text in
        ["", "prometheus", "prometheus:9090", "ftp://a", "http://", "http://a?b=c", "http://a b", "/x"]
    {
        assert!(text.parse::<Url>().is_err(), "{text}");
    }
    let url = |text: &str| text.parse::<Url>().unwrap().to_string();
    assert_eq!(url("http://a:9090/"), "http://a:9090");
    assert_eq!(url("https://a/prometheus/"), "https://a/prometheus");
    assert_eq!(url("http://[::1]:9090"), "http://[::1]:9090");
    let why = Client::new("http://me:sesame@a".parse().unwrap(), None).err().unwrap();
    assert!(why.contains("--http.config.file") && !why.contains("sesame"), "{why}");
}

#[test]
fn secrets_are_sent_and_never_shown() {
    let folder = Folder::new("auth");
    folder.file("password", "open sesame\n");
    let config = |text: &str| folder.file("http.yml", text);
    for (text, expected) in [
        ("basic_auth: {username: ann, password_file: password}", "Basic YW5uOm9wZW4gc2VzYW1l"),
        ("basic_auth: {username: ann, password: open sesame}", "Basic YW5uOm9wZW4gc2VzYW1l"),
        ("authorization: {credentials_file: password}", "Bearer open sesame"),
    ] {
        let fake = Fake::start(move |query, head| {
            if head.to_lowercase().contains(&format!("authorization: {}\r\n", expected.to_lowercase())) {
                ("200 OK", said(query))
            } else {
                ("401 Unauthorized", String::new())
            }
        });
        let asked = view(&fake.url(), Some(&config(text))).unwrap().answer(&mut Numbers::default());
        assert_eq!(asked.unwrap().rows.len(), 4, "{text}");
        let why = refusal(&fake.url(), None);
        assert!(why.contains("(401)"), "{why}");
    }
    for (text, expected) in [
        ("basic_auth: {username: ann}", "password_file"),
        ("basic_auth: {username: 'a:b', password: sesame}", "colon"),
        ("basic_auth: {username: a, password: sesame, password_file: password}", "one of them"),
        ("basic_auth: {username: a, password_file: none}", "none"),
        ("basic_auth: {username: a, password: sesame}\nauthorization: {credentials: sesame}", "not both"),
        ("authorization: {credentials: \"ses\\name\"}", "control"),
        ("tls_config: {insecure_skip_verify: true}", "insecure_skip_verify"),
        ("tls_config: {cert_file: a}", "go together"),
        ("tls_config: {ca_file: none.pem}", "none.pem"),
        ("tls_config: {ca_file: password}", "no certificate"),
    ] {
        let why = refusal("http://127.0.0.1:9", Some(&config(text)));
        assert!(why.starts_with("--http.config.file ") && why.contains(expected), "{text}: {why}");
        assert!(!why.contains("sesame") && !why.contains('\n'), "{why}");
    }
}

#[test]
fn an_authority_can_be_named_and_others_are_refused() {
    let folder = Folder::new("tls");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let authority = folder.file("ca.pem", &made.cert.pem());
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let fake = Fake::with(Some(Arc::new(tls)), Box::new(|query, _| ("200 OK", said(query))));
    let url = format!("https://localhost:{}", fake.port);
    let config = folder.file("http.yml", &format!("tls_config: {{ca_file: {}}}", authority.display()));
    assert_eq!(view(&url, Some(&config)).unwrap().answer(&mut Numbers::default()).unwrap().rows.len(), 4);
    let why = refusal(&url, None);
    assert!(why.contains("ca_file in --http.config.file"), "{why}");
    let why = refusal(&url.replace("https", "http"), None);
    assert!(why.starts_with("http://localhost"), "{why}");
}
