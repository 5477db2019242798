//! io_getevents and io_pgetevents: waits by result and time-out, events, and what was asked for, equal to the workload's
//! own.
#![cfg(test)]

mod common;

use common::{
    compare::{assert_brackets, assert_busy, count, list},
    observe, require_bpf,
};
use serde_json::{Value, json};

/// Bytes of a `struct io_event`.
const COMPLETION: u64 = 32;

/// The rows of a process by AIO.
fn rows_of(report: &Value, pid: u32) -> Vec<&Value> {
    list(&report["loops"]).iter().filter(|row| row["pid"] == pid && row["mechanism"] == "aio").collect()
}

#[test]
fn every_way_in_which_a_wait_for_aio_ends_is_counted_as_it_ended() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("aio 10");
    let rows = rows_of(&report, workload.pid());
    let dones = list(&said["rows"]);
    // A row for each context, and one for what is none.
    assert_eq!(rows.len(), dones.len() + 1, "{}", json!(rows));
    for done in dones {
        // Contexts have no numbers of ours: what was done tells them apart.
        let own: Vec<&&Value> = rows.iter().filter(|row| row["results"] == done["results"]).collect();
        assert_eq!(own.len(), 1, "rows for {done}: {}", json!(rows));
        let row = own[0];
        for key in
            ["waits", "events", "results", "timeouts", "saturated", "maxevents", "min_complete", "epfd"]
        {
            assert_eq!(row[key], done[key], "{key} of {row}\nagainst {done}");
        }
        assert_busy(row, done);
        assert_eq!(
            row["copied_bytes"],
            json!({ "in": 0, "out": COMPLETION * count(&done["events"]) }),
            "{row}"
        );
        for key in ["instance", "backlog", "nfds", "highest_fd", "submissions", "cq_overflows"] {
            assert!(row[key].is_null(), "{key} of {row}");
        }
        assert_eq!(row["wait_seconds"]["count"], done["waits"], "{row}");
        assert_brackets(row, done);
    }
    let none: Vec<&&Value> = rows.iter().filter(|row| row["results"]["error"] == 10).collect();
    assert_eq!((none.len(), &none[0]["waits"]), (1, &said["none"]["waits"]), "{}", json!(rows));
    workload.finish();
}
