//! `loopscope inspect PID`: watches for a while, then prints the epoll instances of a process, and what they watch.
//!
//! The whole host is watched, since others may hold and wait on the same instances; which entries deliver events is
//! counted for this process's instances alone. Where an agent runs, loops and instances are its own; what descriptors are,
//! /proc says, and what each delivered a few probes beside the agent's.

mod own;

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use super::{Failure, Filters, InspectArgs, output, readings, record, report, select::Selection};
use crate::{
    feed::Remote,
    identity::Processes,
    inspect::{
        self, Inspection,
        build::{self, Descriptors, Links},
        document::{FdRow, ProcessRow},
    },
    model::{InstanceWindow, Window, hot::Entries},
    report::{
        Format,
        build::{Aside, Origin, report as document},
    },
    store::Step,
};
use own::Own;

/// How long to watch where nothing else is asked for.
const DURATION: Duration = Duration::from_secs(5);
/// Watched descriptors in a table where nothing else is asked for.
const TOP: u32 = 20;

/// Runs the command.
///
/// # Errors
/// No such process (2); not allowed, refused by the kernel, or the output failed (1).
pub fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.replay {
        return replay(args, path);
    }
    check(args.pid)?;
    let exe = Processes::default().get(args.pid).exe.clone();
    let before = build::process(args.pid, exe);
    if let Some(remote) = readings::of_agent(&args.readings, &args.kernel) {
        return of_agent(args, remote, before);
    }
    let mut own = Own::of_host(&args.kernel, args.pid)?;
    let mut seen = Seen::new(before);
    let hot = own.watch(duration(args), &mut seen.notes)?;
    let missed = own.watch.missed();
    let window = own.watch.window();
    let origin = report::origin(own.watch.probes(), Vec::new());
    // Looking counts up makes the kernel skip runs of probes, but not in the window.
    let aside = Aside { missed, damaged: own.watch.damaged(), interest: None, costs: own.watch.costs() };
    let entries = |instance: &_| own.watch.entries(instance, hot.as_ref());
    let inspection = seen.document(window, entries, (origin, aside), most(args));
    output::write(|out| inspect::write(&inspection, args.format, report::terminal_width(), out))?;
    Ok(ExitCode::SUCCESS)
}

/// What a recording does not have, and an inspection of a live process does.
const NOT_RECORDED: &str = "a recording has no descriptors: what they are, their limits and which of them delivered the \
                            events is not known";

/// The process, from the readings of a running agent, /proc, and probes that count what each descriptor delivers.
fn of_agent(args: &InspectArgs, mut remote: Remote, process: ProcessRow) -> Result<ExitCode, Failure> {
    report::latest(&mut remote)?;
    let mut now = remote.follower.window();
    build::only(&mut now, args.pid);
    // It ends after the output: detaching the probes takes a while.
    let mut own = Own::beside(&args.kernel, args.pid, &now);
    // Again, so that its window begins with theirs.
    report::latest(&mut remote)?;
    remote.begin();
    let mut seen = Seen::new(process);
    let (window, known) = match &mut own {
        Ok((own, processes)) => {
            let hot = own.watch(duration(args), &mut seen.notes)?;
            report::latest(&mut remote)?;
            seen.notes.push(counted(*processes));
            let mut window = remote.follower.window();
            let known = own.join(hot.as_ref(), &mut window);
            (window, known)
        }
        Err(failure) => {
            report::follow(&mut remote, duration(args))?;
            seen.notes.push(format!("which descriptors delivered the events is not counted: {failure}"));
            (remote.follower.window(), HashMap::new())
        }
    };
    let (origin, aside) = readings::aside(&remote);
    seen.started_at = remote.follower.started_at;
    let model = &remote.follower.model;
    let entries = |instance: &InstanceWindow| {
        known.get(&instance.number).cloned().unwrap_or_else(|| model.entries(instance, None))
    };
    let inspection = seen.document(window, entries, (origin, aside), most(args));
    output::write(|out| inspect::write(&inspection, args.format, report::terminal_width(), out))?;
    Ok(ExitCode::SUCCESS)
}

/// How the figures of descriptors came about, beside an agent.
fn counted(processes: usize) -> String {
    format!(
        "which descriptors delivered the events is counted by probes of this command, which saw the {processes} processes \
         that held or waited on the instances when it began; their window and the agent's begin and end within some ms"
    )
}

/// How long to watch.
fn duration(args: &InspectArgs) -> Duration {
    args.duration.unwrap_or(DURATION)
}

