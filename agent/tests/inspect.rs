//! `loopscope inspect` against workloads that know what they watch and what each entry delivered.
#![cfg(test)]

mod common;

use common::{
    Report, Workload, agent,
    compare::{count, list},
    exporter::Agent,
    folder::Folder,
    require_bpf,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Inspects a process while `work` is done, beside the agent that `running` is.
fn inspected(pid: u64, running: Option<&Running>, work: impl FnOnce()) -> Value {
    let mut command = agent(&["inspect", &pid.to_string(), "--duration", "10m", "--format", "json"]);
    if let Some(running) = running {
        command.args(["--socket", &running.folder.file(SOCKET)]);
    } else if let Some(backend) = std::env::var_os("LOOPSCOPE_TEST_BACKEND") {
        command.arg("--backend").arg(backend);
    }
    let report = Report::run(&mut command);
    work();
    report.stop()
}

/// An agent of whose readings views on the host can have a part.
struct Running {
    agent: Agent,
    folder: Folder,
}

impl Running {
    fn start() -> Running {
        let folder = Folder::new("inspect");
        Running { agent: Agent::start(&["--socket", &folder.file(SOCKET)]), folder }
    }

    fn end(self) {
        assert!(self.agent.end(Signal::TERM).success());
    }
}

/// The agent's socket in its folder.
const SOCKET: &str = "agent.sock";

/// Our number of the instance that a process holds by a descriptor.
fn instance(document: &Value, pid: u64, epfd: &Value) -> Value {
    let holder = json!({ "pid": pid, "fd": epfd });
    let rows = list(&document["instances"]);
    let row = rows.iter().find(|row| list(&row["holders"]).contains(&holder));
    row.unwrap_or_else(|| panic!("no instance {epfd} of {pid}: {rows:?}"))["instance"].clone()
}

/// The rows of an instance's watched descriptors.
fn fds<'a>(document: &'a Value, instance: &Value) -> Vec<&'a Value> {
    list(&document["fds"]).iter().filter(|row| row["instance"] == *instance).collect()
}

/// The row of a descriptor; there is exactly one.
fn fd<'a>(document: &'a Value, instance: &Value, number: &Value) -> &'a Value {
    let rows: Vec<&Value> = fds(document, instance).into_iter().filter(|row| row["fd"] == *number).collect();
    assert_eq!(rows.len(), 1, "{number} of {instance}: {rows:?}");
    rows[0]
}

/// What is known of an instance's events.
fn delivered<'a>(document: &'a Value, instance: &Value) -> &'a Value {
    let rows = list(&document["delivered"]);
    rows.iter().find(|row| row["instance"] == *instance).unwrap_or_else(|| panic!("{instance}: {rows:?}"))
}

fn assert_delivered(row: &Value, how: &str, events: Value) {
    assert_eq!((&row["delivered"], &row["events"]), (&json!(how), &events), "{row}");
}

#[test]
fn each_entry_has_the_events_that_it_delivered_and_none_is_guessed() {
    if require_bpf() {
        assert_entries(None);
    }
}

#[test]
fn beside_an_agent_each_entry_has_the_same_events() {
    if !require_bpf() {
        return;
    }
    let running = Running::start();
    let document = assert_entries(Some(&running));
    let notes = document["notes"].to_string();
    let agent = format!("running agent, process {}", running.agent.pid());
    assert!(notes.contains(&agent) && notes.contains("which saw the 1 processes"), "{notes}");
    running.end();
}

#[test]
fn beside_an_agent_a_child_that_waits_on_the_instance_of_its_parent_counts_too() {
    if !require_bpf() {
        return;
    }
    let running = Running::start();
    let (row, child, [kept, left], _) = inherited(0, Some(&running));
    assert_delivered(&kept, "known", json!(9));
    assert_delivered(&left, "known", json!(2));
    assert_eq!((&left["pid"], &row["waiters"]), (&json!(child), &json!(1)), "{row}");
    running.end();
}

