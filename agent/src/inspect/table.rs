//! An inspection for people. Only layout; every text that others chose goes through the grid or the page, which make it
//! safe for a terminal.

use std::io::{self, Write};

use super::document::{Bond, CallFdRow, CallRow, Delivery, FdRow, Inspection, SocketRow, Trigger};
use crate::report::{
    document::{InstanceRow, ListenerRow, Mechanism},
    grid::{Align, Grid, Head},
    table::{Page, footer, holders, loops, plural, summary},
    units,
};

/// What stands for a figure that a row does not have.
const NONE: &str = "-";
/// What stands for a figure that cannot be told apart from that of others.
const UNCERTAIN: &str = "?";

const fn left(header: &'static str, rank: u8) -> Head {
    Head { header, align: Align::Left, rank }
}

const fn right(header: &'static str, rank: u8) -> Head {
    Head { header, align: Align::Right, rank }
}

/// Writes an inspection; `width` is the terminal's in columns, None for none.
pub fn write(inspection: &Inspection, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { width, out };
    summary(&inspection.report, &mut page)?;
    process(inspection, &mut page)?;
    page.blank()?;
    loops(&inspection.report, &mut page)?;
    instances(inspection, &mut page)?;
    descriptors(inspection, &mut page)?;
    calls(inspection, &mut page)?;
    footer(&inspection.report, &mut page)
}

/// The process and its limits.
fn process(inspection: &Inspection, page: &mut Page) -> io::Result<()> {
    let process = &inspection.process;
    let name = process.comm.as_deref().unwrap_or(NONE);
    let mut text = format!("{name}, process {}", process.pid);
    match (process.ended, process.open_fds, process.max_open_fds) {
        (true, ..) => text.push_str(": ended within the window"),
        (_, Some(open), Some(most)) => text = format!("{text}: {open} of {most} descriptors open"),
        (_, Some(open), None) => text = format!("{text}: {}, no limit", plural(open as usize, "descriptor")),
        _ => {}
    }
    for user in &inspection.users {
        let most = user.max_user_watches.map_or(NONE.to_owned(), |most| most.to_string());
        text = format!("{text}; user {} has {} of {most} epoll watches", user.uid, user.watches);
    }
    page.say(&text)
}

const INSTANCE_HEADS: [Head; 12] = [
    right("INSTANCE", 0),
    left("HELD BY pid:fd", 1),
    right("WAITERS", 3),
    right("DEPTH", 6),
    right("WATCHED", 0),
    right("EDGE", 4),
    right("ONESHOT", 7),
    right("EXCL", 7),
    right("STALE", 2),
    right("FOREIGN", 2),
    right("KNOWN EV", 5),
    right("OTHER EV", 5),
];

fn instances(inspection: &Inspection, page: &mut Page) -> io::Result<()> {
    if inspection.report.instances.is_empty() {
        page.blank()?;
        return page.say("The process holds no epoll instance.");
    }
    page.blank()?;
    let mut grid = Grid::new(INSTANCE_HEADS);
    for row in &inspection.report.instances {
        grid.push(instance(inspection, row));
    }
    page.grid(&grid)?;
    for row in &inspection.report.instances {
        for listener in row.listeners.iter().flatten() {
            page.say(&shared(row, listener))?;
        }
    }
    Ok(())
}

/// What an instance has of the work of a listener that others watch too.
fn shared(row: &InstanceRow, listener: &ListenerRow) -> String {
    let part = |share: Option<f64>| share.map_or(NONE.to_owned(), units::percent);
    format!(
        "Instance {} shares listener {} with {}{}: {} of all waits, {} of all events.",
        row.instance,
        listener.listener,
        plural(usize::try_from(listener.loops.saturating_sub(1)).unwrap_or(usize::MAX), "other"),
        if listener.exclusive { ", exclusively woken" } else { "" },
        part(listener.waits_share),
        part(listener.events_share),
    )
}

fn instance(inspection: &Inspection, row: &InstanceRow) -> [String; 12] {
    let delivered = inspection.delivered.iter().find(|delivered| delivered.instance == row.instance);
    let watched = row.watched.as_ref();
    let of = |count: Option<u64>| count.map_or(NONE.to_owned(), |count| count.to_string());
    let total = |total: u64, approximate| format!("{}{total}", if approximate { "~" } else { "" });
    let count = |count: Option<u64>| count.map_or(NONE.to_owned(), units::count);
    [
        row.instance.to_string(),
        holders(row),
        row.waiters.to_string(),
        of(row.depth.map(u64::from)),
        watched.map_or(NONE.to_owned(), |watched| total(watched.total, watched.approximate)),
        of(watched.map(|watched| watched.edge)),
        of(watched.map(|watched| watched.oneshot)),
        of(watched.map(|watched| watched.exclusive)),
        of(watched.map(|watched| watched.stale)),
        of(watched.map(|watched| watched.foreign)),
        count(delivered.map(|delivered| delivered.known)),
        count(delivered.map(|delivered| delivered.ambiguous + delivered.gone + delivered.unsampled)),
    ]
}

