//! The JSON of `inspect` against docs/schema, with every field present and with none, and the CSV against the JSON.
#![cfg(test)]

#[path = "common/schema.rs"]
mod published;

use loopscope::{
    inspect::{
        self, Inspection,
        document::{CallFdRow, CallRow, DeliveredRow, Delivery, FdRow, ProcessRow, UserRow},
    },
    report::{
        Format, Report,
        document::{Mechanism, SCHEMA},
    },
};
use published::schema;
use serde_json::Value;

fn written(inspection: &Inspection, format: Format) -> String {
    let mut out = Vec::new();
    inspect::write(inspection, format, None, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn json(inspection: &Inspection) -> Value {
    serde_json::from_str(&written(inspection, Format::Json)).unwrap()
}

/// Whatever can be null is.
fn least() -> Inspection {
    let report =
        Report { schema: SCHEMA, started_at: "2026-03-01T12:00:00.1Z".to_owned(), ..Report::default() };
    Inspection { report, fds: vec![FdRow::default()], ..Inspection::default() }
}

/// Everything that can be present is.
fn most() -> Inspection {
    Inspection {
        process: ProcessRow {
            pid: 7,
            comm: Some("a\u{1b},\"b\"".to_owned()),
            exe: Some("/usr/bin/a".to_owned()),
            ended: true,
            open_fds: Some(3),
            max_open_fds: Some(1024),
        },
        users: vec![UserRow { uid: 0, watches: 9, max_user_watches: Some(100) }],
        delivered: vec![DeliveredRow { instance: 1, known: 5, ..DeliveredRow::default() }],
        fds: vec![FdRow { delivered: Delivery::Known, mask: vec!["in".to_owned()], ..FdRow::full() }],
        fds_left_out: 4,
        calls: vec![
            CallRow { mechanism: Mechanism::Select, fds: vec![CallFdRow::default()], ..CallRow::default() },
            CallRow { mechanism: Mechanism::Poll, unseen: Some("it ended".to_owned()), ..CallRow::default() },
        ],
        ..least()
    }
}

#[test]
fn both_schemas_hold_for_the_document() {
    for inspection in [least(), most()] {
        for name in ["inspect.schema.json", "report.schema.json"] {
            let document = json(&inspection);
            let faults: Vec<String> = schema(name).iter_errors(&document).map(|e| e.to_string()).collect();
            assert_eq!(faults, Vec::<String>::new(), "{name}: {document}");
        }
    }
}

#[test]
fn a_document_that_lacks_a_field_or_guesses_is_invalid() {
    let (schema, whole) = (schema("inspect.schema.json"), json(&most()));
    for name in
        ["process", "users", "delivered", "fds", "fds_left_out", "calls", "loops", "instances", "notes"]
    {
        let mut document = whole.clone();
        document.as_object_mut().unwrap().remove(name);
        assert!(!schema.is_valid(&document), "without {name}");
    }
    let fields: Vec<String> = whole["fds"][0].as_object().unwrap().keys().cloned().collect();
    for name in fields {
        let mut document = whole.clone();
        document["fds"][0].as_object_mut().unwrap().remove(&name);
        assert!(!schema.is_valid(&document), "without {name} of a descriptor");
    }
    for (call, name) in [(0, "unseen"), (0, "fds_left_out"), (1, "tid"), (1, "mechanism")] {
        let mut document = whole.clone();
        document["calls"][call].as_object_mut().unwrap().remove(name);
        assert!(!schema.is_valid(&document), "without {name} of a call");
    }
    let mut document = whole.clone();
    document["calls"][0]["unseen"] = "it ended".into();
    assert!(!schema.is_valid(&document), "a call that was not seen, with descriptors");
    for delivered in ["ambiguous", "changed", "unknown", "other"] {
        let mut document = whole.clone();
        document["fds"][0]["delivered"] = delivered.into();
        assert!(!schema.is_valid(&document), "events that are {delivered}");
    }
}

#[test]
fn the_csv_has_the_names_of_the_json_and_a_row_for_each_descriptor() {
    let text = written(&most(), Format::Csv);
    assert_eq!(
        text,
        "instance,fd,pid,events,delivered,mask,trigger,oneshot,exclusive,bond,kind,path,nested,socket.local,\
         socket.remote,socket.state,socket.listening,socket.receive_queue,socket.send_queue\n\
         0,0,0,0,known,\"[\"\"in\"\"]\",level,false,false,live,,,0,,,,false,0,0\n"
    );
}

#[test]
fn a_document_reads_back_as_it_was() {
    let read: Inspection = serde_json::from_value(json(&most())).unwrap();
    assert_eq!(read, most());
}