/// Inspects a workload that knows what each entry delivered.
fn assert_entries(running: Option<&Running>) -> Value {
    let mut workload = Workload::start("inspected");
    let (setup, pid) = (workload.said(), u64::from(workload.pid()));
    let mut done = Value::Null;
    let document = inspected(pid, running, || {
        workload.tell();
        done = workload.said();
    });
    let main = instance(&document, pid, &setup["main"]);
    for (level, times) in list(&done["level"]).iter().zip(1..) {
        let row = fd(&document, &main, level);
        assert_delivered(row, "known", json!(times));
        assert_eq!(
            (&row["trigger"], &row["mask"], &row["bond"]),
            (&json!("level"), &json!(["in"]), &json!("live"))
        );
        assert_eq!((&row["kind"], &row["pid"]), (&json!("eventfd"), &json!(pid)), "{row}");
    }
    let edge = fd(&document, &main, &setup["edge"]);
    assert_delivered(edge, "known", json!(3));
    assert_eq!(edge["trigger"], "edge");
    let timer = fd(&document, &main, &setup["timer"]);
    assert_delivered(timer, "known", json!(1));
    assert_eq!(timer["kind"], "timerfd");
    for twin in list(&setup["twins"]) {
        let row = fd(&document, &main, twin);
        assert_delivered(row, "ambiguous", Value::Null);
        assert_eq!(row["mask"], json!(["in", "pri"]));
    }
    assert_delivered(fd(&document, &main, &setup["changer"]), "changed", Value::Null);
    let stale = fds(&document, &main).into_iter().find(|row| row["bond"] == "stale").unwrap();
    assert_eq!(
        (&stale["fd"], &stale["oneshot"], &stale["kind"]),
        (&setup["stale"], &json!(true), &Value::Null)
    );
    assert_delivered(stale, "known", json!(1));
    assert_delivered(fd(&document, &main, &done["newcomer"]), "known", json!(7));
    let sums = delivered(&document, &main);
    assert_eq!(
        (&sums["ambiguous"], &sums["gone"], &sums["unsampled"]),
        (&json!(4), &done["gone"], &json!(0))
    );
    let all: u64 = ["known", "ambiguous", "gone"].iter().map(|name| count(&sums[name])).sum();
    assert_eq!(json!(all), done["sum"], "{sums}");
    let rows = fds(&document, &main).into_iter().filter_map(|row| row["events"].as_u64()).sum::<u64>();
    assert_eq!(json!(rows), sums["known"]);
    assert_crowd(&document, &instance(&document, pid, &setup["crowd"]), count(&done["crowd"]));
    assert_eq!(document["lost"]["missed"], 0);
    workload.finish();
    document
}

/// Of a wait that delivers more than are looked at, the rest is counted and belongs to nobody.
fn assert_crowd(document: &Value, crowd: &Value, events: u64) {
    let sums = delivered(document, crowd);
    assert_eq!((&sums["known"], &sums["unsampled"]), (&json!(64), &json!(events - 64)), "{sums}");
    let rows = fds(document, crowd);
    assert_eq!(rows.len() as u64, events);
    assert_eq!(rows.iter().filter(|row| row["events"] == 1).count(), 64);
    assert_eq!(rows.iter().filter(|row| row["events"] == 0).count() as u64, events - 64);
}

#[test]
fn each_descriptor_is_what_it_is() {
    if !require_bpf() {
        return;
    }
    let workload = Workload::start("inspected-kinds");
    let (setup, pid) = (workload.said(), u64::from(workload.pid()));
    let document = inspected(pid, None, || {});
    let main = instance(&document, pid, &setup["main"]);
    for pair in list(&setup["fds"]) {
        let row = fd(&document, &main, &pair[1]);
        assert_eq!(row["kind"], pair[0], "{row}");
    }
    let listener = fd(&document, &main, &setup["listener"]);
    let socket = &listener["socket"];
    assert_eq!((&listener["kind"], &listener["exclusive"]), (&json!("tcp"), &json!(true)), "{listener}");
    assert_eq!((&socket["local"], &socket["remote"]), (&setup["address"], &Value::Null), "{socket}");
    assert_eq!((&socket["state"], &socket["listening"]), (&json!("listen"), &json!(true)), "{socket}");
    assert_eq!(socket["receive_queue"], 1, "one connection waits: {socket}");
    let stream = fd(&document, &main, &setup["stream"]);
    let socket = &stream["socket"];
    assert_eq!(stream["mask"], json!(["in", "out", "rdhup"]));
    assert_eq!((&socket["local"], &socket["remote"]), (&setup["local"], &setup["address"]), "{socket}");
    assert_eq!(
        (&socket["state"], &socket["receive_queue"]),
        (&json!("established"), &setup["unread"]),
        "{socket}"
    );
    let unix = &fd(&document, &main, &setup["unix"])["socket"];
    assert_eq!((&unix["local"], &unix["state"]), (&setup["path"], &json!("listen")), "{unix}");
    let connected = list(&setup["fds"]).iter().filter(|pair| pair[0] == "unix");
    for pair in connected {
        let socket = &fd(&document, &main, &pair[1])["socket"];
        assert_eq!(
            (&socket["state"], &socket["listening"]),
            (&json!("connected"), &json!(false)),
            "{socket}"
        );
    }
    let inode = |fd: &Value| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        link.to_str().unwrap().strip_prefix("socket:[").unwrap().trim_end_matches(']').to_owned()
    };
    let other = |name: &str| &fd(&document, &main, &setup[name])["socket"]["remote"];
    assert_eq!(other("client"), &setup["path"]);
    assert_eq!(other("served"), &json!(format!("inode {}", inode(&setup["client"]))));
    assert_nests(&document, pid, &setup);
    assert_limits(&document, pid);
    workload.finish();
}