const FD_HEADS: [Head; 9] = [
    right("INSTANCE", 4),
    right("FD", 0),
    right("EVENTS", 0),
    left("KIND", 1),
    left("WHAT", 0),
    left("STATE", 2),
    left("QUEUES", 5),
    left("WAITS FOR", 3),
    left("NOTE", 1),
];

fn descriptors(inspection: &Inspection, page: &mut Page) -> io::Result<()> {
    if inspection.fds.is_empty() {
        return Ok(());
    }
    page.blank()?;
    let mut grid = Grid::new(FD_HEADS);
    for row in &inspection.fds {
        grid.push([
            row.instance.to_string(),
            row.fd.to_string(),
            events(row),
            row.kind.clone().unwrap_or_else(|| NONE.to_owned()),
            what(row),
            row.socket.as_ref().and_then(|socket| socket.state.clone()).unwrap_or_default(),
            row.socket.as_ref().map(queues).unwrap_or_default(),
            waits_for(row),
            note(row),
        ]);
    }
    page.grid(&grid)?;
    match inspection.fds_left_out {
        0 => Ok(()),
        more => page.say(&format!(
            "and {} with fewer events; --top N or --format csv shows them.",
            plural(usize::try_from(more).unwrap_or(usize::MAX), "watched descriptor")
        )),
    }
}

const CALL_HEADS: [Head; 6] = [
    right("FD", 0),
    left("KIND", 1),
    left("WHAT", 0),
    left("STATE", 2),
    left("QUEUES", 5),
    left("WAITS FOR", 3),
];

/// What threads wait for by poll and select.
fn calls(inspection: &Inspection, page: &mut Page) -> io::Result<()> {
    for row in &inspection.calls {
        page.blank()?;
        page.say(&call(row))?;
        if row.fds.is_empty() {
            continue;
        }
        let mut grid = Grid::new(CALL_HEADS);
        for fd in &row.fds {
            grid.push(call_fd(fd));
        }
        page.grid(&grid)?;
        if row.fds_left_out > 0 {
            let more = usize::try_from(row.fds_left_out).unwrap_or(usize::MAX);
            page.say(&format!("and {}; --top N shows more.", plural(more, "descriptor")))?;
        }
    }
    Ok(())
}

/// A thread, and whether its call was seen.
fn call(row: &CallRow) -> String {
    let mechanism = if row.mechanism == Mechanism::Select { "select" } else { "poll" };
    match &row.unseen {
        None => format!("Thread {} ({}) was in {mechanism}, waiting for:", row.tid, row.thread),
        Some(why) => {
            format!("What thread {} ({}) waits for by {mechanism} was not seen: {why}.", row.tid, row.thread)
        }
    }
}

fn call_fd(row: &CallFdRow) -> [String; 6] {
    let socket = row.socket.as_ref();
    [
        row.fd.to_string(),
        row.kind.clone().unwrap_or_else(|| NONE.to_owned()),
        socket.map_or_else(|| row.path.clone().unwrap_or_default(), ends),
        socket.and_then(|socket| socket.state.clone()).unwrap_or_default(),
        socket.map(queues).unwrap_or_default(),
        row.mask.join(","),
    ]
}

fn events(row: &FdRow) -> String {
    match (row.delivered, row.events) {
        (_, Some(events)) => units::count(events),
        (Delivery::Unknown, None) => NONE.to_owned(),
        (_, None) => UNCERTAIN.to_owned(),
    }
}

/// Where it leads.
fn what(row: &FdRow) -> String {
    if let Some(instance) = row.nested {
        return format!("instance {instance}");
    }
    row.socket.as_ref().map_or_else(|| row.path.clone().unwrap_or_default(), ends)
}

/// The two ends of a socket.
fn ends(socket: &SocketRow) -> String {
    match (&socket.local, &socket.remote) {
        (Some(local), Some(remote)) => format!("{local} -> {remote}"),
        (Some(local), None) => local.clone(),
        (None, Some(remote)) => format!("-> {remote}"),
        (None, None) => String::new(),
    }
}

