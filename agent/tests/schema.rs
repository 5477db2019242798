//! The JSON documents against docs/schema, and the CSV against the JSON: what scripts depend on.
#![expect(clippy::unwrap_used, reason = "a test reports by its panic, in its helpers too")]

#[path = "common/schema.rs"]
mod published;

use std::collections::BTreeMap;

use jsonschema::Validator;
use loopscope::report::check::{Fact, ProbeCheck, ProgramCheck, Tried};
use loopscope::report::compare::{Side, compare};
use loopscope::report::document::{
    Backlog, CopiedBytes, Ctl, CtlFlags, Distribution, Holder, InstanceRow, ListenerRow, LoopRow, Lost,
    Mechanism, ProbeRow, Results, SCHEMA, State, Time, Timeouts, Watched,
};
use loopscope::report::{self, CheckDocument, Format, Report, csv};
use published::schema;
use serde_json::{Value, json};

fn written(report: &Report, format: Format) -> String {
    let mut out = Vec::new();
    report::write(report, format, None, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn json_of(report: &Report) -> Value {
    serde_json::from_str(&written(report, Format::Json)).unwrap()
}

fn check_json_of(check: &CheckDocument) -> Value {
    let mut out = Vec::new();
    report::write_check(check, Format::Json, None, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn empty() -> Report {
    Report { schema: SCHEMA, started_at: "2026-03-01T12:00:00.123456789Z".to_owned(), ..Report::default() }
}

fn seconds() -> Distribution<f64> {
    Distribution { count: 3, sum: 1e-7, p50: Some(0.001), p90: Some(0.002), p99: Some(1e-9), max: Some(1.0) }
}

fn counts() -> Distribution<u64> {
    Distribution { count: 2, sum: 9, p50: Some(4), p90: Some(5), p99: Some(5), max: Some(u64::MAX) }
}

/// Everything that can be present is.
fn populated_loop() -> LoopRow {
    let some = |text: &str| Some(text.to_owned());
    LoopRow {
        pid: 812,
        tid: 813,
        comm: "redis,\"server\"\n".to_owned(),
        thread: "bio\u{1b}".to_owned(),
        exe: some("/usr/bin/redis-server"),
        cgroup: some("/system.slice/redis.service"),
        unit: some("redis.service"),
        container: some("c0ffee"),
        pod: some("11111111-2222"),
        mechanism: Mechanism::IoUring,
        is_loop: true,
        ended: false,
        epfd: Some(-1),
        instance: Some(17),
        waits: 1000,
        events: 900,
        results: Results { ready: 800, timeout: 150, empty: 40, interrupted: 9, error: 1 },
        timeouts: Timeouts { infinite: 500, zero: 100, finite: 400, unknown: 0 },
        saturated: 3,
        maxevents: Some(512),
        wait_seconds: seconds(),
        busy_seconds: Some(seconds()),
        events_per_wait: counts(),
        backlog: Some(Backlog {
            count: 1,
            sum: 2,
            truncated: 1,
            p50: Some(2),
            p90: Some(2),
            p99: Some(2),
            max: Some(2),
        }),
        requeued: Some(counts()),
        overrun_seconds: Some(seconds()),
        time: Time { wait: 9.2, busy: Some(0.8), other_wait: Some(0.0) },
        state: State::Wait,
        state_seconds: Some(0.3),
        utilization: Some(0.08),
        nfds: Some(counts()),
        highest_fd: Some(37),
        copied_bytes: CopiedBytes { r#in: 0, out: 10_800 },
        min_complete: Some(1),
        submissions: Some(9),
        cq_overflows: Some(0),
        ns_pid: Some(7),
    }
}

fn populated() -> Report {
    let instance = InstanceRow {
        instance: 17,
        holders: vec![Holder { pid: 1, fd: 5 }],
        waiters: 1,
        depth: Some(0),
        watched: Some(Watched { total: 12, level: 10, edge: 2, ..Watched::default() }),
        ctl: Ctl {
            add: 3,
            r#mod: 0,
            del: 2,
            errors: BTreeMap::from([("EEXIST".to_owned(), 1), ("other".to_owned(), 2)]),
            flags: CtlFlags { edge: 1, ..CtlFlags::default() },
        },
        listeners: Some(vec![ListenerRow {
            listener: "unix:/run/a\n".to_owned(),
            fd: 6,
            exclusive: true,
            loops: 2,
            waits_share: Some(0.5),
            events_share: Some(1.0),
        }]),
    };
    Report {
        duration_seconds: 10.002,
        probes: vec![ProbeRow {
            name: "epoll_wait".to_owned(),
            backend: "tracepoint".to_owned(),
            runs: 123,
            run_seconds: Some(0.25),
        }],
        lost: Lost { missed: 2, ..Lost::default() },
        notes: vec!["nothing".to_owned()],
        loops: vec![populated_loop()],
        instances: vec![instance],
        ..empty()
    }
}

fn check() -> CheckDocument {
    CheckDocument {
        schema: SCHEMA,
        main_job: true,
        facts: vec![Fact { name: "lockdown".to_owned(), value: "none".to_owned(), ok: true }],
        probes: vec![ProbeCheck {
            name: "epoll_wait".to_owned(),
            backend: Some("tracepoint".to_owned()),
            ok: true,
            tried: vec![Tried { backend: "fentry".to_owned(), error: "preemptible kernel".to_owned() }],
            lost_without: "waits".to_owned(),
        }],
        limits: vec!["waits of 32-bit processes".to_owned()],
        programs: vec![ProgramCheck { name: "enter_epoll".to_owned(), verified_instructions: Some(900) }],
        ..CheckDocument::default()
    }
}

/// Every copy of `value` in which one field, at whatever depth, is missing (`None`) or replaced.
fn damaged(value: &Value, replacement: Option<&Value>) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), field)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let pointer = format!("/{name}");
        if let Some(fields) = value.as_object() {
            let mut fields = fields.clone();
            match replacement {
                Some(replacement) => fields.insert(name.clone(), replacement.clone()),
                None => fields.shift_remove(&name),
            };
            all.push((pointer.clone(), Value::Object(fields)));
        }
        for (below, broken) in damaged(child, replacement) {
            let mut copy = value.clone();
            *copy.pointer_mut(&pointer).unwrap() = broken;
            all.push((format!("{pointer}{below}"), copy));
        }
    }
    all
}

#[track_caller]
fn assert_valid(schema: &Validator, document: &Value) {
    let errors: Vec<String> =
        schema.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// May be missing: additions, and the errno names without a call.
fn is_optional(pointer: &str) -> bool {
    ["/notes", "/limits"].contains(&pointer)
        || pointer.ends_with("/run_seconds")
        || pointer.contains("/errors/")
}

#[test]
fn populated_and_empty_documents_are_valid() {
    let report = schema("report.schema.json");
    assert_valid(&report, &json_of(&empty()));
    assert_valid(&report, &json_of(&populated()));
    let bare = Report { loops: vec![LoopRow::default()], instances: vec![InstanceRow::default()], ..empty() };
    assert_valid(&report, &json_of(&bare));
    let schema = schema("check.schema.json");
    assert_valid(&schema, &check_json_of(&check()));
    assert_valid(&schema, &check_json_of(&CheckDocument { schema: SCHEMA, ..CheckDocument::default() }));
}

#[test]
fn a_comparison_is_valid_and_one_that_lacks_a_field_is_not() {
    let schema = schema("compare.schema.json");
    let side = |name: &str, rows: Vec<LoopRow>| Side::new(name.to_owned(), 10.0, rows);
    let slower = LoopRow { utilization: Some(0.9), waits: 1, events: 0, ..populated_loop() };
    let faster = LoopRow { utilization: Some(0.1), busy_seconds: None, ..populated_loop() };
    let other = LoopRow { comm: "other".to_owned(), ..populated_loop() };
    let comparison = compare(&side("a", vec![faster.clone(), faster]), &side("b", vec![slower, other]));
    let mut out = Vec::new();
    report::json::write(&comparison, &mut out).unwrap();
    let document: Value = serde_json::from_slice(&out).unwrap();
    for list in ["changes", "new", "notes"] {
        assert!(!document[list].as_array().unwrap().is_empty(), "{list} in {document}");
    }
    assert_valid(&schema, &document);
    for (pointer, damaged) in damaged(&document, None) {
        assert!(!schema.is_valid(&damaged), "without {pointer}");
    }
}

#[test]
fn a_document_that_lacks_any_field_is_invalid() {
    for (schema, document) in [
        (schema("report.schema.json"), json_of(&populated())),
        (schema("check.schema.json"), check_json_of(&check())),
    ] {
        for (pointer, broken) in damaged(&document, None) {
            assert_eq!(schema.is_valid(&broken), is_optional(&pointer), "without {pointer}");
        }
    }
}

#[test]
fn a_document_with_a_value_of_another_type_is_invalid() {
    for (schema, document) in [
        (schema("report.schema.json"), json_of(&populated())),
        (schema("check.schema.json"), check_json_of(&check())),
    ] {
        for (pointer, broken) in damaged(&document, Some(&json!({"no": "such"}))) {
            assert!(!schema.is_valid(&broken), "an object at {pointer}");
        }
    }
}

#[test]
fn values_out_of_range_are_invalid() {
    let schema = schema("report.schema.json");
    for (pointer, value) in [
        ("/schema", json!(2)),
        ("/started_at", json!("yesterday")),
        ("/loops/0/waits", json!(-1)),
        ("/loops/0/events", json!(1.5)),
        ("/loops/0/utilization", json!(1.01)),
        ("/loops/0/mechanism", json!("kqueue")),
        ("/loops/0/state", json!("idle")),
        ("/loops/0/wait_seconds/p50", json!(null)),
        ("/loops/0/wait_seconds/count", json!(0)),
        ("/loops/0/wait_seconds", json!(null)),
    ] {
        let mut broken = json_of(&populated());
        *broken.pointer_mut(pointer).unwrap() = value;
        assert!(!schema.is_valid(&broken), "{pointer}");
    }
}

#[test]
fn fields_may_be_added_where_the_contract_lets_them() {
    let schema = schema("report.schema.json");
    for pointer in ["", "/probes/0", "/loops/0", "/instances/0", "/instances/0/watched"] {
        let mut more = json_of(&populated());
        more.pointer_mut(pointer).unwrap()["added_later"] = json!(1);
        assert!(schema.is_valid(&more), "{pointer:?}");
    }
    for pointer in ["/lost", "/loops/0/results", "/loops/0/wait_seconds", "/instances/0/ctl/flags"] {
        let mut more = json_of(&populated());
        more.pointer_mut(pointer).unwrap()["added_later"] = json!(1);
        assert!(!schema.is_valid(&more), "{pointer}");
    }
}

#[test]
fn fields_stand_in_the_order_of_the_contract() {
    let document = json_of(&populated());
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(&document),
        "schema host kernel arch version started_at duration_seconds probes lost notes loops instances"
    );
    assert_eq!(
        names(&document["loops"][0]),
        "pid tid comm thread exe cgroup unit container pod mechanism is_loop ended epfd instance waits events \
         results timeouts saturated maxevents wait_seconds busy_seconds events_per_wait backlog requeued \
         overrun_seconds time state state_seconds utilization nfds highest_fd copied_bytes \
         min_complete submissions cq_overflows ns_pid"
    );
    assert_eq!(names(&document["loops"][0]["backlog"]), "count sum truncated p50 p90 p99 max");
    assert_eq!(names(&document["instances"][0]), "instance holders waiters depth watched ctl listeners");
    assert_eq!(names(&document["instances"][0]["ctl"]), "add mod del errors flags");
}

#[test]
fn a_document_reads_back_as_it_was() {
    let report = populated();
    assert_eq!(serde_json::from_str::<Report>(&written(&report, Format::Json)).unwrap(), report);
    assert_eq!(serde_json::from_value::<CheckDocument>(check_json_of(&check())).unwrap(), check());
}

#[test]
fn the_csv_is_the_flattened_json() {
    let mut flat = Vec::new();
    flatten("", &json_of(&populated())["loops"][0], &mut flat);
    let text = written(&populated(), Format::Csv);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let cells: Vec<String> = reader.records().next().unwrap().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, flat.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    assert_eq!(cells, flat.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
    assert_eq!(header, csv::header());
}

#[test]
fn the_csv_header_is_the_same_for_an_empty_window() {
    assert_eq!(written(&empty(), Format::Csv), format!("{}\n", csv::header().join(",")));
}

fn flatten(prefix: &str, value: &Value, flat: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                flatten(&format!("{prefix}{}{name}", if prefix.is_empty() { "" } else { "." }), field, flat);
            }
        }
        Value::String(text) => flat.push((prefix.to_owned(), text.clone())),
        other => flat.push((prefix.to_owned(), other.to_string())),
    }
}