/// Four instances, each of which watches the next.
fn assert_nests(document: &Value, pid: u64, setup: &Value) {
    let mut outer = setup["main"].clone();
    for (nest, depth) in list(&setup["nests"]).iter().zip((0..=3).rev()) {
        let number = instance(document, pid, &outer);
        let rows = list(&document["instances"]);
        assert_eq!(rows.iter().find(|row| row["instance"] == number).unwrap()["depth"], depth);
        let row = fd(document, &number, nest);
        assert_eq!(
            (&row["kind"], &row["nested"]),
            (&json!("epoll"), &instance(document, pid, nest)),
            "{row}"
        );
        outer = nest.clone();
    }
}

/// What the process may open and its user may watch.
fn assert_limits(document: &Value, pid: u64) {
    let process = &document["process"];
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!((&process["open_fds"], &process["ended"]), (&json!(open), &json!(false)), "{process}");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert_eq!(process["max_open_fds"], json!(limit));
    let users = list(&document["users"]);
    let watched = list(&document["instances"]).iter().map(|row| count(&row["watched"]["total"])).sum::<u64>();
    assert_eq!((users.len(), &users[0]["uid"]), (1, &json!(0)));
    assert!(
        count(&users[0]["watches"]) >= watched && count(&users[0]["max_user_watches"]) > watched,
        "{users:?}"
    );
}

/// Inspects the parent of `watching-inherited`: its document, the child, the rows of the two entries, what was delivered.
fn inherited(parent_waits: u8, running: Option<&Running>) -> (Value, u64, [Value; 2], Value) {
    let mut workload = Workload::start(&format!("inspected-inherited {parent_waits}"));
    let (setup, pid) = (workload.said(), u64::from(workload.pid()));
    let mut seen = Value::Null;
    let document = inspected(pid, running, || {
        workload.tell();
        seen = workload.said();
    });
    let (main, child) = (instance(&document, pid, &setup["main"]), count(&setup["child"]));
    assert_eq!(main, instance(&document, child, &setup["main"]), "one instance, two holders");
    let waiter = if parent_waits == 1 { pid } else { child };
    let loops: Vec<&Value> =
        list(&document["loops"]).iter().filter(|row| row["mechanism"] == "epoll").collect();
    assert_eq!((loops.len(), &loops[0]["pid"], &loops[0]["events"]), (1, &json!(waiter), &seen["seen"]));
    let entries = ["kept", "left"].map(|name| fd(&document, &main, &setup[name]).clone());
    let row = list(&document["instances"]).iter().find(|row| row["instance"] == main).unwrap().clone();
    workload.finish();
    (row, child, entries, seen)
}

#[test]
fn an_instance_that_a_child_inherited_shows_who_waits_and_whose_the_entries_are() {
    if !require_bpf() {
        return;
    }
    // The child waits and has both still; the parent has closed one.
    let (row, child, [kept, left], _) = inherited(0, None);
    assert_delivered(&kept, "known", json!(9));
    assert_delivered(&left, "known", json!(2));
    assert_eq!((&kept["bond"], &left["bond"], &left["pid"]), (&json!("live"), &json!("live"), &json!(child)));
    assert_eq!((&row["watched"]["foreign"], &row["waiters"]), (&json!(0), &json!(1)), "{row}");
}

#[test]
fn an_entry_that_only_a_child_has_still_is_foreign_to_the_parent_that_waits() {
    if !require_bpf() {
        return;
    }
    let (row, child, [kept, left], _) = inherited(1, None);
    assert_delivered(&kept, "known", json!(9));
    assert_delivered(&left, "known", json!(0));
    assert_eq!(
        (&kept["bond"], &left["bond"], &left["pid"]),
        (&json!("live"), &json!("foreign"), &json!(child))
    );
    assert_eq!((&row["watched"]["foreign"], &row["watched"]["stale"]), (&json!(1), &json!(0)), "{row}");
}