/// What is not empty.
fn queues(socket: &SocketRow) -> String {
    let waiting = if socket.listening { "to accept" } else { "unread" };
    let queues = [(socket.receive_queue, waiting), (socket.send_queue, "unsent")];
    let filled = queues.into_iter().filter_map(|(size, name)| size.filter(|size| *size > 0).zip(Some(name)));
    filled.map(|(size, name)| format!("{} {name}", units::count(size))).collect::<Vec<_>>().join(", ")
}

fn waits_for(row: &FdRow) -> String {
    let mut words = row.mask.clone();
    let flags =
        [(row.trigger == Trigger::Edge, "edge"), (row.oneshot, "oneshot"), (row.exclusive, "exclusive")];
    words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned()));
    words.join(",")
}

fn note(row: &FdRow) -> String {
    let bond = match (row.bond, row.pid) {
        (Bond::Live, _) => None,
        (Bond::Stale, _) => Some("stale".to_owned()),
        (Bond::Foreign, Some(pid)) => Some(format!("foreign: of process {pid}")),
        (Bond::Foreign, None) => Some("foreign".to_owned()),
    };
    let events = match row.delivered {
        Delivery::Ambiguous => Some("user data of several".to_owned()),
        Delivery::Changed => Some("changed in the window".to_owned()),
        Delivery::Known | Delivery::Unknown => None,
    };
    bond.into_iter().chain(events).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(inspection: &Inspection) -> String {
        let mut out = Vec::new();
        write(inspection, None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_says_what_a_descriptor_is_and_what_is_not_certain() {
        let socket = SocketRow {
            local: Some("127.0.0.1:80".to_owned()),
            state: Some("listen".to_owned()),
            listening: true,
            receive_queue: Some(3),
            ..SocketRow::default()
        };
        let listener = FdRow {
            fd: 6,
            events: Some(9),
            delivered: Delivery::Known,
            mask: vec!["in".to_owned()],
            exclusive: true,
            kind: Some("tcp".to_owned()),
            socket: Some(socket),
            ..FdRow::default()
        };
        let stale = FdRow { fd: 7, delivered: Delivery::Ambiguous, bond: Bond::Stale, ..FdRow::default() };
        let inspection =
            Inspection { fds: vec![listener, stale], fds_left_out: 14_998, ..Inspection::default() };
        let text = text(&inspection);
        for expected in [
            "6  9       tcp   127.0.0.1:80  listen  3 to accept  in,exclusive",
            "?       -",
            "stale, user data of several",
            "and 14998 watched descriptors with fewer events;",
        ] {
            let expected: Vec<&str> = expected.split_whitespace().collect();
            let words: Vec<&str> = text.split_whitespace().collect();
            assert!(words.windows(expected.len()).any(|words| words == expected), "{expected:?} in\n{text}");
        }
    }

    #[test]
    fn what_a_call_waits_for_is_shown_or_why_it_is_not() {
        let fd = CallFdRow {
            fd: 9,
            mask: vec!["in".to_owned(), "pri".to_owned()],
            kind: Some("pipe".to_owned()),
            ..CallFdRow::default()
        };
        let seen = CallRow {
            tid: 70,
            thread: "a\u{1b}".to_owned(),
            mechanism: Mechanism::Select,
            fds: vec![fd],
            fds_left_out: 2,
            unseen: None,
        };
        let unseen = CallRow { fds: Vec::new(), unseen: Some("it ended".to_owned()), ..seen.clone() };
        let text = text(&Inspection { calls: vec![seen, unseen], ..Inspection::default() });
        for expected in [
            "Thread 70 (a?) was in select, waiting for:",
            "and 2 descriptors; --top N shows more.",
            "What thread 70 (a?) waits for by select was not seen: it ended.",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
        assert!(
            text.split_whitespace()
                .collect::<Vec<_>>()
                .windows(3)
                .any(|words| words == ["9", "pipe", "in,pri"])
        );
    }

    #[test]
    fn names_cannot_act_on_the_terminal() {
        let row = FdRow { path: Some("/tmp/\u{1b}[31m\n".to_owned()), ..FdRow::default() };
        let mut inspection = Inspection { fds: vec![row], ..Inspection::default() };
        inspection.process.comm = Some("a\u{1b}b".to_owned());
        let text = text(&inspection);
        assert!(!text.contains('\u{1b}') && text.contains("/tmp/?[31m?"), "{text}");
    }
}