/// What a recording has of a process: its loops over the whole time, and the interest sets that were read last.
fn replay(args: &InspectArgs, path: &Path) -> Result<ExitCode, Failure> {
    let mut replay = record::open(path)?;
    let selection = Selection::of_recording(&Filters::default(), &replay.head().filtered)?;
    while replay.step().map_err(|error| record::unreadable(path, &error))? != Step::End {}
    let mut window = replay.window();
    selection.apply(&mut window);
    let watches = build::watches(&window.instances);
    build::only(&mut window, args.pid);
    if window.loops.is_empty() && window.instances.is_empty() {
        let file = path.display();
        return Err(Failure::bad_input(format!(
            "{}: no such process in {file}; `loopscope report --replay {file}` shows which there are",
            args.pid
        )));
    }
    let mut fds: Vec<FdRow> = Vec::new();
    for instance in &window.instances {
        let entries = replay.entries(instance);
        fds.extend(Descriptors::recorded(args.pid).rows(instance, &entries).0);
    }
    fds.sort_by(FdRow::by_events);
    let fds_left_out = cut(&mut fds, most(args));
    let users = build::users(&window.instances, &watches, None);
    let mut origin = replay.origin();
    origin.notes.push(NOT_RECORDED.to_owned());
    let aside = Aside {
        missed: replay.missed(),
        damaged: replay.damaged(),
        interest: replay.no_interest(),
        costs: replay.costs(),
    };
    let process = build::recorded_process(&window, args.pid);
    let report = document(&window, &origin, aside, replay.started_at());
    let inspection =
        Inspection { report, process, users, delivered: Vec::new(), fds, fds_left_out, calls: Vec::new() };
    output::write(|out| inspect::write(&inspection, args.format, report::terminal_width(), out))?;
    Ok(ExitCode::SUCCESS)
}

/// How many rows of descriptors are shown at most.
fn most(args: &InspectArgs) -> usize {
    let top = args.top.or((args.format == Format::Table).then_some(TOP));
    top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX))
}

/// Leaves the first `most` rows; how many more there were.
fn cut(fds: &mut Vec<FdRow>, most: usize) -> u64 {
    let total = fds.len();
    fds.truncate(most);
    (total - fds.len()) as u64
}

/// Whether that is a process.
fn check(pid: u32) -> Result<(), Failure> {
    let status = fs::read(format!("/proc/{pid}/status")).map_err(|_| {
        Failure::bad_input(format!("{pid}: no such process; `loopscope report` shows which there are"))
    })?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Tgid:") {
        Some(process) if process != pid.to_string() => Err(Failure::bad_input(format!(
            "{pid}: a thread of process {process}; try `loopscope inspect {process}`"
        ))),
        _ => Ok(()),
    }
}

/// What was noted before and during the window.
struct Seen {
    process: ProcessRow,
    links: Links,
    notes: Vec<String>,
    started_at: SystemTime,
}

impl Seen {
    /// What there is now, before the window.
    fn new(process: ProcessRow) -> Seen {
        let links = build::links(process.pid);
        Seen { process, links, notes: Vec::new(), started_at: SystemTime::now() }
    }

    /// Puts the document together, with at most `most` watched descriptors.
    fn document(
        self,
        mut window: Window,
        entries: impl Fn(&InstanceWindow) -> Entries,
        (mut origin, aside): (Origin, Aside),
        most: usize,
    ) -> Inspection {
        let pid = self.process.pid;
        let watches = build::watches(&window.instances);
        build::only(&mut window, pid);
        let mut descriptors = Descriptors::new(pid, self.links);
        let (mut fds, mut delivered) = (Vec::new(), Vec::new());
        for instance in &window.instances {
            let (rows, row) = descriptors.rows(instance, &entries(instance));
            fds.extend(rows);
            delivered.extend(row);
        }
        fds.sort_by(FdRow::by_events);
        let fds_left_out = cut(&mut fds, most);
        let calls = descriptors.calls(&window, most);
        origin.notes.extend(self.notes);
        origin.notes.extend(descriptors.lacks());
        let report = document(&window, &origin, aside, self.started_at);
        let now = build::process(pid, self.process.exe.clone());
        let process = ProcessRow { comm: now.comm.clone().or(self.process.comm), ..now };
        let users = build::users(&window.instances, &watches, build::max_user_watches());
        Inspection { report, process, users, delivered, fds, fds_left_out, calls }
    }
}