#[test]
fn threads_in_poll_and_select_show_what_they_wait_for() {
    if !require_bpf() {
        return;
    }
    let mut setup = Value::Null;
    let mut workload = None;
    // It is inspected from before its threads begin to wait: those that waited before are in no row yet.
    let started = Workload::start("--go inspected-calls");
    let pid = u64::from(started.pid());
    let document = inspected(pid, None, || {
        let mut started = started;
        started.tell();
        setup = started.said();
        workload = Some(started);
    });
    let rows = list(&document["calls"]);
    let of = |name: &str| {
        let rows: Vec<&Value> = rows.iter().filter(|row| row["tid"] == setup[name]).collect();
        assert_eq!(rows.len(), 1, "{name}: {rows:?}");
        rows[0]
    };
    let fds = |row: &Value| -> Vec<Value> {
        list(&row["fds"]).iter().map(|fd| json!([fd["fd"], fd["mask"], fd["kind"]])).collect()
    };
    let (event, full) = (&setup["event"], &setup["full"]);
    let (reader, listener) = (&setup["reader"], &setup["listener"]);
    let polled = of("polled");
    assert_eq!((&polled["thread"], &polled["mechanism"]), (&json!("polls"), &json!("poll")), "{polled}");
    assert_eq!((&polled["unseen"], &polled["fds_left_out"]), (&Value::Null, &json!(0)), "{polled}");
    assert_eq!(
        fds(polled),
        [
            json!([listener, ["in", "pri"], "tcp"]),
            json!([event, ["in", "rdhup"], "eventfd"]),
            json!([full, ["out"], "eventfd"]),
            json!([reader, [], "pipe"]),
        ]
    );
    assert_eq!(polled["fds"][0]["socket"]["local"], setup["address"], "{polled}");
    assert_eq!(fds(of("ppolled")), [json!([reader, ["in"], "pipe"])]);
    let selected = of("selected");
    assert_eq!((&selected["mechanism"], &selected["unseen"]), (&json!("select"), &Value::Null), "{selected}");
    let mut expected = [
        json!([event, ["in", "pri"], "eventfd"]),
        json!([full, ["out"], "eventfd"]),
        json!([reader, ["in"], "pipe"]),
        json!([listener, ["pri"], "tcp"]),
    ];
    expected.sort_by_key(|row| count(&row[0]));
    assert_eq!(fds(selected), expected);
    let elsewhere = of("elsewhere");
    assert_eq!(elsewhere["unseen"], "it was not in the call when it was looked at", "{elsewhere}");
    assert_eq!((list(&elsewhere["fds"]).len(), &elsewhere["fds_left_out"]), (0, &json!(0)));
    workload.unwrap().finish();
}

#[test]
fn top_leaves_out_the_rest_and_says_how_many() {
    if !require_bpf() {
        return;
    }
    let workload = Workload::start("inspected-kinds");
    let (_, pid) = (workload.said(), workload.pid().to_string());
    let run = |args: &[&str]| {
        let output = agent(&["inspect", &pid, "--duration", "100ms"]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let document: Value = serde_json::from_str(&run(&["--format", "json", "--top", "3"])).unwrap();
    assert_eq!((list(&document["fds"]).len(), &document["fds_left_out"]), (3, &json!(12)));
    assert!(run(&["--top", "3"]).contains("and 12 watched descriptors with fewer events"));
    assert_eq!(run(&["--format", "csv"]).lines().count(), 1 + 15);
    workload.finish();
}

#[test]
fn a_thread_is_no_process_and_its_process_is_named() {
    let inspect = || agent(&["inspect", &rustix::thread::gettid().as_raw_nonzero().to_string()]).output();
    let output = std::thread::scope(|scope| scope.spawn(inspect).join().unwrap()).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(&format!("a thread of process {}", std::process::id())), "{text}");
}

#[test]
fn what_is_no_process_is_bad_input_in_one_line() {
    for pid in ["0", "4194304", "4194305", "no"] {
        let output = agent(&["inspect", pid]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len(), text.lines().count()),
            (Some(2), 0, 1),
            "{text}"
        );
    }
}

#[test]
fn loops_that_share_a_listener_show_their_parts_of_the_work() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let mut workload = Workload::start("inspected-shared 3");
    let setup = workload.said();
    workload.tell();
    workload.said();
    let document = report.stop();
    for (child, turn) in list(&setup["children"]).iter().zip(1..) {
        let pid = count(child);
        let row =
            list(&document["loops"]).iter().find(|row| row["pid"] == pid && row["mechanism"] == "epoll");
        let instance = &row.unwrap()["instance"];
        let instances = list(&document["instances"]);
        let row = instances.iter().find(|row| row["instance"] == *instance).unwrap();
        let share = f64::from(turn) / 6.0;
        let expected = json!([{
            "listener": setup["address"], "fd": setup["listener"], "exclusive": true, "loops": 3,
            "waits_share": share, "events_share": share,
        }]);
        assert_eq!(row["listeners"], expected, "{row}");
    }
    workload.finish();
}
